"""Log lines: format, rotation, no DNA."""

import json
import logging
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


def test_json_lines_carry_their_fields(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "gena.log"
    configure_logging(Settings(log_file=log, log_format="json"))
    logging.getLogger("gena.access").info("request", extra={"status": 200, "ms": 1.5})
    line = json.loads(log.read_text())
    assert (line["level"], line["message"], line["status"], line["ms"]) == (
        "info",
        "request",
        200,
        1.5,
    )
    assert line["time"].endswith("+00:00")


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize(
    "dna", ["ACGT" * 10, "acgtn" * 10, "ACGTACGTAC\nGTACGTACGT", "AUGC" * 5 + "N" * 20]
)
def test_dna_never_reaches_the_log(tmp_path: Path, log_format: str, dna: str) -> None:
    log = tmp_path / "gena.log"
    configure_logging(Settings(log_file=log, log_format=log_format))
    try:
        raise ValueError(f"cannot read {dna}")
    except ValueError:
        logging.getLogger("gena").exception("failed on %r", dna, extra={"where": dna})
    written = log.read_text()
    assert "ValueError" in written
    for start in range(0, len(dna) - 10, 10):
        assert dna[start : start + 10] not in written


def test_hashes_and_ids_stay(tmp_path: Path) -> None:
    log = tmp_path / "gena.log"
    configure_logging(Settings(log_file=log))
    logging.getLogger("gena").info("fingerprint 0123456789abcdef of 9acaac7gatact")
    assert "0123456789abcdef of 9acaac7gatact" in log.read_text()


def test_files_are_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.host.logs._ROTATED_BYTES", 1000)
    log = tmp_path / "gena.log"
    configure_logging(Settings(log_file=log))
    for number in range(200):
        logging.getLogger("gena").info("line %d", number)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 6
    assert all(file.stat().st_size <= 1000 for file in files)
    assert "line 199" in log.read_text()
