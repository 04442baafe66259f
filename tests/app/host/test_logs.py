"""Log lines: format, rotation, no DNA."""

import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.host.logs import configure_logging
from app.settings import Settings


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def written(log: Path) -> str:
    """What is in a file once the lines that wait are in it."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    return log.read_text()


def test_json_lines_carry_their_fields(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "gena.log"
    configure_logging(Settings(log_file=log, log_format="json"))
    logging.getLogger("gena.access").info("request", extra={"status": 200, "ms": 1.5})
    line = json.loads(written(log))
    assert (line["level"], line["message"], line["status"], line["ms"]) == (
        "info",
        "request",
        200,
        1.5,
    )
    assert line["time"].endswith("+00:00")


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize(
    "dna",
    [
        "ACGT" * 10,
        "acgtn" * 10,
        "ACGTACGTAC\nGTACGTACGT",
        "ACGTACGTAC\r\nGTACGTACGT",
        "AUGC" * 5 + "N" * 20,
        "ACGTRYSWKMBDHVN" * 2,
        "rrrrrrrrrrgtrrgtrrgtyyyyyyyyyy",
    ],
)
def test_dna_never_reaches_the_log(tmp_path: Path, log_format: str, dna: str) -> None:
    log = tmp_path / "gena.log"
    configure_logging(Settings(log_file=log, log_format=log_format))
    try:
        raise ValueError(f"cannot read {dna}")
    except ValueError:
        logging.getLogger("gena").exception("failed on %r", dna, extra={"where": dna})
    text = written(log)
    assert "ValueError" in text
    for start in range(0, len(dna) - 10, 10):
        assert dna[start : start + 10] not in text


def test_hashes_and_ids_stay(tmp_path: Path) -> None:
    log = tmp_path / "gena.log"
    configure_logging(Settings(log_file=log))
    for text in (
        "fingerprint 0123456789abcdef of 9acaac7gatact",
        f"no space is left for {tmp_path}/backwards/standards/sydney/abracadabra",
        "sha256 dadbcb0a1cbcabd9bacddcabcadbbd2adacbbcda9dbcabdadbc1bbccaaddbb0c",
    ):
        logging.getLogger("gena").info(text)
        assert text in written(log)


def test_files_are_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.host.logs._ROTATED_BYTES", 1000)
    log = tmp_path / "gena.log"
    configure_logging(Settings(log_file=log))
    for number in range(200):
        logging.getLogger("gena.access").info("line %d", number)
    assert "line 199" in written(log)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 6
    assert all(file.stat().st_size <= 1000 for file in files)


def test_a_message_that_cannot_be_formatted_is_named_without_its_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "gena.log"
    configure_logging(Settings(log_file=log))
    logging.getLogger("gena").info("%d bases", "ACGT" * 10)
    assert f"a message of {__file__}:" in written(log)
    assert "ACGT" not in written(log)
    assert capsys.readouterr().err == ""


def test_warnings_are_logged(tmp_path: Path) -> None:
    log = tmp_path / "gena.log"
    configure_logging(Settings(log_file=log))
    warnings.warn("of a library", UserWarning, stacklevel=1)
    assert "WARNING py.warnings: " in written(log)


def test_a_name_that_is_no_unicode_is_written(tmp_path: Path) -> None:
    log = tmp_path / "gena.log"
    configure_logging(Settings(log_file=log))
    logging.getLogger("gena").info("cannot open %s", "caf\udce9.fa")
    assert "caf\\udce9.fa" in written(log)
