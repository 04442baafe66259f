"""What reads as DNA and was hardly meant as DNA: pasted columns, missing values, proteins."""

import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.support.dna import dna
from tests.support.live_service import Service

PROTEIN = "MKVSAGTRHDMKVSAGTRHDWYCN"
TEXT = {"Content-Type": "text/plain"}


def problem(answer: httpx.Response, code: str) -> dict:
    found = answer.json()
    assert (answer.status_code, found["code"]) == (422, code)
    return found


@pytest.mark.parametrize("path", ["/features", "/embeddings", "/tokenize"])
def test_a_protein_of_letters_that_dna_has_too_is_refused(service: Service, path: str) -> None:
    body = f">p\n{PROTEIN}\n".encode()

    found = problem(service.post(path, content=body), "sequence.ambiguous")
    insisted = service.post(path, content=body, params={"ambiguous": "accept"})

    assert "Record 'p': 16 of its 24 letters (67%) are none of A, C, G, T and N." in found["detail"]
    assert "ambiguous=accept" in found["detail"]
    assert (found["record"], found["count"]) == ("p", 16)
    assert insisted.status_code == 200


def test_openais_clients_may_insist_too(service: Service) -> None:
    body = {"model": "lab/model", "input": [PROTEIN]}
    problem(service.post("/v1/embeddings", json=body), "sequence.ambiguous")
    assert service.post("/v1/embeddings", json={**body, "ambiguous": "accept"}).status_code == 200


@pytest.mark.parametrize(
    "sequence",
    [
        "GTGYCAGCMGCCGCGGTAA",  # primer 515F
        "GGACTACNVGGGTWTCTAAT",  # 806R
        "GGNTACCTTGTTACGACTT",
        "N" * 50,
        "NNNNNNACGTUUUU",
        dna(40).lower(),
    ],
)
def test_primers_runs_of_n_and_rna_are_dna(service: Service, sequence: str) -> None:
    assert service.post("/tokenize", json={"sequence": sequence}).status_code == 200


@pytest.mark.parametrize(
    ("value", "whose"),
    [("NA", "R"), ("nan", "Python"), ("NaN", "Python"), ("None", "Python"), ("-", "tables")],
)
def test_missing_values_are_refused_by_name(service: Service, value: str, whose: str) -> None:
    listed = service.post("/embeddings", json={"sequences": ["ACGT", value]})
    filed = service.post("/embeddings", content=f">a\nACGT\n>2\n{value}\n".encode())
    typed = service.post("/features", content=f"{value}\n".encode(), headers=TEXT)

    for answer in (listed, filed):
        found = problem(answer, "sequence.missing")
        assert f"Record '2' is '{value}', a missing value of {whose}" in found["detail"]
        assert found["record"] == "2"
    problem(typed, "sequence.missing")


def test_two_bases_can_be_written(service: Service) -> None:
    answer = service.post("/tokenize", json={"sequences": ["na", "NAN", "AN"]})
    assert [record["n_bases"] for record in answer.json()["records"]] == [2, 3, 2]


@pytest.mark.parametrize(
    ("text", "position"), [("a\tACGT", 2), ("ACGT \t GGCC", 6), ("AC\t\tGT", 3)]
)
def test_columns_are_refused_with_the_way_around(
    service: Service, text: str, position: int
) -> None:
    typed = service.post("/features", content=text.encode(), headers=TEXT)
    listed = service.post("/features", json={"sequence": text})

    for answer in (typed, listed):
        found = problem(answer, "sequence.invalid_letter")
        assert (found["position"], found["letter"]) == (position, "\t")
        assert "awk -F'\\t'" in found["detail"]


def test_a_tab_at_the_end_of_a_line_is_white_space(service: Service) -> None:
    answer = service.post("/tokenize", content=b"\tACGT\t\nGGCC \t\r\n", headers=TEXT)
    assert answer.json()["n_bases"] == 8


PASTED = "ATGGGTAAAGG\nTTAACC\nGGTTACGATCCC\n"


@pytest.mark.parametrize("path", ["/features", "/embeddings", "/tokenize"])
def test_a_pasted_column_is_answered_with_a_warning(service: Service, path: str) -> None:
    answer = service.post(path, content=PASTED.encode(), headers=TEXT)

    told = answer.headers["x-gena-warning"]
    assert "3 lines were read as one sequence" in told
    document = answer.json()
    (record,) = document.get("records", [document])
    assert record["warning"] in told


@pytest.mark.skipif(not shutil.which("awk"), reason="awk is not installed")
@pytest.mark.parametrize(
    ("lines", "content"),
    [("lines.txt", PASTED), ("table.tsv", "a\tATGGGTAAAGG\nb\tTTAACC\nc\tGGTTACGATCCC\n")],
)
def test_the_command_that_is_shown_makes_records(
    service: Service, tmp_path: Path, lines: str, content: str
) -> None:
    (tmp_path / lines).write_text(content)
    answer = service.post("/features", content=content.encode(), headers=TEXT)
    told = answer.headers.get("x-gena-warning") or answer.json()["detail"]

    command = told[told.index("awk") :]
    assert '"' not in command
    made = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=True).stdout
    made = made or (tmp_path / "genes.fa").read_bytes()

    records = service.post("/tokenize", content=made).json()["records"]
    assert [record["n_bases"] for record in records] == [11, 6, 12]


@pytest.mark.parametrize("width", [50, 60, 70, 80])
@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\n\n"])
def test_wrapped_sequences_are_no_columns(service: Service, width: int, line_break: str) -> None:
    sequence = dna(365)
    lines = [sequence[start : start + width] for start in range(0, 365, width)]
    for text in (line_break.join(lines), line_break.join([*lines, ""]), sequence + line_break):
        answer = service.post("/tokenize", content=text.encode(), headers=TEXT)
        assert "x-gena-warning" not in answer.headers
        assert "warning" not in answer.json()


def test_a_warning_names_the_record(service: Service) -> None:
    answer = service.post("/embeddings?format=npy", json={"sequences": ["ACGT", PASTED]})
    assert answer.headers["x-gena-warning"].startswith("Record '2': 3 lines were read as one")
