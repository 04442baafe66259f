"""docs/embeddings.md as it is pasted: one small genome, embedded once, and every way to read it."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from converter.bundle.opening import Bundle
from tests.support.pasted import COMMANDS, Block, put_command, run_block, sections
from tests.support.paths import ROOT
from tests.support.stand_in_arrow import install_stand_in, r_has_arrow

PAGE = ROOT / "docs" / "embeddings.md"
SECTIONS = sections(PAGE)
FILES = "Files that are used here"


@dataclass(frozen=True)
class Made:
    """The folder of the page's files, and what the blocks run in."""

    folder: Path
    environment: dict[str, str]

    def run(self, block: Block) -> str:
        return run_block(block, self.folder, self.environment)

    def rows(self, name: str) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = pq.read_table(self.folder / name).to_pylist()
        return rows

    def vectors(self, name: str = "places.parquet") -> np.ndarray:
        return np.array([row["embedding"] for row in self.rows(name)], float)

    def bed(self) -> list[list[str]]:
        return [line.split("\t") for line in (self.folder / "places.bed").read_text().splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Made:
    folder = tmp_path_factory.mktemp("embeddings")
    code = f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m app.cli "$@"\n'
    put_command(folder / "bin", "gena", code)
    environment = {
        "PATH": str(folder / "bin"),
        "GENA_BUNDLE": str(tiny_bundle.path),
        "OMP_NUM_THREADS": "1",
    }
    files = Made(folder, environment)
    for block in SECTIONS[FILES]:
        files.run(block)
    return files


def test_the_files_are_what_the_page_says(made: Made) -> None:
    places = made.rows("places.parquet")
    found = [[str(row[name]) for name in ("record", "start", "end", "name")] for row in places]
    assert found == [line[:4] for line in made.bed()]
    assert [row["strand"] for row in places] == [line[5] for line in made.bed()]
    windows = [(row["record"], row["start"], row["end"]) for row in made.rows("windows.parquet")]
    starts = range(0, 20000, 1000)
    assert windows == [(name, s, s + 1000) for name in ("chr1", "chr2") for s in starts]
    assert made.vectors().shape == (80, 64)


def check_pyarrow(made: Made, printed: list[str]) -> None:
    said = json.loads(pq.read_schema(made.folder / "places.parquet").metadata[b"gena-coreml"])
    assert printed[0] == f"(80, 64) float32\n{said['model']} {said['fingerprint']}\n"
    assert printed[1] == "40000\n"


def check_pandas(_made: Made, printed: list[str]) -> None:
    lines = [line.split() for line in printed[0].splitlines()]
    assert lines[0] == ["(80,", "64)"]
    counted = [line[-2:] for line in lines[2:6]]
    assert counted == [["other", "20"], ["promoter", "20"]] * 2


def check_polars(_made: Made, printed: list[str]) -> None:
    assert printed[0].startswith("(80, 64)\n")
    assert printed[0].count("20") >= 4


def check_r(made: Made, printed: list[str]) -> None:
    assert printed[0] == "[1] 80 64\n"
    assert (made.folder / "places_r.pdf").read_bytes().startswith(b"%PDF")
    rows = [line.split("\t") for line in (made.folder / "pca_r.tsv").read_text().splitlines()]
    assert [row[0] for row in rows[1:]] == [line[3] for line in made.bed()]
    same_axes(np.array([row[1:] for row in rows[1:]], float), made.vectors())


def check_duckdb(made: Made, printed: list[str]) -> None:
    assert "cosine" in printed[0]
    places = made.rows("places.parquet")
    wanted = next(row for row in places if row["name"] == "promoter_1")
    cosines = {row["name"]: cosine(row, wanted) for row in places if row is not wanted}
    lines = [line.split(",") for line in (made.folder / "nearest.csv").read_text().splitlines()]
    assert lines[0] == ["record", "start", "end", "strand", "name", "cosine"]
    nearest = sorted(cosines, key=lambda name: -cosines[name])[:5]
    assert [line[4] for line in lines[1:]] == nearest
    graph = (made.folder / "like_promoter_1.bedgraph").read_text().splitlines()
    for line, row in zip(graph, made.rows("windows.parquet"), strict=True):
        *place, value = line.split("\t")
        assert place == [str(row[name]) for name in ("record", "start", "end")]
        assert float(value) == pytest.approx(cosine(row, wanted), abs=1e-5)


def check_map(made: Made, _printed: list[str]) -> None:
    assert (made.folder / "map.png").read_bytes().startswith(b"\x89PNG")
    same_axes(np.load(made.folder / "points.npy"), made.vectors())


def check_probe(_made: Made, printed: list[str]) -> None:
    scores = {what: float(score) for what, score in map(str.split, printed[0].splitlines())}
    assert set(scores) == {"embedding", "GC"}
    # The page's promoters are rich in A and T: whoever can count sees them.
    assert scores["GC"] > 0.9
    assert scores["embedding"] > 0.8


def cosine(one: dict[str, object], other: dict[str, object]) -> float:
    a, b = np.array(one["embedding"], float), np.array(other["embedding"], float)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def same_axes(found: np.ndarray, vectors: np.ndarray) -> None:
    left, sizes, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    expected = np.abs(left[:, :2] * sizes[:2])
    np.testing.assert_allclose(np.abs(found), expected, atol=1e-4 * expected.max())


CHECKS: dict[str, Callable[[Made, list[str]], None]] = {
    "pyarrow": check_pyarrow,
    "pandas": check_pandas,
    "polars": check_polars,
    "R": check_r,
    "DuckDB: what is like this promoter?": check_duckdb,
    "A map: PCA": check_map,
    "A linear probe: do the vectors know it?": check_probe,
}


def test_every_section_is_checked() -> None:
    assert list(SECTIONS) == [FILES, *CHECKS]
    assert {block.language for blocks in SECTIONS.values() for block in blocks} == set(COMMANDS)


@pytest.mark.parametrize("heading", CHECKS, ids=lambda heading: heading[:10].strip())
def test_a_recipe_works_as_pasted(heading: str, made: Made) -> None:
    if heading == "R":
        if not shutil.which("Rscript"):
            pytest.skip("R is not installed")
        if not r_has_arrow():
            library = install_stand_in(made.folder / "r")
            made = replace(made, environment={**made.environment, "R_LIBS": str(library)})
    CHECKS[heading](made, [made.run(block) for block in SECTIONS[heading]])
