"""What drives the page: Chromium, and a visit to it."""

import shutil
import sys
from dataclasses import dataclass, field
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SERVER = (sys.executable, "-m", "app.cli", "serve")
WIDE, PHONE = (1440, 900), (390, 844)


@dataclass
class Visit:
    """One page in the browser, and everything that went wrong in it."""

    page: Any
    faults: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        self.page.on("request", lambda request: self.requested.append(request.url))

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{message.type}: {message.text} {message.location}")

    def forgive_refusals(self) -> None:
        """Chromium logs every answer of 400 and more; a test that provokes one expects that."""
        self.faults = [fault for fault in self.faults if "Failed to load resource" not in fault]

    def hosts(self) -> set[str]:
        """Origins of every request that left the page (blob: stays inside it)."""
        urls = [url for url in self.requested if not url.startswith(("blob:", "data:"))]
        return {"/".join(url.split("/")[:3]) for url in urls}
