"""What drives the page: Chromium, a visit to it, and gena-mini behind the service."""

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from converter.bundle.manifest import GOLDEN, PACKAGE, TOKENIZER, write_manifest
from converter.options import BuildOptions, function_names

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


def build_mini(folder: Path) -> Path:
    """Convert gena-mini without the gates, which have their own tests."""
    from converter.checkpoint.files import find_checkpoint
    from converter.conversion.build import PackagePlan, build_package
    from converter.network.loading import load_checkpoint

    checkpoint = load_checkpoint(find_checkpoint("gena-mini"))
    options, lengths = BuildOptions(), (512,)
    folder.mkdir(parents=True)
    plan = PackagePlan()
    build_package(checkpoint.encoder(), options, plan, folder / PACKAGE, lengths=lengths)
    shutil.copy(checkpoint.files.tokenizer, folder / TOKENIZER)
    np.savez(
        folder / GOLDEN,
        input_ids=np.full((1, 512), checkpoint.config.pad_token_id, np.int32),
        reference=np.zeros((1, 512, checkpoint.config.hidden_size), np.float32),
    )
    write_manifest(
        folder,
        model="gena-mini",
        commit=None,
        checkpoint_sha256=checkpoint.files.sha256,
        config=checkpoint.config,
        functions=function_names(lengths),
        options=options,
        precision={"chosen": "fp16", "fp32_operations": [], "reason": "a test"},
        fidelity={"flag": "expected"},
        versions={},
    )
    return folder
