"""The tables of the code that stand in docs/: written again from the code.

    python -m tools.tables

Each stands between `<!-- table: NAME -->` and `<!-- /table -->`; what is around them is written by
hand, and stays.
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le

from app.cli import SETTING_OPTIONS
from app.errors import with_hint
from app.problems import PROBLEMS
from app.settings import Settings
from converter.errors import UnsupportedModelError
from converter.fidelity import gates
from converter.fidelity.gates import Gate
from converter.network.config import read_encoder_config
from converter.network.structure import EncoderConfig
from tools.published_checkpoints import CONVERTED, REFUSED, Published

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

DOCS = Path(__file__).resolve().parents[1] / "docs"
_MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)
_KINDS = {bool: "`true`, `false`", tuple: "names, commas between them", Path: "a path"}


def settings_table() -> str:
    """Every setting, in the order of its class."""
    rows = (
        (
            f"`GENA_{name.upper()}`",
            f"`--{name.replace('_', '-')}`" if name in SETTING_OPTIONS else "",
            _values(field),
            _default(name, field.default),
            _prose(field.description or ""),
        )
        for name, field in Settings.model_fields.items()
    )
    return _table(("name", "option", "takes", "default", "meaning"), rows)


def errors_table() -> str:
    """Every problem, by status and then as the code has them."""
    rows = (
        (
            str(kind.status),
            f"`{code}`",
            _prose(kind.title),
            _prose(with_hint(kind.example, kind)),
            ", ".join(f"`{member}`" for member in kind.members),
        )
        for code, kind in sorted(PROBLEMS.items(), key=lambda item: item[1].status)
    )
    return _table(("status", "code", "title", "detail, as an example", "members"), rows)


def gates_table() -> str:
    """Every gate that has the same numbers for all packages."""
    rows = ((gate.name, f">= {gate.expected:g}", *_below(gate)) for gate in _gates())
    return _table(("gate", "expected", "published with a flag", "refused"), rows)


def converted_table() -> str:
    """The published checkpoints that are converted, as their configurations are read."""
    rows = []
    for each in CONVERTED:
        config = read_encoder_config(each.config)
        size = f"{config.num_hidden_layers}, {config.hidden_size}"
        norms = _norms(config) if each.is_certain else "as `config.json` says"
        rows.append((f"`{each.name}`", size, str(config.window), norms, each.tokenizer))
    return _table(("hub id", "layers, H", "window", "norms", "tokenizer"), rows)


def refused_table() -> str:
    """The published checkpoints that are not, and what is said."""
    return _table(("hub id", "said"), ((f"`{each.name}`", _refusal(each)) for each in REFUSED))


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "errors": errors_table,
    "gates": gates_table,
    "converted": converted_table,
    "refused": refused_table,
}


def rewritten(text: str) -> str:
    """A page with its tables as the code has them.

    Raises:
        KeyError: it asks for a table that there is not.
    """
    return _MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}", text)


def main() -> int:
    """Write the pages that say something else, and name them."""
    for page in sorted(DOCS.glob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = rewritten(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"written: {page.relative_to(DOCS.parent)}")
    return 0


def _norms(config: EncoderConfig) -> str:
    """Where they stand, in words."""
    first = config.layer(0)
    place = f"{first.norms} each part"
    if not first.attention_norm:
        place += " but the first"
    return f"{place}, {'and one' if config.has_last_norm else 'none'} at the end"


def _refusal(checkpoint: Published) -> str:
    try:
        read_encoder_config(checkpoint.config)
    except UnsupportedModelError as error:
        return _prose(str(error))
    raise AssertionError(f"{checkpoint.name} is not refused.")


def _gates() -> list[Gate]:
    return [each for each in vars(gates).values() if isinstance(each, Gate)]


def _below(gate: Gate) -> tuple[str, str]:
    """What is flagged, and what is refused."""
    refused = f"< {gate.floor:g}"
    if gate.floor == gate.expected:
        return "", refused
    flagged = f"{gate.floor:g} to {gate.expected:g}"
    if gate.cosine == -1:
        return flagged, refused
    return (
        f"{flagged}, and each token's cosine >= {gate.cosine:g}",
        f"{refused}, or {flagged} with a lower cosine",
    )


def _values(field: "FieldInfo") -> str:
    """What a setting takes: its choices, its bounds, or of what kind it is."""
    annotation = field.annotation
    alternatives = [k for k in get_args(annotation) or (annotation,) if k is not NoneType]
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in alternatives)
    bounds = [
        *(f"from {rule.ge}" for rule in field.metadata if isinstance(rule, Ge)),
        *(f"above {rule.gt}" for rule in field.metadata if isinstance(rule, Gt)),
        *(f"to {rule.le}" for rule in field.metadata if isinstance(rule, Le)),
    ]
    kind = tuple if get_origin(annotation) is tuple else alternatives[0]
    return " ".join(bounds) or _KINDS.get(kind, "text")


def _default(name: str, value: object) -> str:
    """As it is written into the environment; bytes also as people say them. Empty: none."""
    if value in (None, ()):
        return ""
    written = f"`{str(value).lower() if isinstance(value, bool) else value}`"
    if not name.endswith("_bytes") or not isinstance(value, int):
        return written
    size, unit = (value // 2**20, "MiB") if value >= 2**20 else (value // 2**10, "KiB")
    return f"{written} ({size} {unit})"


def _prose(text: str) -> str:
    """Plain text as Markdown that shows it as it is."""
    return re.sub(r"[\\*<`]", r"\\\g<0>", text)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lines of a table of Markdown; each ends with a line break."""
    lines = [header, ["---"] * len(header), *rows]
    cells = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


if __name__ == "__main__":
    sys.exit(main())
