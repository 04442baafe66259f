"""Records made ready: complements by IUPAC's table, work given up, an event loop left alone."""

import asyncio
import threading
import time
import tracemalloc

import pytest

from app.inference.prepare import prepare, reverse_complement
from app.requests.bodies import AbandonedError
from app.requests.limits import Limits
from app.requests.options import Choices
from app.requests.submitted import Submitted
from converter.tokenizer import DnaTokenizer
from tests.support.dna import dna
from tests.support.hostile import panicking_tokenizer

LIMITS = Limits(records=100, record_bases=5_000_000, tokens=5_000_000, json_bytes=5_000_000)
# What each letter may stand for, by the nomenclature of IUPAC.
IUPAC = {
    "A": "A", "C": "C", "G": "G", "T": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT",
    "K": "GT", "M": "AC", "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
PAIRS = dict(zip("ACGT", "TGCA", strict=True))


@pytest.mark.parametrize("letter", IUPAC)
def test_a_complement_stands_for_the_partners_of_what_the_letter_stands_for(letter):
    (complement,) = reverse_complement(letter)

    assert set(IUPAC[complement]) == {PAIRS[base] for base in IUPAC[letter]}


def test_the_other_strand_is_read_backwards():
    assert reverse_complement("AACGN") == "NCGTT"


def test_work_that_nobody_wants_ends_at_the_next_record(truth):
    stop = threading.Event()
    read = []

    def records():
        for n in range(10):
            if n == 3:
                stop.set()
            read.append(n)
            yield Submitted(str(n), "ACGT")

    with pytest.raises(AbandonedError):
        prepare(
            records(),
            DnaTokenizer(truth.tokenizer_file),
            Choices(),
            LIMITS,
            single=False,
            stop=stop,
        )

    assert read == [0, 1, 2, 3]


def test_work_that_nobody_wants_ends_between_two_strands(truth, monkeypatch):
    stop = threading.Event()
    tokenizer = DnaTokenizer(truth.tokenizer_file)
    encode, encoded = tokenizer.encode, []

    def encode_and_leave(sequence):
        stop.set()
        encoded.append(sequence)
        return encode(sequence)

    monkeypatch.setattr(tokenizer, "encode", encode_and_leave)
    choices = Choices(pooling="mean", strand="both")
    with pytest.raises(AbandonedError):
        prepare([Submitted("1", "AACG")], tokenizer, choices, LIMITS, single=True, stop=stop)

    assert encoded == ["AACG"]


def test_sequences_of_skipped_records_are_not_kept(truth):
    tokenizer = DnaTokenizer(truth.tokenizer_file)
    n_bases, n_records = 1_000_000, 20
    submitted = (
        Submitted(str(n), "A" * min(n, 1) * n_bases + "X" * n + "A") for n in range(n_records)
    )
    choices = Choices(on_error="skip")
    tracemalloc.start()
    try:
        prepared = prepare(
            submitted, tokenizer, choices, LIMITS, single=False, stop=threading.Event()
        )
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(prepared.skipped) == n_records - 1
    assert kept < 2 * n_bases
    prepared.close()


def test_tokenizing_leaves_the_event_loop_alone(truth):
    submitted = [Submitted("1", dna(400_000))]
    tokenizer = DnaTokenizer(truth.tokenizer_file)

    def work() -> float:
        began = time.perf_counter()
        choices = Choices(overflow="window")
        prepare(submitted, tokenizer, choices, LIMITS, single=True, stop=threading.Event()).close()
        return time.perf_counter() - began

    async def measure() -> tuple[float, float]:
        longest, last = 0.0, time.perf_counter()
        task = asyncio.create_task(asyncio.to_thread(work))
        while not task.done():
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        return longest, await task

    longest, whole = asyncio.run(measure())

    assert longest < 0.6 * whole


def test_a_panic_of_the_tokenizers_library_is_an_error_of_its_request(service, monkeypatch, caplog):
    tokenizer = service.lifecycle.ready_model().tokenizer
    with monkeypatch.context() as patch:
        patch.setattr(tokenizer, "_tokenizer", panicking_tokenizer())
        for route in ("/features", "/tokenize"):
            answer = service.post(route, json={"sequence": "GATTACA" * 100})

            assert answer.status_code == 500
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["code"] == "internal"

    assert "GATTACA" not in caplog.text
    assert service.post("/features", json={"sequence": "GATTACA" * 100}).status_code == 200
