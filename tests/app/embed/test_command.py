"""What `gena embed` shows of what is logged."""

import logging

import pytest

from app.embed.command import log_told
from app.embed.progress import progress_shown


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
