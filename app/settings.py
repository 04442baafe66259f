"""Every setting of the service, with its meaning and bounds; `GENA_*` in the environment."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.authority import is_origin, read_authority
from converter.checkpoint.files import DEFAULT_MODEL, SHIPPED_MODELS
from converter.errors import UnusablePathError
from converter.paths import user_path
from converter.runtime.protocol import COMPUTE_UNITS, Compute, Device, RuntimeChoice

_MIB = 2**20
# A window of the models that read the fewest tokens at a time. Whether one of the model that is
# served has room is seen when its bundle is there (`app.model.lifecycle`).
_LEAST_QUEUE_TOKENS = 512


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part for part in (piece.strip() for piece in value.split(",")) if part)


def _known_hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    if not all(name == "*" or read_authority(name) for name in names):
        raise _wrong("It takes names or addresses, such as gena.lab.example, without http://.")
    return names


def _known_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    if not all(origin in ("*", "null") or is_origin(origin) for origin in origins):
        raise _wrong("It takes origins, such as https://lab.example, without a path.")
    return origins


def _sendable(key: SecretStr) -> SecretStr:
    """A key that a header can carry; any other would lock everybody out, or let everybody in."""
    text = key.get_secret_value()
    if not text:
        raise _wrong("It is empty. Unset it to ask for no key.")
    if text != text.strip():
        raise _wrong("It begins or ends with white space, which HTTP takes off headers.")
    if not text.isprintable():
        raise _wrong("It has a character that no header can carry.")
    return key


def _wrong(reason: str) -> PydanticCustomError:
    return PydanticCustomError("setting", "{reason}", {"reason": reason})


# NoDecode: the environment holds "a,b", not JSON.
CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


class _Environment(EnvSettingsSource):
    """An empty variable is as good as none, apart from an empty key, which is a mistake."""

    def __call__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__call__().items() if v != "" or k == "api_key"}


class Settings(BaseSettings):
    """Settings of one server. Built once by the command line or a test, then handed on."""

    model_config = SettingsConfigDict(
        env_prefix="GENA_",
        frozen=True,
        extra="forbid",
        # It may be the key.
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, which win, and the environment."""
        return init_settings, _Environment(settings_cls)

    model: str = Field(
        DEFAULT_MODEL,
        min_length=1,
        description="Checkpoint: a hub id, a folder, or the name of a shipped model "
        f"({', '.join(SHIPPED_MODELS)}).",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a hub id.")
    bundle: Path | None = Field(
        None, description="Serve exactly this bundle folder; nothing is converted."
    )
    bundles: Path | None = Field(
        None,
        description="Folder under which bundles are built. Unset: models/bundles in a clone, else "
        "the user's cache.",
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    allowed_hosts: Annotated[CommaList, AfterValidator(_known_hosts)] = Field(
        (),
        description="Names accepted in the Host header, with commas between them; * takes any. "
        "Empty: this machine's loopback names when host is a loopback address, else any.",
    )

    runtime: RuntimeChoice = Field(
        "auto",
        description="What executes the package: Core ML on macOS, torch elsewhere. mil executes it "
        "operation by operation: the slow proof.",
    )
    compute_units: str = Field(
        "auto",
        min_length=1,
        description=f"Of Core ML: auto, {', '.join(COMPUTE_UNITS[:-1])} or {COMPUTE_UNITS[-1]}. "
        "auto is what gena tune chose, else CPU_AND_NE.",
    )
    device: Device = Field(
        "auto", description="Of the torch runtime: cpu, cuda or mps; auto is cuda where it is."
    )
    compute: Compute = Field(
        "fp32",
        description="Of the torch runtime: bf16 or fp16 are faster where the device has them, and "
        "less exact; the fingerprint says so.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads of the model, by torch and mil. Unset: all cores.",
    )
    batch_tokens: int = Field(
        2048,
        ge=1,
        le=2**17,
        description="Windows of so many tokens together may be computed at a time, where the "
        "runtime gains by it; 1: each alone.",
    )
    predict_timeout_seconds: float = Field(
        60, gt=0, description="A prediction that takes longer is a hang: the model is restarted."
    )
    load_timeout_seconds: float = Field(
        1800,
        gt=0,
        description="Longest time for one step of loading the model; Core ML may take minutes to "
        "prepare a length for the Neural Engine.",
    )

    max_body_bytes: int = Field(64 * _MIB, ge=1, description="Bytes of a request body, as sent.")
    max_decoded_bytes: int = Field(
        256 * _MIB, ge=1, description="Bytes of a request body after decompression."
    )
    max_json_bytes: int = Field(
        5 * _MIB,
        ge=1,
        description="Bytes of a JSON body, after decompression; longer sequences come as FASTA.",
    )
    max_header_bytes: int = Field(
        32 * 1024, ge=1024, description="Bytes of a request line and its headers."
    )
    max_records: int = Field(10_000, ge=1, description="Records in one request.")
    max_record_bases: int = Field(5_000_000, ge=1, description="Bases in one record.")
    max_request_tokens: int = Field(5_000_000, ge=1, description="Tokens in one request.")

    queue_tokens: int = Field(
        65_536,
        ge=_LEAST_QUEUE_TOKENS,
        description="Room in the queue. Each request in progress holds at least one window of the "
        "model (tokens_per_window of /info).",
    )
    deadline_seconds: float = Field(
        600,
        gt=0,
        description="Longest time for an answer to begin, and then without one more window of it, "
        "however long it is.",
    )
    stall_seconds: float = Field(
        60,
        gt=0,
        description="A client that does nothing for so long where it is its turn, to send its "
        "request or to take its answer, is cut off.",
    )
    cache_bytes: int = Field(64 * _MIB, ge=0, description="Memory for repeated windows; 0 is off.")

    api_key: Annotated[SecretStr, AfterValidator(_sendable)] | None = Field(
        None,
        description="When set, requests must carry it, as Authorization: Bearer KEY or X-API-Key: "
        "KEY; /health, the page and /docs stay open. Beyond loopback its absence is a warning.",
    )
    cors_origins: Annotated[CommaList, AfterValidator(_known_origins)] = Field(
        (),
        description="Origins of web pages that may call the service, such as https://lab.example, "
        "with commas between them; * is any. Posts from others are refused. The service's own page "
        "always may.",
    )
    metrics: bool = Field(True, description="Serve /metrics.")
    log_format: Literal["text", "json"] = Field("text", description="Format of the log.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe message that is logged."
    )
    log_file: Path | None = Field(
        None, description="Log to this file, rotated at 10 MB, five kept, instead of stderr."
    )
    grace_seconds: float = Field(
        30, ge=0, description="Time for accepted requests to finish after SIGTERM."
    )

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, host: str) -> str:
        """An address of IPv6 may be written as in a URL."""
        return host[1:-1] if host.startswith("[") and host.endswith("]") else host

    @field_validator("model", "bundle", "bundles", "log_file")
    @classmethod
    def _usable(cls, value: str | Path | None) -> str | Path | None:
        """A path is expanded; a model is a path, or none."""
        try:
            path = None if value is None else user_path(value)
        except UnusablePathError as error:
            raise _wrong(str(error)) from error
        return value if isinstance(value, str) else path
