"""Step: many requests at a time, for minutes: each is answered, as fast at the end as at first?"""

import http.client
import io
import random
import threading
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray

from app.doctor.findings import Load
from app.doctor.serving import Connection, Server, health, resident_mib, serving
from app.doctor.visit import Visit
from converter.fidelity.gates import ON_DEVICE, compare
from converter.measuring import percentile

# Bases of a request: some 10, 100, and 500 tokens.
_SIZES = (60, 600, 2800)
_QUESTION = "ACGTTGCAAT" * 20
# So often, the question that is always the same.
_EVERY = 10
_MOST_GROWTH_MIB = 48.0
_SAMPLES = 40
_MOST_KINDS = 10


@dataclass
class _Tally:
    """What the clients saw."""

    first: NDArray[np.float32]
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)
    milliseconds: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)


def examine_load(visit: Visit) -> Generator[Load, None, None]:
    """Clients that send their next request when the last was answered; nothing is cached."""
    with serving(visit, "load") as server:
        found = Load(**server.facts(), clients=visit.clients)
        tally = _Tally(_features(Connection(server.port).features(_QUESTION).body))
        clients = [
            threading.Thread(target=_client, args=(server.port, number, tally), daemon=True)
            for number in range(visit.clients)
        ]
        began = time.monotonic()
        samples: list[dict[str, float | None]] = []
        try:
            for client in clients:
                client.start()
            while (taken := time.monotonic() - began) < visit.load_seconds:
                time.sleep(min(visit.load_seconds / _SAMPLES, visit.load_seconds - taken))
                samples.append(_memory(visit, server))
                found = _tallied(found, tally, time.monotonic() - began)
                visit.say(
                    f"{found.seconds:.0f} of {visit.load_seconds:g} s: {found.requests} answers"
                )
                yield found
        finally:
            tally.stop.set()
        for client in clients:
            client.join(60)
        found = _tallied(found, tally, time.monotonic() - began)
        found = found.model_copy(update={"log": server.warnings()})
        yield _judged(found, tally, samples, health(server.port).get("restarts"))


def _client(port: int, number: int, tally: _Tally) -> None:
    generator = random.Random(number)
    connection = Connection(port)
    count = 0
    while not tally.stop.is_set():
        count += 1
        same = count % _EVERY == 0
        dna = _QUESTION if same else "".join(generator.choices("ACGT", k=generator.choice(_SIZES)))
        began = time.perf_counter()
        try:
            answer = connection.features(dna)
        except (OSError, http.client.HTTPException) as error:
            _fault(tally, type(error).__name__)
            continue
        taken = 1000 * (time.perf_counter() - began)
        if answer.status != 200:
            _fault(tally, f"status {answer.status}")
        elif same and ON_DEVICE.judge(compare(tally.first, _features(answer.body))) == "refused":
            _fault(tally, "another answer to the same question")
        else:
            with tally.lock:
                tally.milliseconds.append(taken)


def _fault(tally: _Tally, what: str) -> None:
    with tally.lock:
        tally.faults[what] += 1
    tally.stop.wait(0.1)  # of a server that is gone there are thousands a second


def _features(body: bytes) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = np.load(io.BytesIO(body))[0]
    return rows


def _memory(visit: Visit, server: Server) -> dict[str, float | None]:
    output = visit.output("ps")
    return {
        "server": resident_mib(server.process.pid, output),
        "model": resident_mib(server.model_pid(), output),
    }


def _tallied(found: Load, tally: _Tally, seconds: float) -> Load:
    with tally.lock:
        times = list(tally.milliseconds)
    if not times:
        return found.model_copy(update={"seconds": round(seconds, 1)})
    tenth, ascending = max(1, len(times) // 10), sorted(times)
    figures = {
        "median_ms": median(times),
        "p95_ms": percentile(ascending, 95),
        "longest_ms": ascending[-1],
        "first_median_ms": median(times[:tenth]),
        "last_median_ms": median(times[-tenth:]),
        "seconds": seconds,
    }
    rounded = {name: round(figure, 1) for name, figure in figures.items()}
    return found.model_copy(update={**rounded, "requests": len(times)})


def _judged(
    found: Load, tally: _Tally, samples: list[dict[str, float | None]], restarts: int | None
) -> Load:
    """With what can be said at the end."""
    problems = [f"{n} x {what}." for what, n in tally.faults.most_common(_MOST_KINDS)]
    if not found.requests:
        problems.append("Nothing was answered.")
    if restarts:
        problems.append(f"The model was restarted {restarts} times.")
    third = len(samples) // 3
    figures: dict[str, float] = {}
    for name in ("server", "model"):
        known = [sample[name] for sample in samples]
        values = [each for each in known if each is not None]
        if len(values) < len(samples) or not third:
            continue
        growth = median(values[-third:]) - median(values[third : 2 * third])
        figures[f"{name}_mib"] = values[-1]
        if name == "model":
            figures["model_growth_mib"] = round(growth, 1)
        if growth > _MOST_GROWTH_MIB:
            problems.append(f"The memory of the {name}'s process grew by {growth:.0f} MiB.")
    return found.model_copy(update={**figures, "problems": tuple(problems)})
