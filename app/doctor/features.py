"""Step: DNA to features with curl, as a person asks for them, against the reference."""

import json
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.doctor.commands import CommandError, run
from app.doctor.findings import Answer, Features
from app.doctor.serving import Server, serving
from app.doctor.visit import Visit
from converter.bundle.opening import Bundle
from converter.fidelity.gates import ON_DEVICE, compare
from converter.fidelity.golden import Golden

_SECONDS = 120.0
_WRITE_OUT = "%{http_code} %{time_total} %{size_download}"
# -q, --noproxy: nothing in this person's home or shell changes what is sent where.
_CURL = ("curl", "-q", "-sS", "--noproxy", "*", "--max-time", str(_SECONDS), "-w", _WRITE_OUT)


@dataclass(frozen=True)
class Window:
    """DNA whose features are known: (n, H) rows of the reference."""

    name: str
    dna: str
    rows: NDArray[np.float32]


def known_windows(bundle: Bundle) -> list[Window]:
    """The golden windows that some DNA becomes."""
    tokenizer, golden = (
        bundle.tokenizer(),
        Golden.load(bundle.golden(), bundle.manifest.pad_token_id),
    )
    found = []
    for index, name in enumerate(golden.names):
        n_tokens = golden.n_tokens(index)
        own = golden.input_ids[index, 1 : n_tokens - 1]
        dna = "".join(tokenizer.tokens(own))
        # Specials are no DNA.
        if dna.isalpha() and np.array_equal(tokenizer.encode(dna).ids, own):
            found.append(Window(name, dna, golden.reference[index, :n_tokens]))
    return found


def examine_features(visit: Visit) -> Generator[Features, None, None]:
    """Each known window as a numpy file, one pooled vector as JSON, and one mistake."""
    _, bundle = visit.bundle_to_serve()
    windows = known_windows(bundle)
    with serving(visit, "features") as server:
        found = Features(**server.facts())
        curl = _Curl(visit, server, bundle.manifest.window)
        if not windows:
            found = found.model_copy(update={"problems": ("There is no DNA of known features.",)})
        yield found
        for window in windows:
            found = _with(found, *curl.features(window))
            yield found
        for window in windows[:1]:
            found = _with(found, *curl.pooled(window))
        found = _with(found, *curl.mistake())
        yield found.model_copy(update={"log": server.warnings()})


Judged = tuple[Answer, str | None]


class _Curl:
    def __init__(self, visit: Visit, server: Server, length: int) -> None:
        self._length = length
        self._url = f"http://127.0.0.1:{server.port}"
        self._body, self._answer = visit.scratch / "request", visit.scratch / "answer"
        self._output = visit.output("curl")

    def features(self, window: Window) -> Judged:
        """The last hidden states, padding included."""
        what = f"{window.name}, npy"
        answer = self._ask(what, "/features?format=npy", window.dna, "text/plain")
        if answer.status != 200:
            return answer, f"{what}: status {answer.status}."
        rows = np.load(self._answer)
        n_tokens, hidden = window.rows.shape
        if rows.shape != (1, self._length, hidden) or rows[0, n_tokens:].any():
            return answer, f"{what}: the answer is {rows.shape}, or its padding is not zero."
        return _compared(answer, window.rows, rows[0, :n_tokens])

    def pooled(self, window: Window) -> Judged:
        """The mean of the sequence's own tokens."""
        what = f"{window.name}, mean as JSON"
        body = json.dumps({"sequence": window.dna, "pooling": "mean"})
        answer = self._ask(what, "/features", body, "application/json")
        if answer.status != 200:
            return answer, f"{what}: status {answer.status}."
        vector = np.array(json.loads(self._answer.read_bytes())["features"], np.float32)
        return _compared(answer, window.rows[1:-1].mean(axis=0)[None], vector[None])

    def mistake(self) -> Judged:
        """A letter that is none of DNA."""
        answer = self._ask("a wrong letter", "/features", "ACGTJ", "text/plain")
        code = json.loads(self._answer.read_bytes() or b"{}").get("code")
        if (answer.status, code) == (422, "sequence.invalid_letter"):
            return answer, None
        return answer, f"A wrong letter was answered with {answer.status}, code {code}."

    def _ask(self, what: str, path: str, body: str, media: str) -> Answer:
        self._body.write_text(body)
        self._answer.unlink(missing_ok=True)
        command = [*_CURL, "-o", str(self._answer), "-H", f"Content-Type: {media}"]
        command += ["--data-binary", f"@{self._body}", self._url + path]
        done = run(command, self._output, seconds=2 * _SECONDS)
        if done.returncode != 0:
            raise CommandError(f"curl failed ({done.returncode}): {done.last_words}")
        status, seconds, size = done.text.split()[-3:]
        return Answer(
            request=what,
            status=int(status),
            milliseconds=round(1000 * float(seconds.replace(",", ".")), 1),
            n_bytes=int(size),
        )


def _compared(answer: Answer, reference: NDArray[np.float32], found: NDArray[np.float32]) -> Judged:
    figures = compare(reference, found)
    judged = answer.model_copy(update={"psnr_db": round(min(figures.psnr, 999.0), 1)})
    if ON_DEVICE.judge(figures) == "refused":
        return judged, f"{answer.request}: {figures.psnr:.1f} dB, cosine {figures.cosine:.5f}."
    return judged, None


def _with(found: Features, answer: Answer, problem: str | None) -> Features:
    return found.model_copy(
        update={
            "answers": (*found.answers, answer),
            "problems": (*found.problems, *([problem] if problem else [])),
        }
    )
