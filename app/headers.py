"""What answers say in their headers: one table, read by code, CORS and the OpenAPI document."""

from dataclasses import dataclass

MODEL = "X-Gena-Model"
FINGERPRINT = "X-Gena-Fingerprint"
TOKENS = "X-Gena-Tokens"
UNKNOWN = "X-Gena-Unknown"
WINDOWS = "X-Gena-Windows"
RECORDS = "X-Gena-Records"
SKIPPED = "X-Gena-Skipped"
TRUNCATED = "X-Gena-Truncated"
SERVER_TIMING = "Server-Timing"
REQUEST_ID = "X-Request-ID"
RETRY_AFTER = "Retry-After"


@dataclass(frozen=True)
class HeaderKind:
    """What a header tells.

    Attributes:
        description: as the OpenAPI document has it.
        always: every answer with data has it; else the description says when.
        of_data: answers with data have it; else only problems.
    """

    description: str
    always: bool = True
    of_data: bool = True


HEADERS: dict[str, HeaderKind] = {
    RETRY_AFTER: HeaderKind("Seconds to wait.", always=False, of_data=False),
    SERVER_TIMING: HeaderKind(
        "Milliseconds: tokenize, queue, predict, encode; without the last two where the answer is "
        "sent while it is computed, and tokenize alone where nothing is predicted."
    ),
    REQUEST_ID: HeaderKind(
        "Of the request, as the log has it; the client's own where it sent one."
    ),
    MODEL: HeaderKind("The model that answered."),
    FINGERPRINT: HeaderKind("Of weights, tokenizer and package."),
    TOKENS: HeaderKind("Rows computed, the specials included."),
    UNKNOWN: HeaderKind("[UNK] among them."),
    WINDOWS: HeaderKind("Windows computed."),
    RECORDS: HeaderKind("Records answered, where the answer is a list.", always=False),
    SKIPPED: HeaderKind("Records left out by on_error=skip, if any.", always=False),
    TRUNCATED: HeaderKind("Records cut by overflow=truncate, if any.", always=False),
}
