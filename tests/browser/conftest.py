"""A real browser in front of the real service: gena-mini, converted once, served by a process."""

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from converter.checkpoint.files import SHIPPED_MODELS
from tests.support.browser import CHROMIUM, SERVER, WIDE, Visit
from tests.support.bundles import build_mini
from tests.support.running import Server, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that drive a browser."""
    for item in items:
        if "playwright" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def playwright() -> Any:
    """Playwright's module; skips where it, or Chromium, is not installed."""
    module = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed here (Debian's package chromium).")
    return module


@pytest.fixture(scope="module")
def browser(playwright: Any) -> Any:
    """Debian's Chromium, driven by Playwright; started by the first test here that asks for it."""
    if not _started:
        with ExitStack() as resources:
            driver = resources.enter_context(playwright.sync_playwright())
            instance = driver.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
            )
            resources.callback(instance.close)
            _started.append((instance, resources.pop_all()))
    return _started[0][0]


_started: list[tuple[Any, ExitStack]] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Generator[None]:
    """End it after the last test here: elsewhere asyncio.run would find its event loop running."""
    yield
    if _started and (nextitem is None or Path(__file__).parent not in nextitem.path.parents):
        _started.pop()[1].close()


@pytest.fixture(scope="session")
def mini_bundle(playwright: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """gena-mini as it would be served; where there is no browser, it is not converted either."""
    assert playwright
    if not (SHIPPED_MODELS["gena-mini"] / "config.json").is_file():
        pytest.skip("gena-mini is not here.")
    return build_mini(tmp_path_factory.mktemp("mini") / "bundle")


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
