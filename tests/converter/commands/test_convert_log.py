"""What libraries say while they convert."""

import subprocess
import sys

from tests.support.paths import ROOT

WARNS = """
from converter.commands.convert import log_to_stderr
log_to_stderr()
from huggingface_hub.utils import logging
logging.get_logger("huggingface_hub.utils._http").warning("Retrying in 1s")
"""


def test_the_hub_is_heard_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WARNS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.count("Retrying") == 1
