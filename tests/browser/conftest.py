"""A real browser in front of the real service: gena-mini, converted once, served by a process."""

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.bundle.opening import GOLDEN, PACKAGE, TOKENIZER, BuildOptions, write_manifest
from converter.checkpoint.files import SHIPPED_MODELS
from tests.support.running import Server, running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SERVER = (sys.executable, "-m", "app.cli", "serve")
WIDE, PHONE = (1440, 900), (390, 844)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that drive Chromium."""
    for item in items:
        if "playwright" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


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


@pytest.fixture(scope="session")
def playwright() -> Any:
    """Playwright's module; skips where it, or Chromium, is not installed."""
    module = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed here (Debian's package chromium).")
    return module


# Not for the whole session: its event loop would be found running by asyncio.run elsewhere.
@pytest.fixture(scope="module")
def browser(playwright: Any) -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright."""
    with playwright.sync_playwright() as driver:
        instance = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield instance
        instance.close()


@pytest.fixture(scope="session")
def mini_bundle(playwright: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """gena-mini as it would be served; where there is no browser, it is not converted either."""
    assert playwright
    return build_mini(tmp_path_factory.mktemp("mini") / "bundle")


def build_mini(folder: Path) -> Path:
    """Convert gena-mini without the gates, which have their own tests."""
    from converter.checkpoint.loading import load_checkpoint
    from converter.conversion.build import PackagePlan, build_package, function_name
    from converter.network.neural_engine import GraphOptions

    if not (SHIPPED_MODELS["gena-mini"] / "config.json").is_file():
        pytest.skip("gena-mini is not here.")
    checkpoint = load_checkpoint("gena-mini")
    options, lengths = BuildOptions(), (512,)
    folder.mkdir(parents=True)
    plan = PackagePlan(lengths=lengths, options=options, graph=GraphOptions())
    build_package(checkpoint.encoder(), plan, folder / PACKAGE)
    shutil.copy(checkpoint.tokenizer_file, folder / TOKENIZER)
    np.savez(
        folder / GOLDEN,
        input_ids=np.full((1, 512), checkpoint.config.pad_token_id, np.int32),
        reference=np.zeros((1, 512, checkpoint.config.hidden_size), np.float32),
    )
    write_manifest(
        folder,
        model="gena-mini",
        commit=None,
        checkpoint_sha256=checkpoint.sha256,
        config=checkpoint.config,
        functions={length: function_name(length, lengths) for length in lengths},
        options=options,
        precision={"chosen": "fp16", "fp32_operations": [], "reason": "a test"},
        fidelity={"flag": "expected"},
        versions={},
    )
    return folder


@pytest.fixture(scope="session")
def service(mini_bundle: Path) -> Iterator[Server]:
    """The service, ready. Not for tests that break it."""
    with running(SERVER, GENA_BUNDLE=str(mini_bundle), GENA_THREADS="1") as server:
        server.wait_for("ready")
        yield server


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Opens pages; at the end none may have complained, or talked to another host."""
    visits: list[tuple[str, Visit, Any]] = []

    def open_page(
        url: str, size: tuple[int, int] = WIDE, scheme: str = "light", **options: Any
    ) -> Visit:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            reduced_motion="reduce",
            permissions=["clipboard-read", "clipboard-write"],
            **options,
        )
        context.set_default_timeout(30_000)
        opened = Visit(context.new_page())
        visits.append((url, opened, context))
        opened.page.goto(url)
        return opened

    yield open_page
    for url, opened, context in visits:
        assert opened.faults == []
        assert opened.hosts() == {url.rstrip("/")}
        context.close()


@pytest.fixture
def ready(visit: Callable[..., Visit], service: Server) -> Any:
    """The page of the service, on a wide screen, with the model ready."""
    page = visit(service.url).page
    page.locator("#state[data-status=ready]").wait_for()
    return page
