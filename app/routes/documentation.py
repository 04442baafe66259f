"""`/docs`: the API as one page of HTML, made from its OpenAPI document.

FastAPI's own page loads its script from another host. This one needs no network and passes the
strict Content-Security-Policy of the service. It is whole without its script, `static/docs.js`,
which searches, tries requests and writes this server's address into the examples.
"""

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from app import media_types

router = APIRouter(include_in_schema=False)

# What scrolls can be reached by the keyboard.
_PRE = '<pre tabindex="0">'
# As the examples are written; the script puts the real one in its place.
_ADDRESS = "127.0.0.1:8000"

_METHODS = ("get", "post", "put", "patch", "delete")
_FENCE = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")


@router.api_route("/docs", methods=["GET", "HEAD"])
async def documentation(request: Request) -> HTMLResponse:
    """Every endpoint with its parameters, bodies, answers and examples."""
    return HTMLResponse(render(request.app.openapi()))


def render(document: Mapping[str, Any]) -> str:
    """An OpenAPI document as HTML."""
    operations = [
        (method, path, item[method])
        for path, item in document["paths"].items()
        for method in _METHODS
        if method in item
    ]
    contents = "".join(
        f'<li><a href="#{_anchor(method, path)}"><code>{method.upper()} {escape(path)}</code></a> '
        f"{escape(operation.get('summary', ''))}</li>"
        for method, path, operation in operations
    )
    sections = "".join(_operation(document, *operation) for operation in operations)
    schemas = document.get("components", {}).get("schemas", {})
    shapes = "".join(_schema(name, schema) for name, schema in sorted(schemas.items()))
    info = document["info"]
    title = escape(info["title"])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title} API</title>"
        '<link rel="icon" href="/static/favicon.svg" type="image/svg+xml">'
        '<link rel="stylesheet" href="/static/page.css">'
        '<link rel="stylesheet" href="/static/docs.css">'
        '<script type="module" src="/static/docs.js"></script></head>'
        '<body><nav aria-label="Endpoints"><div id="search"></div>'
        f'<ul>{contents}<li><a href="#schemas">Schemas</a></li></ul></nav>'
        f"<main><h1>{title} {escape(info['version'])}</h1>"
        f"{_prose(info.get('description', ''))}"
        '<p><a href="/">The page</a> · <a href="/openapi.json">OpenAPI document</a></p>'
        f'{sections}<h2 id="schemas">Schemas</h2>{shapes}</main></body></html>'
    )


def _operation(
    document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]
) -> str:
    parts = [
        f'<details class="operation" id="{_anchor(method, path)}" '
        f'data-method="{method.upper()}" data-path="{escape(path)}">',
        f"<summary><h2><code>{method.upper()} {escape(path)}</code></h2>"
        f"<span>{escape(operation.get('summary', ''))}</span></summary>",
        _prose(operation.get("description", "")),
        '<div class="try"></div>',
    ]
    parameters = operation.get("parameters", [])
    if parameters:
        rows = (
            (
                f"<code>{escape(each['name'])}</code> ({escape(each['in'])})",
                _type_of(each.get("schema", {})),
                _prose(each.get("description") or each.get("schema", {}).get("description", "")),
            )
            for each in parameters
        )
        parts.append("<h3>Parameters</h3>" + _table(("Name", "Type", "Meaning"), rows))
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        parts += ["<h3>Request body</h3>", *(_content(path, *each) for each in body.items())]
    parts.append("<h3>Answers</h3>")
    for status, answer in operation.get("responses", {}).items():
        answer = _resolve(document, answer)
        opened = " open" if status.startswith("2") else ""
        parts.append(
            f'<details class="answer"{opened}><summary><h4>{escape(status)}</h4> '
            f"{escape(answer.get('description', ''))}</summary>"
        )
        parts += [_content(path, *each) for each in answer.get("content", {}).items()]
        parts.append("</details>")
    return "".join(parts) + "</details>"


def _content(path: str, media_type: str, content: Mapping[str, Any]) -> str:
    schema = content.get("schema", {})
    shown = (
        f'<div class="content" data-type="{escape(media_type)}">'
        f"<p><code>{escape(media_type)}</code> {_type_of(schema)}</p>"
    )
    if media_type == media_types.FORM:
        line = f"curl -sS --fail-with-body -F file=@genes.fa -F format=json {_ADDRESS}{path}"
        shown += f"<p>A file, and options beside it as fields:</p>{_PRE}{escape(line)}</pre>"
    examples = [
        (each.get("summary", ""), each["value"])
        for each in content.get("examples", {}).values()
        if "value" in each
    ]
    if "example" in content:
        examples.append(("", content["example"]))
    for summary, value in examples:
        text = value if isinstance(value, str) else json.dumps(value, indent=2)
        caption = f"<p>{escape(summary)}</p>" if summary else ""
        shown += f"{caption}{_PRE}{escape(text)}</pre>"
    return shown + "</div>"


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", [])
    rows = (
        (
            f"<code>{escape(field)}</code>" + (" *" if field in required else ""),
            _type_of(each),
            _prose(each.get("description", "")),
        )
        for field, each in schema.get("properties", {}).items()
    )
    return (
        f'<details class="schema" id="schema-{escape(name)}">'
        f"<summary><h3>{escape(name)}</h3></summary>"
        f"{_prose(schema.get('description', ''))}{_table(('Field', 'Type', 'Meaning'), rows)}"
        "</details>"
    )


def _type_of(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(filter(None, map(_type_of, schema[key])))
    if "enum" in schema:
        shown = " | ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    elif "const" in schema:
        shown = f"<code>{escape(json.dumps(schema['const']))}</code>"
    elif schema.get("type") == "array":
        shown = f"array of {_type_of(schema.get('items', {})) or 'anything'}"
    else:
        kind = schema.get("type", "")
        shown = escape(kind if isinstance(kind, str) else " or ".join(kind))
    if schema.get("default") is not None:
        shown += f" = <code>{escape(json.dumps(schema['default']))}</code>"
    return shown


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f'<th scope="col">{each}</th>' for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _prose(text: str) -> str:
    """Paragraphs, `code` and fenced blocks; the rest of Markdown stays as it is written."""
    shown = []
    for position, part in enumerate(_FENCE.split(text)):
        if position % 2:
            shown.append(f"{_PRE}{escape(part.rstrip())}</pre>")
            continue
        for paragraph in re.split(r"\n\s*\n", part):
            if paragraph.strip():
                line = _CODE.sub(r"<code>\1</code>", escape(paragraph.strip(), quote=False))
                shown.append(f"<p>{line}</p>")
    return "".join(shown)


def _resolve(document: Mapping[str, Any], value: Mapping[str, Any]) -> Mapping[str, Any]:
    for step in value.get("$ref", "").split("/")[1:]:
        document = document[step]
    return document if "$ref" in value else value


def _anchor(method: str, path: str) -> str:
    return escape(method + path.replace("/", "-").replace("{", "").replace("}", ""))
