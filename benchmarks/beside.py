"""The service beside what a lab would serve a BERT with otherwise: infinity, over HTTP, in turns.

    python -m benchmarks.beside --infinity PATH --tokenizer FILE [--bundle FOLDER] [--json]

Both serve a bert-base geometry with random weights on the CPU in fp32 with all cores, by the same
tokenizer, and answer pooled vectors; caches are off. infinity_emb 0.0.77 needs an environment of
its own (torch, transformers<5); PATH is its command there. Only an idle machine gives figures that
mean anything. The exit status is 1 where a limit is exceeded.
"""

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from converter.bundle.opening import open_bundle
from converter.conversion.convert import convert
from converter.options import BuildOptions
from tools.seeded_checkpoints import BERT_BASE, make_checkpoint
from tools.served import served

MAX_MEMORY_MIB = 0.7 * 1024
_BASES = 400_000
_START_SECONDS = 180.0


@dataclass(frozen=True)
class Case:
    """What is asked for: sequences of some bases each, and how much of the peer's time is allowed.

    Attributes:
        clients: at once, each with one sequence a request; 1: one request with all sequences.
        rounds: of which the median counts.
    """

    name: str
    bases: tuple[int, ...]
    limit: float
    clients: int = 1
    rounds: int = 1


_MIXED = tuple(random.Random(3).choices((150, 300, 600, 1200, 2700), k=48))
CASES = (
    Case("100 bp", (100,), 0.5, rounds=31),
    Case("600 bp", (600,), 0.65, rounds=21),
    Case("2,700 bp", (2700,), 0.8, rounds=15),
    Case("48 mixed (150 to 2,700 bp), 8 clients", _MIXED, 0.7, clients=8, rounds=3),
    Case("one request of 32 x 300 bp", (300,) * 32, 0.8, rounds=9),
)


@dataclass(frozen=True)
class Row:
    """Medians in milliseconds, and of the ratios of each round: a machine is fast by turns."""

    case: str
    ours_ms: float
    infinity_ms: float
    ratio: float
    limit: float


class Endpoint:
    """Where embeddings are asked for, as OpenAI's clients do."""

    def __init__(self, url: str, model: str) -> None:
        self._url, self._model = url, model
        self._random = random.Random(7)
        self._dna = "".join(self._random.choices("ACGT", k=_BASES))

    def seconds(self, case: Case) -> float:
        """From the first request to the last answer."""
        sequences = [self._sequence(bases) for bases in case.bases]
        began = time.perf_counter()
        if case.clients == 1:
            self._ask(sequences)
        else:
            with ThreadPoolExecutor(case.clients) as clients:
                list(clients.map(lambda sequence: self._ask([sequence]), sequences))
        return time.perf_counter() - began

    def _sequence(self, bases: int) -> str:
        start = self._random.randrange(_BASES - bases)
        return self._dna[start : start + bases]

    def _ask(self, sequences: Sequence[str]) -> None:
        body = json.dumps({"input": sequences, "model": self._model}).encode()
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        with _DIRECT.open(request, timeout=600) as answer:
            found = len(json.load(answer)["data"])
        if found != len(sequences):
            raise RuntimeError(f"{self._url} answered {found} of {len(sequences)}")


# Past a proxy of the system.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def compare(ours: Endpoint, infinity: Endpoint) -> list[Row]:
    """All cases, in turns; the first round of each warms both."""
    rows = []
    for case in CASES:
        times = [
            [endpoint.seconds(case) for endpoint in (ours, infinity)]
            for _ in range(case.rounds + 1)
        ]
        mine, theirs = (1e3 * statistics.median(each) for each in zip(*times[1:], strict=True))
        ratio = statistics.median(one / other for one, other in times[1:])
        rows.append(Row(case.name, mine, theirs, ratio, case.limit))
    return rows


@contextmanager
def infinity_server(command: Path, tokenizer: Path, folder: Path) -> Iterator[Endpoint]:
    """infinity on a free port, with a model of bert-base geometry."""
    _save_bert(folder, tokenizer)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [
        *(os.fspath(command), "v2", "--model-id", os.fspath(folder), "--engine", "torch"),
        *("--device", "cpu", "--no-bettertransformer", "--host", "127.0.0.1", "--port", str(port)),
    ]
    offline = {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            arguments, env={**os.environ, **offline}, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process)
            yield Endpoint(f"http://127.0.0.1:{port}/embeddings", os.fspath(folder).lstrip("/"))
        finally:
            process.terminate()
            process.wait(60)


def _save_bert(folder: Path, tokenizer: Path) -> None:
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    BertModel(BertConfig(vocab_size=BERT_BASE["vocab_size"], pad_token_id=3)).save_pretrained(
        folder
    )
    specials = {
        f"{name}_token": f"[{name.upper()}]" for name in ("unk", "cls", "sep", "pad", "mask")
    }
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=os.fspath(tokenizer), model_max_length=512, **specials
    )
    fast.save_pretrained(folder)
    # transformers 5 names a class that infinity's does not have.
    settings = folder / "tokenizer_config.json"
    told = json.loads(settings.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings.write_text(json.dumps(told))


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.5)
        try:
            with _DIRECT.open(url, timeout=5):
                return
        except OSError:
            continue
    raise RuntimeError("infinity did not start")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--infinity", type=Path, required=True, help="the infinity_emb command")
    parser.add_argument(
        "--tokenizer", type=Path, required=True, help="a tokenizer.json of 32,000 tokens"
    )
    parser.add_argument("--bundle", type=Path, help="of bert-base geometry; default: built here")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="gena-benchmark-") as scratch, ExitStack() as stack:
        folder = Path(scratch)
        bundle = arguments.bundle or _build(folder, arguments.tokenizer)
        model = open_bundle(bundle).manifest.model
        threads = str(os.cpu_count() or 1)
        server = stack.enter_context(served(bundle, GENA_CACHE_BYTES="0", GENA_THREADS=threads))
        infinity = stack.enter_context(
            infinity_server(arguments.infinity, arguments.tokenizer, folder / "bert")
        )
        rows = compare(Endpoint(f"{server.url}/v1/embeddings", model), infinity)
        memory = sum(server.memory_mib().values())
    if arguments.json:
        print(json.dumps({"memory_mib": memory, "rows": [asdict(row) for row in rows]}, indent=1))
    else:
        _print(rows, memory)
    return 0 if memory <= MAX_MEMORY_MIB and all(r.ratio <= r.limit for r in rows) else 1


def _build(folder: Path, tokenizer: Path) -> Path:
    geometry: dict[str, Any] = {**BERT_BASE}
    checkpoint = make_checkpoint(
        folder / "checkpoint", layout="safetensors", tokenizer_file=tokenizer, **geometry
    )
    convert(str(checkpoint), output=folder / "bundle", options=BuildOptions(target="macos14"))
    return folder / "bundle"


def _print(rows: Sequence[Row], memory: float) -> None:
    print(f"{'':<40} {'ours ms':>9} {'infinity ms':>12}  ratio  limit")
    for row in rows:
        verdict = "met" if row.ratio <= row.limit else "MISSED"
        print(
            f"{row.case:<40} {row.ours_ms:>9.0f} {row.infinity_ms:>12.0f}  {row.ratio:>5.2f}  "
            f"{row.limit:.2f} {verdict}"
        )
    print(f"memory of server and model: {memory:.0f} MiB, at most {MAX_MEMORY_MIB:.0f}")


if __name__ == "__main__":
    sys.exit(main())
