"""For those who run the service: health, facts, metrics."""

from typing import Any

import orjson
from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from app import media_types
from app.dependencies import ServicesDep
from app.errors import ProblemError
from app.headers import RETRY_AFTER
from app.model.lifecycle import Lifecycle
from app.model.state import State, Status
from app.problems import PROBLEMS
from app.settings import Settings
from app.unproven import unproven
from converter.bundle.manifest import Manifest
from converter.versions import DISTRIBUTION, installed_versions

router = APIRouter(tags=["operations"])

_NOT_FAILED = PROBLEMS["model.not_failed"]
_VERSIONS = (DISTRIBUTION, "coremltools", "torch", "tokenizers", "numpy", "fastapi", "uvicorn")


class Progress(BaseModel):
    """How far a conversion is."""

    stage: str = Field(examples=["convert"])
    fraction: float = Field(ge=0, le=1, description="Of this stage.", examples=[0.4])


class Failure(BaseModel):
    """Why there is no model, and what to do."""

    code: str = Field(examples=["checkpoint.unavailable"])
    message: str
    advice: str
    retry_after_seconds: float = Field(
        description="A request for data after this time tries again; POST /health/retry, at once."
    )


class RuntimeFacts(BaseModel):
    """What executes the package."""

    name: str = Field(examples=["coreml", "torch", "mil"])
    compute_units: str = Field(
        description="Of Core ML; else the device.", examples=["CPU_AND_NE", "cpu", "cuda"]
    )
    compute: str = Field(description="What features are computed in.", examples=["fp32"])
    lengths: list[int] = Field(
        description="Tokens that windows are padded to; none where they are not.",
        examples=[[128, 256, 512], []],
    )
    batch_tokens: int = Field(
        description="Windows of so many tokens together are computed at a time; 1: each alone."
    )
    device_checks: Any = Field(None, description="Figures measured on this machine, if any.")


class Health(BaseModel):
    """The state of the service."""

    status: Status
    message: str = Field(description="The same as a sentence.")
    model: str = Field(examples=["AIRI-Institute/gena-lm-bert-base"])
    serves: str | None = Field(
        None, description="Which part of the checkpoint, and which heads of it are left out."
    )
    revision: str | None = None
    commit: str | None = None
    fingerprint: str | None = Field(None, examples=["0123456789abcdef"])
    tokenizes: bool = Field(description="Whether POST /tokenize answers: sooner than the rest.")
    fidelity: str | None = Field(
        None,
        description="expected, or flagged: published although it is less faithful than expected, "
        "or computed in less than fp32 on request.",
    )
    runtime: RuntimeFacts | None = None
    restarts: int = Field(description="Of the model's process, since the service started.")
    progress: Progress | None = None
    error: Failure | None = None


class Retry(BaseModel):
    """Whether another attempt was started."""

    retrying: bool
    status: str


_HEALTH_EXAMPLES = {
    200: {
        "status": "ready",
        "message": "gena-mini answers.",
        "model": "gena-mini",
        "serves": "the encoder; left out: masked-language-model head",
        "fingerprint": "0123456789abcdef",
        "tokenizes": True,
        "fidelity": "expected",
        "runtime": {
            "name": "coreml",
            "compute_units": "CPU_AND_NE",
            "compute": "fp16",
            "lengths": [128, 256, 512],
            "batch_tokens": 1,
        },
        "restarts": 0,
    },
    503: {
        "status": "converting",
        "message": "Converting AIRI-Institute/gena-lm-bert-base.",
        "model": "AIRI-Institute/gena-lm-bert-base",
        "tokenizes": True,
        "restarts": 0,
        "progress": {"stage": "convert", "fraction": 0.4},
    },
}


@router.head("/health", include_in_schema=False)
@router.get(
    "/health",
    response_model=Health,
    responses={
        200: {
            "description": "Data is answered.",
            "content": {media_types.JSON: {"example": _HEALTH_EXAMPLES[200]}},
        },
        503: {
            "model": Health,
            "description": "Not now: converting, loading, failed or stopping.",
            "content": {media_types.JSON: {"example": _HEALTH_EXAMPLES[503]}},
        },
    },
    summary="Is the model ready?",
)
async def health(services: ServicesDep) -> Response:
    """200 when data is answered, else 503 with the progress, or why not and what to do.

    `curl http://127.0.0.1:8000/health`
    """
    facts = _health(services.lifecycle, services.settings)
    headers = {"Cache-Control": "no-store"}
    if facts.status != "ready":
        headers[RETRY_AFTER] = "2"
    return Response(
        facts.model_dump_json(exclude_none=True),
        status_code=200 if facts.status == "ready" else 503,
        headers=headers,
        media_type=media_types.JSON,
    )


@router.post(
    "/health/retry",
    response_model=Retry,
    status_code=202,
    responses={
        _NOT_FAILED.status: {
            "description": f"{_NOT_FAILED.title}.",
            "content": {media_types.PROBLEM: {}},
        }
    },
    summary="Try again after a failure",
)
async def retry(services: ServicesDep) -> Retry:
    """Starts another attempt at once after `failed`.

    `curl -X POST http://127.0.0.1:8000/health/retry`
    """
    lifecycle = services.lifecycle
    if not lifecycle.retry():
        raise ProblemError(
            "model.not_failed",
            f"The service is {lifecycle.state.status}; there is nothing to try again.",
        )
    return Retry(retrying=True, status=lifecycle.state.status)


@router.head("/info", include_in_schema=False)
@router.get(
    "/info",
    responses={200: {"content": {media_types.JSON: {}}}},
    summary="Model, hashes, limits, runtime, versions",
)
async def info(services: ServicesDep) -> Response:
    """Everything that identifies the answers of this server, and what it accepts.

    What the model says of itself is null until there is a bundle; `tokens_per_window` and `letters`
    are there as soon as /tokenize answers.

    `curl http://127.0.0.1:8000/info`
    """
    facts = _info(services.lifecycle, services.settings)
    return Response(orjson.dumps(facts), media_type=media_types.JSON)


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", response_class=Response, summary="Prometheus metrics")
async def metrics(services: ServicesDep) -> Response:
    """Requests, tokens, queue, stages, restarts, cache, in the Prometheus text format.

    `curl http://127.0.0.1:8000/metrics`
    """
    if not services.settings.metrics:
        raise ProblemError("metrics.off")
    text, content_type = services.metrics.exposition()
    return Response(text, headers={"Content-Type": content_type})


def _health(lifecycle: Lifecycle, settings: Settings) -> Health:
    state = lifecycle.state
    manifest = lifecycle.manifest
    runtime = lifecycle.runtime
    return Health(
        status=state.status,
        message=state.message,
        model=manifest.model if manifest else settings.model,
        serves=manifest.serves if manifest else None,
        revision=settings.revision,
        commit=manifest.commit if manifest else None,
        fingerprint=lifecycle.fingerprint,
        tokenizes=lifecycle.tokenizes,
        fidelity=_fidelity(manifest, settings) if manifest else None,
        runtime=RuntimeFacts.model_validate(runtime, from_attributes=True) if runtime else None,
        restarts=lifecycle.restarts,
        progress=_progress(state),
        error=_failure(state, lifecycle.retry_after),
    )


def _fidelity(manifest: Manifest, settings: Settings) -> str | None:
    flag: str | None = manifest.fidelity.get("flag")
    return flag if settings.compute == "fp32" else "flagged"


def _progress(state: State) -> Progress | None:
    if state.stage is None or state.fraction is None:
        return None
    return Progress(stage=state.stage, fraction=min(max(state.fraction, 0.0), 1.0))


def _failure(state: State, retry_after: float) -> Failure | None:
    if state.code is None:
        return None
    return Failure(
        code=state.code,
        message=state.message,
        advice=state.advice or "",
        retry_after_seconds=round(retry_after, 1),
    )


def _info(lifecycle: Lifecycle, settings: Settings) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "status": lifecycle.state.status,
        "model": settings.model,
        "serves": None,
        "revision": settings.revision,
        "fingerprint": lifecycle.fingerprint,
        "limits": {
            "tokens_per_window": None,
            "body_bytes": settings.max_body_bytes,
            "decoded_bytes": settings.max_decoded_bytes,
            "json_bytes": settings.max_json_bytes,
            "header_bytes": settings.max_header_bytes,
            "records": settings.max_records,
            "bases_per_record": settings.max_record_bases,
            "tokens_per_request": settings.max_request_tokens,
            "queue_tokens": settings.queue_tokens,
            "deadline_seconds": settings.deadline_seconds,
            "stall_seconds": settings.stall_seconds,
            "cache_bytes": settings.cache_bytes,
        },
        "runtime": lifecycle.runtime,
        "versions": installed_versions(_VERSIONS),
        "letters": None,
        "never_run_on_a_mac": [entry.text for entry in unproven()],
        "bundle": None,
    }
    manifest = lifecycle.manifest
    if manifest is not None:
        facts |= {
            "model": manifest.model,
            "serves": manifest.serves,
            "bundle": manifest.model_dump(mode="json"),
        }
        # The list of files is long and says less than the fingerprint that covers it.
        del facts["bundle"]["files"]
    tokenizer = lifecycle.tokenizer
    if tokenizer is not None:
        facts["limits"]["tokens_per_window"] = tokenizer.model_max_length
        # Of DNA, that the vocabulary knows; each other one is an unknown token.
        facts["letters"] = tokenizer.letters
    return facts
