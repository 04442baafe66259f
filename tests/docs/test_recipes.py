"""docs/recipes.md as it is pasted: every section runs against a server, and its files are right."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from converter.bundle.opening import Bundle
from tests.support.pasted import COMMANDS, Block, run_block, sections
from tests.support.paths import ROOT
from tests.support.running import Server, running

PAGE = ROOT / "docs" / "recipes.md"
SERVE = (sys.executable, "-m", "app.cli", "serve")
FILES = "Files that are used here"
KEY = "a key of the test"
SEQUENCE = "ATGGCGTACGTTAGCATCGATCGATTACGGCTA"
REVERSED = SEQUENCE[::-1].translate(str.maketrans("ACGT", "TGCA"))

pytestmark = [
    pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed"),
    pytest.mark.skipif(not shutil.which("gzip"), reason="gzip is not installed"),
]


SECTIONS = sections(PAGE)


def run(block: Block, folder: Path, url: str, key: str) -> str:
    """What it printed; fails with that when its exit status is not 0."""
    # The page's address is the default; a test cannot count on that port being free.
    code = block.code.replace("http://127.0.0.1:8000", url)
    return run_block(replace(block, code=code), folder, {"GENA_API_KEY": key})


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle) -> Iterator[Server]:
    options = ("--bundle", str(tiny_bundle.path), "--threads", "1")
    with running((*SERVE, *options), GENA_API_KEY=KEY) as started:
        started.http.headers["X-API-Key"] = KEY
        started.wait_for("ready")
        yield started


@pytest.fixture
def starting_server(tiny_bundle: Bundle) -> Iterator[Server]:
    """Asks for no key, and is not waited for."""
    options = ("--bundle", str(tiny_bundle.path), "--threads", "1")
    with running((*SERVE, *options)) as started:
        yield started


@pytest.fixture(scope="module")
def open_server(tiny_bundle: Bundle) -> Iterator[Server]:
    """Asks for no key."""
    options = ("--bundle", str(tiny_bundle.path), "--threads", "1")
    with running((*SERVE, *options)) as started:
        started.wait_for("ready")
        yield started


@dataclass
class Done:
    """A section that has run: its folder, what each block printed, and the server."""

    folder: Path
    printed: list[str]
    http: httpx.Client

    def npy(self, name: str) -> np.ndarray:
        return np.load(self.folder / name)

    def table(self, name: str) -> tuple[list[str], np.ndarray]:
        rows = [line.split("\t") for line in (self.folder / name).read_text().splitlines()]
        return [row[0] for row in rows[1:]], np.array([row[1:] for row in rows[1:]], float)

    def features(self, sequence: str) -> np.ndarray:
        """(n_tokens, H) by the JSON route."""
        answer = self.http.post("/features", json={"sequence": sequence}).json()
        return np.array(answer["features"], np.float32)[0, : answer["n_tokens"]]

    def genes(self) -> dict[str, str]:
        text = (self.folder / "genes.fa").read_text()
        parts = [part.partition("\n") for part in text.split(">")[1:]]
        return {head.split()[0]: body.replace("\n", "") for head, _, body in parts}

    def means(self) -> np.ndarray:
        """(20, H): mean of each gene's rows, without the specials."""
        rows = [self.features(sequence)[1:-1] for sequence in self.genes().values()]
        return np.array([each.mean(axis=0) for each in rows])


def same(one: np.ndarray, other: np.ndarray) -> None:
    assert one.shape == other.shape
    np.testing.assert_allclose(one, other, atol=1e-5)


def check_waiting(done: Done) -> None:
    assert done.printed == ["ready\n"]


def check_one(done: Done) -> None:
    rows = done.features(SEQUENCE)
    answered = done.npy("one.npy")
    same(answered[0, : len(rows)], rows)
    assert answered.shape == (1, 512, 64)
    assert not answered[0, len(rows) :].any()
    assert "x-gena-fingerprint" in done.printed[0].lower()
    assert done.printed[1] == f"(1, 512, 64) ({len(rows) - 2}, 64)\n"
    same(done.npy("from_python.npy"), rows)
    if (done.folder / "one_corner.tsv").exists():
        same(np.loadtxt(done.folder / "one_corner.tsv"), rows[:3, :4])


def check_r(done: Done) -> None:
    ids, vectors = done.table("genes.tsv")
    assert ids == list(done.genes())
    same(vectors, done.means())
    if not (done.folder / "pca.tsv").exists():
        return
    assert (done.folder / "genes.pdf").read_bytes().startswith(b"%PDF")
    rotated = [line.split("\t") for line in (done.folder / "pca.tsv").read_text().splitlines()]
    assert [row[0] for row in rotated[1:]] == ids
    left, sizes, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    found = np.array([row[1:] for row in rotated[1:]], float)
    same(np.abs(found), np.abs(left[:, :2] * sizes[:2]))


def check_compressed(done: Done) -> None:
    for name in ("body.tsv", "form.tsv"):
        ids, vectors = done.table(name)
        assert ids == list(done.genes())
        same(vectors, done.means())


def _context(candidate: tuple[float, int, np.ndarray]) -> tuple[float, int]:
    return candidate[:2]


def check_windows(done: Done) -> None:
    answer = np.load(done.folder / "long.npz")
    windows = answer["windows"]
    assert len(windows) > 2
    assert windows[0, 4] == 0
    assert windows[-1, 5] == 8000
    assert (windows[:-1, 3] - windows[1:, 2] == 100).all()
    # Where two windows overlap, each token's row is from the one in which it has more context.
    best = {}
    for (_, _, first, end, _, _), features in zip(windows, answer["features"], strict=True):
        for token in range(first, end):
            at_start, at_end = first == 0, end == windows[-1, 3]
            context = min(
                np.inf if at_start else token - first, np.inf if at_end else end - 1 - token
            )
            row = features[1 + token - first]
            best[token] = max(best.get(token, (-1, 0, row)), (context, first, row), key=_context)
    _, vector = done.table("long.tsv")
    same(vector[0], np.mean([row for _, _, row in best.values()], axis=0, dtype=float))
    first_base, end_base = answer["offsets"][1, 10]
    assert f"{first_base} {end_base}" in done.printed[1]
    _, each = done.table("windows.tsv")
    assert each[:, :3].astype(int).tolist() == windows[:, [1, 4, 5]].tolist()


def check_bases(done: Done) -> None:
    sequence = "ATGGCGTACGTTNNNAGCATCGATCGATTACGGCTA"
    rows = done.features(sequence)
    tokens = done.http.post("/tokenize", json={"sequence": sequence}).json()
    bases = done.npy("bases.npy")
    assert bases.shape == (len(sequence), 64)
    for row, (first, end) in zip(rows[1:-1], tokens["offsets"][1:-1], strict=True):
        for base in bases[first:end]:
            same(base, row)


def check_strands(done: Done) -> None:
    same(done.npy("forward.npy"), done.features(SEQUENCE)[1:-1].mean(axis=0))
    same(done.npy("reverse.npy"), done.features(REVERSED)[1:-1].mean(axis=0))
    assert float(done.printed[1]) < 1e-5


def check_arrow(done: Done) -> None:
    lines = done.printed[1].splitlines()
    assert lines[0].endswith(done.http.get("/health").json()["fingerprint"])
    means = done.means()
    vectors = means / np.linalg.norm(means, axis=1)[:, None]
    similarity = vectors @ vectors.T - 3 * np.eye(20)
    ids = list(done.genes())
    nearest = [ids[index] for index in similarity.argmax(axis=1)]
    expected = [f"{gene} is nearest to {near}" for gene, near in zip(ids, nearest, strict=True)]
    assert lines[1:] == expected


def check_openai(done: Done) -> None:
    n_tokens = sum(len(done.features(each)) for each in ("ATGGCGTACGTTAGC", "TTGACATATAAT"))
    assert done.printed[0].split()[:2] == ["2", "64"]
    assert n_tokens <= int(done.printed[0].split()[2]) <= 2 * n_tokens + 8


def check_bad(done: Done) -> None:
    problem = json.loads(done.printed[0])
    assert (problem["record"], problem["position"], problem["letter"]) == ("bad", 10, "X")
    assert done.printed[1] == f"422 {problem['code']} bad 10 X\n"
    assert done.printed[3].startswith(f"['good']\nbad {problem['code']} ")


def check_tokens(done: Done) -> None:
    assert "[CLS] 0 0" in done.printed[1]
    assert "'lower_case': 19, 'uracil': 1" in done.printed[1]


def check_key(done: Done) -> None:
    same(done.npy("with_key.npy"), done.features("ATGGCGTACGTTAGC")[1:-1].mean(axis=0))


def check_provenance(done: Done) -> None:
    results = np.load(done.folder / "results.npz")
    assert str(results["fingerprint"]) == done.http.get("/health").json()["fingerprint"]
    assert results["ids"].tolist() == list(done.genes())
    same(results["vectors"], done.means())


CHECKS: dict[str, Callable[[Done], None]] = {
    "Wait until the model is there": check_waiting,
    "One sequence": check_one,
    "A FASTA file into R: one vector a gene, PCA, plot": check_r,
    "A compressed file": check_compressed,
    "A gene that is longer than one window": check_windows,
    "Features of every base": check_bases,
    "The other strand, and both": check_strands,
    "Many records into Arrow": check_arrow,
    "OpenAI's client": check_openai,
    "Which record is bad?": check_bad,
    "What will the tokenizer make of it?": check_tokens,
    "With an API key": check_key,
    "Keep with the results what made them": check_provenance,
}
# The others run on one that needs no key and is ready.
SERVERS = {"Wait until the model is there": "starting_server", "With an API key": "server"}


def test_every_section_is_checked() -> None:
    assert list(SECTIONS) == [FILES, *CHECKS]
    assert {block.language for blocks in SECTIONS.values() for block in blocks} == set(COMMANDS)


@pytest.mark.parametrize("heading", CHECKS, ids=lambda heading: quote(heading[:24], safe=" "))
def test_a_recipe_works_as_pasted(heading: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue("tmp_path")
    with_key = heading == "With an API key"
    server: Server = request.getfixturevalue(SERVERS.get(heading, "open_server"))
    printed, skipped = [], False
    for block in [*SECTIONS[FILES], *SECTIONS[heading]]:
        if block.language == "r" and not shutil.which("Rscript"):
            skipped = True
            continue
        printed.append(run(block, folder, server.url, KEY if with_key else ""))
    CHECKS[heading](Done(folder, printed[1:], server.http))
    if skipped:
        pytest.skip("its R blocks did not run (Rscript is not installed); the others passed")


@pytest.mark.skipif(not shutil.which("Rscript"), reason="R is not installed")
def test_the_reader_in_r_takes_the_type_from_the_file(tmp_path: Path) -> None:
    (reader,) = [block for block in SECTIONS["One sequence"] if block.language == "r"]
    definition = reader.code.partition("\nfeatures")[0]
    for dtype in ("<f4", "<f8"):
        np.save(tmp_path / "some.npy", np.arange(6, dtype=dtype).reshape(1, 2, 3) / 4)
        code = definition + '\ncat(sprintf("%.2f", read_npy("some.npy")[1, 2, ]))'
        assert run(Block("r", code), tmp_path, "", "") == "0.75 1.00 1.25"
    np.save(tmp_path / "some.npy", np.zeros((1, 2), "<f2"))
    code = definition + '\ncat(tryCatch(read_npy("some.npy"), error = conditionMessage))'
    assert run(Block("r", code), tmp_path, "", "") == "R reads float32 and float64 only"


def test_the_readmes_requests_need_no_file_of_the_project(
    open_server: Server, tmp_path: Path
) -> None:
    asking = (ROOT / "README.md").read_text().partition("\n## Ask\n")[2].partition("\n## ")[0]
    for code in re.findall(r"^```bash\n(.*?)^```$", asking, re.MULTILINE | re.DOTALL):
        address = open_server.url.removeprefix("http://")
        printed = run(Block("bash", code.replace("127.0.0.1:8000", address)), tmp_path, "", "")
        assert len(printed) <= 1500
    assert np.load(tmp_path / "features.npy").shape == (1, 512, 64)
    assert (tmp_path / "genes.tsv").read_text().count("\n") == 3
    assert (tmp_path / "example.fa").read_bytes() == (ROOT / "docs" / "aph.fa").read_bytes()
