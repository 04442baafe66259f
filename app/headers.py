"""Headers by name: what requests carry, and a table of what answers say.

Read by the code, by CORS and by the OpenAPI document.
"""

from dataclasses import dataclass

MODEL = "X-Gena-Model"
FINGERPRINT = "X-Gena-Fingerprint"
TOKENS = "X-Gena-Tokens"
UNKNOWN = "X-Gena-Unknown"
WINDOWS = "X-Gena-Windows"
RECORDS = "X-Gena-Records"
SKIPPED = "X-Gena-Skipped"
TRUNCATED = "X-Gena-Truncated"
WARNING = "X-Gena-Warning"
IDS = "X-Gena-Ids"
SERVER_TIMING = "Server-Timing"
REQUEST_ID = "X-Request-ID"
RETRY_AFTER = "Retry-After"

AUTHORIZATION = "Authorization"
API_KEY = "X-API-Key"
# What a web page may send.
OF_REQUESTS = (AUTHORIZATION, "Content-Type", API_KEY, REQUEST_ID)


@dataclass(frozen=True)
class HeaderKind:
    """What a header tells.

    Attributes:
        description: as the OpenAPI document has it; it says when, where that is not always.
        of_data: answers with data have it; else only problems.
    """

    description: str
    of_data: bool = True


HEADERS: dict[str, HeaderKind] = {
    RETRY_AFTER: HeaderKind("Seconds to wait.", of_data=False),
    SERVER_TIMING: HeaderKind(
        "Milliseconds: tokenize, queue, predict, encode; without the last two where the answer is "
        "sent while it is computed, and tokenize alone where nothing is predicted."
    ),
    REQUEST_ID: HeaderKind(
        "Of the request, as the log has it; the client's own where it sent one."
    ),
    MODEL: HeaderKind("The model that answered."),
    FINGERPRINT: HeaderKind(
        "Of weights, tokenizer and package; none while /tokenize answers before these are there."
    ),
    TOKENS: HeaderKind("Rows computed, the specials included."),
    UNKNOWN: HeaderKind("[UNK] among them."),
    WINDOWS: HeaderKind("Windows computed."),
    RECORDS: HeaderKind("Records answered, where the answer is a list."),
    SKIPPED: HeaderKind("Records left out by on_error=skip, if any."),
    TRUNCATED: HeaderKind("Records cut by overflow=truncate, if any."),
    WARNING: HeaderKind(
        "What was answered and hardly meant, as a sentence about the first such record, if any."
    ),
    IDS: HeaderKind("The records' ids, percent-encoded, with commas between, for ids=header."),
}
