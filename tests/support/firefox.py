"""What drives Firefox: WebDriver BiDi, spoken to the browser itself.

Playwright brings a Firefox of its own, and asks of another one what older ones do not know.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
_SECONDS = 60
_ADDRESS = re.compile(r"WebDriver BiDi listening on (ws://\S+)")


class Firefox:
    """One tab, and what it logged and asked for.

    Attributes:
        faults: errors and warnings of its console, and what no script caught.
        requested: the address of every request.
    """

    def __init__(self, socket: Any) -> None:
        self.faults: list[str] = []
        self.requested: list[str] = []
        self._socket = socket
        self._commands = 0
        self._call("session.new", capabilities={})
        self._call("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
        self._tab = self._call("browsingContext.getTree")["contexts"][0]["context"]

    def open(self, url: str) -> None:
        """Load a page, and what it loads."""
        self._call("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    def run(self, script: str, *arguments: Any) -> Any:
        """What the body of an asynchronous function returns; `x` are its arguments."""
        function = (
            f"async (x) => JSON.stringify(await (async (x) => {{ {script} }})(JSON.parse(x)))"
        )
        found = self._call(
            "script.callFunction",
            functionDeclaration=function,
            arguments=[{"type": "string", "value": json.dumps(arguments)}],
            target={"context": self._tab},
            awaitPromise=True,
        )
        assert found["type"] == "success", found["exceptionDetails"]["text"]
        return json.loads(found["result"].get("value", "null"))

    def close(self) -> None:
        self._call("browser.close")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._commands += 1
        command = {"id": self._commands, "method": method, "params": parameters}
        self._socket.send(json.dumps(command))
        while True:
            message = json.loads(self._socket.recv(_SECONDS))
            if message.get("id") == self._commands:
                assert message["type"] == "success", message
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        if event.get("method") == "network.beforeRequestSent":
            self.requested.append(told["request"]["url"])
        elif event.get("method") == "log.entryAdded" and told["level"] in ("error", "warn"):
            self.faults.append(f"{told['level']}: {told['text']}")


@contextmanager
def firefox(profile: Path) -> Iterator[Firefox]:
    """A headless Firefox with a new profile in a folder that is there."""
    from websockets.sync.client import connect

    command = [str(FIREFOX), "--headless", "--no-remote", "--profile", str(profile)]
    process = subprocess.Popen(
        [*command, "--remote-debugging-port", "0"],
        env={**os.environ, "HOME": str(profile)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        address = next(filter(None, map(_ADDRESS.search, process.stderr)))[1]
        with connect(f"{address}/session", max_size=None) as socket:
            browser = Firefox(socket)
            yield browser
            browser.close()
        process.wait(_SECONDS)
    finally:
        process.kill()
        process.communicate()
