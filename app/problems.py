"""Every problem that a client can meet: one flat table.

`PROBLEMS` is the only place where a code gets its status, its title and its hint. The OpenAPI
document, /docs and docs/errors.md are made from it. The exception that is raised by a code is
`app.errors.ProblemError`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.headers import API_KEY, AUTHORIZATION


@dataclass(frozen=True)
class ProblemKind:
    """What all occurrences of one code have in common.

    Attributes:
        status: of HTTP.
        title: the kind of problem, as a phrase.
        example: a detail as it occurs, without the hint; empty where the hint says all.
        hint: what to do about it, where that is the same every time; it ends every detail.
        members: further members of the example, such as record, position, limit.
        headers: of every such answer.
        of_data: whether the routes that answer data can give it, so that they document it.
    """

    status: int
    title: str
    example: str = ""
    hint: str = ""
    members: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    of_data: bool = True


def _too_much(do: str, setting: str, more: str = "") -> str:
    """What to do at a limit; `gena embed` has no server's limits."""
    return f"{do}, or raise {setting}. Or compute without a server: gena embed FILE -o FOLDER{more}"


def in_parts(n_records: int) -> str:
    """How to. Without double quotes: an error is read as JSON, where they have backslashes."""
    return (
        "Send parts: awk -v part=part -v end=.fa '/^>/ {n++} "
        f"{{print > (part int((n - 1) / {n_records}) end)}}' genes.fa."
    )


_IN_PARTS = "Send the records in several requests"
PROBLEMS: dict[str, ProblemKind] = {
    "json.invalid": ProblemKind(
        400, "The body is not JSON", "Invalid JSON: expected value at line 1 column 2."
    ),
    "fasta.invalid": ProblemKind(
        400,
        "The FASTA file cannot be read",
        "Line 1: there is no other. curl's -d removes line breaks: use --data-binary @genes.fa.",
        members={"line": 1},
    ),
    "fastq.invalid": ProblemKind(
        400,
        "The FASTQ file cannot be read",
        "Line 4: length of sequence and qualities differ.",
        members={"line": 4},
    ),
    "flatfile.invalid": ProblemKind(
        400,
        "The GenBank or EMBL file cannot be read",
        "Line 120: it ends in the middle of a record.",
        members={"line": 120},
    ),
    "gzip.invalid": ProblemKind(400, "The gzip body cannot be read", "It ends too early."),
    "form.invalid": ProblemKind(
        400, "The form cannot be read", "It has no file. With curl: -F file=@genes.fa"
    ),
    "request.cut_short": ProblemKind(
        400,
        "The request was cut short",
        "Its body ended after 3 of the 10 bytes that its Content-Length announces.",
        hint="Nothing was computed. Send all of it again.",
        members={"count": 3},
    ),
    "request.malformed": ProblemKind(
        400,
        "This is not an HTTP request",
        hint="What was sent is no request of HTTP/1.1. Look at its first line, at its headers, of "
        "which Host must be there, and at the lengths that it gives.",
        of_data=False,
    ),
    "auth.invalid": ProblemKind(
        401,
        "An API key is needed",
        hint=f"The key is missing or wrong. Send it as '{AUTHORIZATION}: Bearer KEY' or "
        f"'{API_KEY}: KEY'.",
        headers={"WWW-Authenticate": "Bearer"},
    ),
    "origin.refused": ProblemKind(
        403,
        "A web page elsewhere may not post to this server",
        hint="The page that sent this is of another origin. List its origin, as "
        "https://lab.example, in GENA_CORS_ORIGINS; a proxy in front must pass on Host.",
    ),
    "route.not_found": ProblemKind(
        404,
        "Not Found",
        hint="There is nothing at this path. /docs lists what there is.",
        of_data=False,
    ),
    "model.unknown": ProblemKind(
        404,
        "This model is not served",
        "Served is AIRI-Institute/gena-lm-bert-base.",
        members={"param": "model"},
    ),
    "metrics.off": ProblemKind(
        404, "Metrics are off", hint="GENA_METRICS turns them on.", of_data=False
    ),
    "route.method_not_allowed": ProblemKind(
        405,
        "Method Not Allowed",
        hint="This path takes another method; the header Allow names it.",
        of_data=False,
    ),
    "format.not_acceptable": ProblemKind(
        406,
        "No such format",
        "The Accept header names nothing that is offered here: application/json.",
    ),
    "request.timeout": ProblemKind(
        408,
        "The request stopped on its way",
        "Nothing more of it came for 60 s, after 3 bytes.",
        hint="Send it again, or raise GENA_STALL_SECONDS.",
        members={"limit": 60},
    ),
    "model.not_failed": ProblemKind(
        409,
        "Nothing has failed",
        "The service is ready; there is nothing to try again.",
        of_data=False,
    ),
    "body.too_large": ProblemKind(
        413,
        "The body is too large",
        "The limit is 67108864 bytes.",
        hint=_too_much(f"{_IN_PARTS}, compress the body with gzip", "GENA_MAX_BODY_BYTES"),
        members={"limit": 67108864},
    ),
    "body.too_large_decoded": ProblemKind(
        413,
        "The body is too large after decompression",
        "A compressed body may inflate to 268435456 bytes.",
        hint=_too_much(_IN_PARTS, "GENA_MAX_DECODED_BYTES"),
        members={"limit": 268435456},
    ),
    "json.too_large": ProblemKind(
        413,
        "The JSON is too large",
        "JSON may have 5242880 bytes, unpacked.",
        hint="Send the sequences as FASTA, or in several requests, or raise GENA_MAX_JSON_BYTES.",
        members={"limit": 5242880},
    ),
    "record.too_long": ProblemKind(
        413,
        "A record is too long",
        "Record 'chr1' has 5000001 bases; the limit is 5000000.",
        hint=_too_much("Cut it into parts", "GENA_MAX_RECORD_BASES", more=" --tokens 510"),
        members={"record": "chr1", "count": 5000001, "limit": 5000000},
    ),
    "request.too_many_records": ProblemKind(
        413,
        "The request has too many records",
        f"A request may have 10000 records. {in_parts(10000)}",
        hint="Or raise GENA_MAX_RECORDS. Or compute without a server: gena embed FILE -o FOLDER",
        members={"limit": 10000},
    ),
    "request.too_many_tokens": ProblemKind(
        413,
        "The request has too many tokens",
        "A request may have 5000000 tokens, the specials and overlaps of windows included.",
        hint=_too_much(_IN_PARTS, "GENA_MAX_REQUEST_TOKENS"),
        members={"limit": 5000000},
    ),
    "body.unsupported_type": ProblemKind(
        415,
        "Content-Type not supported",
        "The body begins neither with > (FASTA) nor @ (FASTQ), and its Content-Type does not say "
        "what it is. With curl: -H 'Content-Type: text/plain' -d ACGT for a bare sequence.",
    ),
    "body.unsupported_encoding": ProblemKind(
        415,
        "Content-Encoding not supported",
        hint="The body may be sent as it is or with gzip.",
        headers={"Accept-Encoding": "gzip"},
    ),
    "host.refused": ProblemKind(
        421,
        "This server does not answer to that name",
        hint="The Host header names another machine, or is no name and port. Use "
        "http://127.0.0.1 or http://localhost, or list the name in GENA_ALLOWED_HOSTS.",
    ),
    "sequence.invalid_letter": ProblemKind(
        422,
        "Not a DNA sequence",
        "Record 'gene1': 'E' at position 7 is not a DNA letter. It occurs in proteins; DNA is "
        "expected.",
        members={"record": "gene1", "position": 7, "letter": "E"},
    ),
    "sequence.ambiguous": ProblemKind(
        422,
        "This looks like a protein",
        "Record 'p': 16 of its 24 letters (67%) are none of A, C, G, T and N.",
        hint="More than a third of them cannot be: this is most likely a protein. If it is DNA, "
        "choose ambiguous=accept.",
        members={"record": "p", "count": 16},
    ),
    "sequence.missing": ProblemKind(
        422,
        "A missing value where a sequence is expected",
        "Record '2' is 'NA', a missing value of R. Leave it out. If it is DNA, write na.",
        members={"record": "2"},
    ),
    "sequence.empty": ProblemKind(
        422, "The sequence is empty", "Record 'gene1' has no bases.", members={"record": "gene1"}
    ),
    "sequence.too_long": ProblemKind(
        422,
        "The sequence does not fit in one window",
        "The sequence has 814 tokens, [CLS] and [SEP] included; a window holds 512.",
        hint="Choose overflow=window to cut it into windows, or overflow=truncate to use its "
        "beginning.",
        members={"count": 814, "limit": 512},
    ),
    "record.duplicate_id": ProblemKind(
        422,
        "Two records have the same id",
        "The id 'gene1' occurs more than once; answers could not be told apart.",
        hint="Rename one of them; the two reads of a pair go into two requests, or are called "
        "name/1 and name/2.",
        members={"record": "gene1"},
    ),
    "record.invalid_id": ProblemKind(
        422,
        "A record's id cannot be used",
        "Record 3 has no id.",
        members={"record_number": 3},
    ),
    "records.none": ProblemKind(422, "There is no record", hint="Send at least one sequence."),
    "records.all_skipped": ProblemKind(
        422,
        "No record could be used",
        "All 2 records have problems.",
        members={"skipped": []},
    ),
    "body.empty": ProblemKind(422, "The body is empty", "Send a sequence."),
    "options.unknown": ProblemKind(
        422,
        "Unknown field",
        "poling is not a field of this request.",
        hint="/docs lists the fields.",
        members={"problems": [{"where": "poling", "message": "is not a field of this request"}]},
    ),
    "options.conflict": ProblemKind(
        422,
        "Options do not go together",
        "stride is the overlap of windows: add overflow=window.",
        members={"fields": ["stride"]},
    ),
    "request.invalid": ProblemKind(
        422,
        "The request does not fit its schema",
        "pooling: it has to be 'none', 'mean', 'cls' or 'max'.",
        members={"problems": [{"where": "pooling", "message": "it has to be 'none', ..."}]},
    ),
    "tokens.refused": ProblemKind(
        422,
        "Token ids where DNA is expected",
        hint="input holds token ids. Those of another tokenizer would be read as other DNA; "
        "LangChain's OpenAIEmbeddings sends such ids unless it is made with "
        "check_embedding_ctx_length=False. Send DNA as text, or, for ids of POST /tokenize, "
        "token_ids=accept.",
        members={"param": "input"},
    ),
    "tokens.invalid": ProblemKind(
        422,
        "Not a token of a sequence",
        "Input 1: the id at position 3 is a special token or is not in the vocabulary of 32000.",
        members={"record": "1", "position": 3},
    ),
    "dtype.overflow": ProblemKind(
        422,
        "The features do not fit in float16",
        hint="A feature is larger than 65504: choose dtype=float32.",
    ),
    "queue.full": ProblemKind(
        429,
        "The queue is full",
        "128 requests hold the 65536 tokens that may wait for the model. Try again in 3 s.",
        members={"limit": 65536},
    ),
    "headers.too_large": ProblemKind(
        431,
        "The headers are too large",
        "The limit is 32768 bytes with the request line.",
        hint="DNA goes into the body.",
        members={"limit": 32768},
    ),
    "model.not_finite": ProblemKind(
        500,
        "The model's answer is not finite",
        "The features hold NaN or infinity.",
        hint="Verify the bundle with gena verify; precision fp32 may help.",
    ),
    "model.error": ProblemKind(
        500,
        "The model failed on this sequence",
        "RuntimeError.",
        hint="Other sequences are answered; the log of the server has more.",
    ),
    "internal": ProblemKind(
        500,
        "Internal error",
        hint="The service failed in a way that it should not; its log says more.",
    ),
    "model.not_ready": ProblemKind(
        503,
        "The model is not ready",
        "Loading AIRI-Institute/gena-lm-bert-base.",
        hint="GET /health says when it is ready.",
    ),
    "model.failed": ProblemKind(
        503,
        "There is no model to answer",
        "AIRI-Institute/gena-lm-bert-base is not on this machine, and the hub cannot be reached. "
        "The next request after 30 s tries again; POST /health/retry does so at once.",
        members={"reason": "checkpoint.unavailable"},
    ),
    "model.crashed": ProblemKind(
        503,
        "The model stopped while it computed this answer",
        "the model process ended (signal SIGKILL).",
        hint="It is being restarted; send the request again.",
    ),
    "model.replaced": ProblemKind(
        503,
        "Another model is served now",
        hint="The bundle was built again while this request was answered; send the request again.",
    ),
    "server.busy": ProblemKind(
        503,
        "Too many connections",
        "All 64 connections that its limit of open files allows are busy.",
        hint="Send the request again; where it starts, ulimit -n raises the limit.",
        of_data=False,
    ),
    "server.stopping": ProblemKind(
        503,
        "The service is shutting down",
        hint="No new work is taken. Send the request again when the service is back.",
        headers={"Connection": "close"},
    ),
    "deadline.exceeded": ProblemKind(
        504,
        "The request took too long",
        "The answer did not begin for 600 s.",
        hint="Send fewer records at a time, or raise GENA_DEADLINE_SECONDS.",
        members={"limit": 600},
    ),
    "disk.full": ProblemKind(
        507,
        "The server's disk is full",
        hint="Its temporary folder has no room for this request. Send fewer records at a time; "
        "whoever runs the server can make room there, or start it with another TMPDIR.",
    ),
}

# What a status means here, whichever of its codes it is.
STATUSES: dict[int, str] = {
    400: "The body cannot be read.",
    401: "The API key is missing or wrong.",
    403: "A web page of another origin sent this.",
    404: "Another model is served.",
    406: "The Accept header names no format that is offered.",
    408: "The request stopped on its way.",
    413: "A limit of the service is exceeded.",
    415: "The Content-Type, or the Content-Encoding, is not read here.",
    421: "The Host header names another machine.",
    422: "The request was read and cannot be answered.",
    429: "The queue is full.",
    431: "The request line and the headers are too long.",
    500: "A fault of the service or of the model.",
    503: "There is no model now.",
    504: "The deadline has passed.",
    507: "The server's temporary folder is full.",
}
