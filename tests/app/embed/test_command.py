"""What `gena embed` shows of what is logged, and of what was hardly meant."""

import logging
from pathlib import Path

import pytest

from app.embed.command import log_told
from app.embed.progress import progress_shown
from tests.support.embedding import run


def test_what_was_logged_last_is_shown_where_the_model_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = logging.getLogger("gena.model")
    with progress_shown(as_json=False) as progress, log_told(progress):
        for number in range(30):
            logger.info("line %d", number)
        logger.warning("The model is started again.")
        assert capsys.readouterr().err == "The model is started again.\n"
        logger.error("failed: It does not start.")
        logger.error("failed: Nor now.")
    assert capsys.readouterr().err.splitlines() == [f"log: line {n}" for n in range(10, 30)]


def test_after_it_logs_go_where_they_went(caplog: pytest.LogCaptureFixture) -> None:
    with progress_shown(as_json=False) as progress, log_told(progress):
        logging.getLogger("gena.model").warning("within")
    logging.getLogger("gena.model").warning("after")
    assert [record.getMessage() for record in caplog.records] == ["after"]


def test_tokens_that_are_shared_are_told_from_bases(tmp_path: Path) -> None:
    """Of windows of bases that fit the model, `--overlap` changes nothing."""
    command = (tmp_path / "none.fa", "-o", tmp_path / "v", "--model", "gena-mini")
    done = run(*command, "--windows", "1000", "--overlap", "500")
    assert "--overlap 500 is tokens" in done.stderr
    assert "--windows 1000 --stride 500" in done.stderr
    for others in (("--windows", "1000"), ("--tokens", "100", "--overlap", "50")):
        assert "--overlap" not in run(*command, *others).stderr
