"""What a report must not hold, taken out of it: paths, names of people and machines, DNA.

Steps write few texts that are not their own. Those (last words of a command, errors of libraries)
may hold anything.
"""

import getpass
import os
import pwd
import re
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from converter.tokenizer_file import LETTERS

# Names that tell of nobody, and that sentences are made of.
_NOBODY = {
    *("localhost", "root", "runner", "admin", "user", "mac", "macbook", "gena", "nobody"),
    *("model", "models", "checkpoint", "checkpoints", "bundle", "bundles"),
}
_QUOTED_PATH = re.compile(r"""(['"`])(?:~[\w.-]*|file://)?/[^'"`\n]*/[^'"`\n]*\1""")
_PLAIN = r"""[^\s'"`,;:()<>|/]+"""
# In a home, or at least two folders deep: /features is no path of anybody.
_PATH = re.compile(rf"(?:file://|(?<![\w<>.:/]))(?:~[\w.-]*(?:/{_PLAIN})+|(?:/{_PLAIN}){{2,}})/?")
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
# As in the service's log: no word has so many of these letters in a row.
_DNA = re.compile(rf"(?:[{LETTERS}\r\n]|\\+[rn]){{16,}}", re.IGNORECASE)


# Fields of a report that hold a word of a list, whatever a person is called.
_OURS = {"step", "name", "verdict", "version", "shown"}


class Redaction:
    """Takes private words out of texts.

    Args:
        folders: paths that are told apart from what follows them: the home, the clone.
        names: of the user, of the machine.
    """

    def __init__(self, folders: Iterable[Path], names: Iterable[str]) -> None:
        # The longest first: the clone may lie in the home.
        written = {str(form) for each in folders for form in (each, each.resolve())} - {"/", "."}
        self._folders = sorted(written, key=len, reverse=True)
        words = {name for name in names if name and name.lower() not in _NOBODY}
        ordered = sorted(map(re.escape, words), key=len, reverse=True)
        self._names = re.compile(rf"(?<!\w)(?:{'|'.join(ordered)})(?!\w)", re.IGNORECASE)
        self._has_names = bool(words)

    def text(self, text: str) -> str:
        """A text without them."""
        text = _QUOTED_PATH.sub("<path>", text)
        for folder in self._folders:
            text = re.sub(rf"{re.escape(folder)}[^\s'\"`,;:()]*", "<path>", text)
        text = _PATH.sub("<path>", _ADDRESS.sub("<address>", text))
        text = self._names.sub("<name>", text) if self._has_names else text
        return _DNA.sub(lambda found: f"<{len(found.group())} letters>", text)

    def document(self, value: Any) -> Any:
        """A JSON document, every text in it without them; but what we have named ourselves."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {
                key: each if key in _OURS else self.document(each) for key, each in value.items()
            }
        return [self.document(each) for each in value] if isinstance(value, list) else value


def of_this_machine(folders: Iterable[Path], names: Iterable[str] = ()) -> Redaction:
    """What is private here: this user, this machine, the home, and these."""
    return Redaction((Path.home(), *folders), (*_people(), *_machines(), *names))


def _people() -> Iterable[str]:
    for variable in ("USER", "LOGNAME"):
        yield os.environ.get(variable, "")
    try:
        yield getpass.getuser()
        full = pwd.getpwuid(os.getuid()).pw_gecos.partition(",")[0]
    except (KeyError, OSError):  # a number without an entry, as containers have
        return
    yield full
    yield from (part for part in full.split() if len(part) > 2)
    yield Path.home().name


def _machines() -> Iterable[str]:
    host = socket.gethostname()
    yield from (host, host.partition(".")[0])
    if sys.platform == "darwin":
        for name in ("ComputerName", "LocalHostName", "HostName"):
            done = subprocess.run(["scutil", "--get", name], capture_output=True, text=True)
            yield done.stdout.strip()
