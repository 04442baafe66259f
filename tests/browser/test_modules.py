"""The page's arithmetic and parsers, run by the browser, compared with Python's."""

import io
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from converter.tokenizer import SequenceError, clean
from tests.support.running import Server

CODE = dict(
    zip(
        (a + b + c for a in "TCAG" for b in "TCAG" for c in "TCAG"),
        "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
        strict=True,
    )
)


@pytest.fixture(scope="module")
def tab(browser: Any, service: Server) -> Iterator[Any]:
    """One page for all: nothing here changes it."""
    page = browser.new_page()
    page.goto(service.url)
    yield page
    page.close()


def call(page: Any, module: str, expression: str, argument: Any = None) -> Any:
    """Evaluate `expression` of the module `m` and the argument `x`."""
    return page.evaluate(
        f"async ([path, x]) => {{ const m = await import(path); return {expression}; }}",
        [f"/static/{module}", argument],
    )


def test_cleaning_agrees_with_the_service(tab: Any) -> None:
    random_ = random.Random(3)
    # Few ambiguous letters, and no tab: what is implausible is another test's.
    dna = "ACGTUacgtu" * 9 + "RYSWKMBDHVNrn"
    white = " \n\r\v\f\x1c\x1f\x85\xa0\u2003\u200b\ufeff\u3000"
    foreign = "JXZ-*.>@1é\U0001f9ec\u0301\x00\u180e\u2060"
    texts = [
        "".join(random_.choices(dna + white * 2, k=random_.randrange(40, 200))) for _ in range(100)
    ] + ["".join(random_.choices(dna + white + foreign, k=60)) for _ in range(200)]
    answers = call(
        tab,
        "sequence.js",
        """x.map((text) => {
            const { kind, problem, records, folded, uracil, ambiguous } = m.examine(text);
            return { kind, problem, sequence: records[0]?.sequence, folded, uracil,
                     ambiguous: Array.from(ambiguous.values()).reduce((a, b) => a + b, 0) };
        })""",
        texts,
    )
    n_refused = 0
    for text, answer in zip(texts, answers, strict=True):
        if answer["kind"] == "fasta":
            continue
        try:
            expected = clean(text)
        except SequenceError as error:
            refused = error
        else:
            assert answer["problem"] is None
            assert (answer["sequence"] or "") == expected.sequence
            assert answer["folded"] == expected.n_lower_case
            assert answer["uracil"] == expected.n_uracil
            assert answer["ambiguous"] == expected.n_ambiguous
            continue
        n_refused += 1
        problem = answer["problem"]
        assert (problem["letter"], problem["position"]) == (refused.letter, refused.position)
        # `at` counts UTF-16 units, as the text field does.
        before = text[: refused.position - 1]
        assert problem["at"] == len(before.encode("utf-16-le")) // 2
    assert n_refused > 50


def test_what_is_implausible_is_what_the_service_refuses(tab: Any, service: Server) -> None:
    random_ = random.Random(4)
    texts = ["NA", " nan\n", "None", "-", "na", "NAN", "a\tAC", "AC \t\nGT", "\tA\t", "AC\t\tGT"]
    texts += ["".join(random_.choices("ACGTNRYSWKM", k=9)) for _ in range(60)]
    texts += ["ACGT\nAC\n\nGGT", "A" * 50 + "\n" + "C" * 50 + "\nGT"]
    expression = "x.map((text) => { const f = m.examine(text); return [f.problem, f.lines]; })"
    found = call(tab, "sequence.js", expression, texts)

    for text, (problem, lines) in zip(texts, found, strict=True):
        answer = service.http.post("/tokenize", json={"sequence": text})
        assert (answer.status_code == 422) == (problem is not None), text
        told = answer.headers.get("x-gena-warning", "0 lines")
        if problem is None:
            assert told.split()[0] == str(lines), text


UNSEEN = ["\ufeff", "\u200b", "\u00a0", "\u2003", "\u202e", "\u2800", "\x07", "\u00e9", "\u4e2d"]


@pytest.mark.parametrize("unseen", UNSEEN)
def test_what_cannot_be_seen_is_treated_as_by_the_service(
    tab: Any, service: Server, unseen: str
) -> None:
    texts = [
        f">a\nAC{unseen}GT\n",
        f">a\nACGT\n{unseen}>b\nAC\n",
        f">a\nACGT{unseen}\n{unseen}{unseen}GGG\n",
        f">a{unseen}b\nACGT\n",
        f">{unseen}\nACGT\n",
        f"\ufeff>a x{unseen}y\nACGT\n",
    ]
    expression = """x.map((text) => { const { problem, records } = m.examine(text);
        return problem ? null : records.map(({ id, sequence }) => [id, sequence.length]); })"""
    found = call(tab, "sequence.js", expression, texts)
    for text, read in zip(texts, found, strict=True):
        answer = service.http.post("/tokenize", content=text.encode())
        told = [[r["id"], r["n_bases"]] for r in answer.json().get("records", [])]
        assert read == (told if answer.status_code == 200 else None), ascii(text)


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
def test_fasta_is_split_as_dnaio_does(tab: Any, line_break: str) -> None:
    import dnaio

    lines = ["", ">one first gene", "ACGT", "", "acgn ", ">two", ">three\tx", "AA", "CC", ""]
    text = line_break.join(lines)
    found = call(
        tab,
        "sequence.js",
        "m.examine(x).records.map(({ id, sequence }) => [id, sequence])",
        text,
    )
    with dnaio.FastaReader(io.BytesIO("\n".join(lines).encode())) as reader:
        expected = [[record.id, clean(record.sequence).sequence] for record in reader]
    assert found == expected
    problem = call(tab, "sequence.js", "m.examine(x).problem.message", text)
    assert problem == "Record “two” has no sequence."


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (">a\nACGT\n>a\nAC\n", "Two records are called “a”."),
        (">a\nACGT\n>\nAC\n", "Record 2 has no name after “>”."),
        ("ACGT\n>a\nAC", "“>” at position 6 is not a DNA letter. FASTA has its first"),
        ("AC\x00GT", "U+0000 at position 3"),
    ],
)
def test_what_is_wrong_with_a_text_is_a_sentence(tab: Any, text: str, complaint: str) -> None:
    message = call(tab, "sequence.js", "m.examine(x).problem.message", text)
    assert message.startswith(complaint)


def test_the_examples_are_what_they_say(tab: Any) -> None:
    """The genes read as proteins: start, no stop before the end. The pieces lie as GenBank says."""
    region, genes = call(tab, "example.js", "[m.SWITCH_FASTA, m.GENES_FASTA]")
    records = {part.split()[0]: "".join(part.splitlines()[1:]) for part in genes.split(">") if part}
    assert {name: len(sequence) for name, sequence in records.items() if "_" not in name} == {
        "cI": 714,
        "cro": 201,
        "cII": 294,
    }
    for name in ("cI", "cro", "cII"):
        sequence = records[name]
        protein = "".join(CODE[sequence[i : i + 3]] for i in range(0, len(sequence), 3))
        assert (protein[0], protein.index("*")) == ("M", len(protein) - 1)
        pairs = str.maketrans("ACGT", "TGCA")
        assert records[f"{name}_reverse"] == sequence.translate(pairs)[::-1]
    switch = "".join(region.splitlines()[1:])
    assert len(switch) == 38653 - 37741 + 1
    assert switch.index(records["cro"]) == 38041 - 37741
    assert switch.index(records["cII"]) == 38360 - 37741


def test_npz_is_read_as_numpy_wrote_it(tab: Any) -> None:
    generator = np.random.default_rng(1)
    arrays = {
        "features": generator.normal(size=(2, 3, 5)).astype(np.float32),
        "ids": generator.integers(-(2**31), 2**31, 7).astype(np.int32),
        "offsets": generator.integers(-(2**52), 2**52, (4, 2)),
        "names": np.array(["one", "zwölf", "\U0001f9ec", ""]),
        "model": np.array("gena-mini"),
        "none": np.array([], dtype=np.str_),
    }
    file = io.BytesIO()
    np.savez(file, **arrays)
    found = call(
        tab,
        "npy.js",
        """Array.from(m.unzipStored(new Uint8Array(x).buffer), ([name, bytes]) => {
            const { shape, data } = m.parseNpy(bytes);
            return [name, shape, Array.from(data)];
        })""",
        list(file.getvalue()),
    )
    assert [name for name, *_ in found] == list(arrays)
    for name, shape, data in found:
        assert tuple(shape) == arrays[name].shape
        assert data == arrays[name].ravel().tolist()


def test_a_cut_npz_is_an_error(tab: Any) -> None:
    file = io.BytesIO()
    np.savez(file, features=np.zeros(100))
    with pytest.raises(Exception, match="ended early"):
        call(tab, "npy.js", "m.unzipStored(new Uint8Array(x).buffer)", list(file.getvalue()[:-30]))


@pytest.mark.parametrize("shape", [[6], [2, 3]])
def test_numpy_reads_what_the_page_writes(tab: Any, shape: list[int]) -> None:
    values = np.arange(6, dtype=np.float32) / 7
    written = call(
        tab,
        "npy.js",
        "Array.from(m.toNpy(Float32Array.from(x.values), x.shape))",
        {"values": values.tolist(), "shape": shape},
    )
    np.testing.assert_array_equal(np.load(io.BytesIO(bytes(written))), values.reshape(shape))


def test_decimals_name_one_float32(tab: Any) -> None:
    bits = np.random.default_rng(2).integers(0, 2**32, 2000, dtype=np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    texts = call(
        tab, "downloads.js", "x.map((value) => m.shortest(Math.fround(value)))", values.tolist()
    )
    np.testing.assert_array_equal(np.array(texts).astype(np.float64).astype(np.float32), values)


@pytest.mark.parametrize("centred", [False, True])
def test_cosine_agrees_with_numpy(tab: Any, centred: bool) -> None:
    values = np.random.default_rng(3).normal(1, 1, (9, 20)).astype(np.float32)
    values[4] = 0
    found = call(
        tab,
        "analysis.js",
        "Array.from(m.cosine(Float32Array.from(x.values), 9, 20, x.mean))",
        {
            "values": values.ravel().tolist(),
            "mean": values.mean(axis=0, dtype=np.float64).tolist() if centred else None,
        },
    )
    exact = values.astype(np.float64)
    exact -= exact.mean(axis=0) * centred
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    unit = exact / np.where(norms > 0, norms, 1)
    np.testing.assert_allclose(np.reshape(found, (9, 9)), unit @ unit.T, atol=2e-6)


def principal(page: Any, values: Any) -> tuple[Any, Any]:
    rows, columns = values.shape
    found = call(
        page,
        "analysis.js",
        """(({ points, explained }) => [Array.from(points), explained])(
            m.principalComponents(Float32Array.from(x.values), x.rows, x.columns))""",
        {"values": values.ravel().tolist(), "rows": rows, "columns": columns},
    )
    return np.reshape(found[0], (rows, 2)), np.array(found[1])


@pytest.mark.parametrize(("rows", "columns"), [(2, 5), (3, 768), (40, 30), (300, 64)])
def test_the_map_agrees_with_numpy(tab: Any, rows: int, columns: int) -> None:
    generator = np.random.default_rng(rows)
    values = generator.normal(size=(rows, columns)) * np.geomspace(5, 0.1, columns)
    values = (values + generator.normal(size=columns) * 50).astype(np.float32)
    points, explained = principal(tab, values)
    exact = values.astype(np.float64) - values.astype(np.float64).mean(axis=0)
    left, singular, _ = np.linalg.svd(exact, full_matrices=False)
    expected = left[:, :2] * singular[:2]
    expected *= np.where((expected * points).sum(axis=0) < 0, -1, 1)
    np.testing.assert_allclose(points, expected, atol=2e-3 * singular[0])
    peaks = np.abs(points).argmax(axis=0)
    assert (points[peaks, [0, 1]] >= 0).all()
    np.testing.assert_allclose(explained, (singular**2 / (singular**2).sum())[:2], atol=1e-4)


@pytest.mark.parametrize(
    ("values", "shares"),
    [
        (np.eye(3), [0.5, 0.5]),  # equal eigenvalues
        (np.ones((4, 6)), [0, 0]),  # the same record four times
        (np.outer(np.arange(5), np.ones(3)), [1, 0]),  # all on one line
        (np.ones((1, 4)), [0, 0]),
    ],
)
def test_the_map_of_degenerate_records_has_numbers(tab: Any, values: Any, shares: Any) -> None:
    points, explained = principal(tab, values.astype(np.float32))
    assert np.isfinite(points).all()
    np.testing.assert_allclose(explained, shares, atol=1e-5)


@pytest.mark.parametrize(
    ("count", "shape"),
    [(768, [24, 32]), (1024, [32, 32]), (64, [8, 8]), (312, [13, 24]), (131, [10, 14])],
)
def test_mosaics_are_near_rectangular(tab: Any, count: int, shape: list[int]) -> None:
    found = call(tab, "matrix-plot.js", "m.mosaicShape(x)", count)
    assert found == shape
    assert found[0] * found[1] >= count
