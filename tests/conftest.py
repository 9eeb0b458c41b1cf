"""Fixtures for all tests: no collection of garbage in a timed call, a real browser for the pages."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

settings.register_profile("laptime", deadline=None)  # a busy machine is slow, and nothing here asserts a time
settings.load_profile("laptime")

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
CHROMEDRIVER = Path(os.environ.get("CHROMEDRIVER", "/usr/bin/chromedriver"))

CHROMIUM_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no network, whatever a page asks for
    "--window-size=1280,2000",
)


@pytest.fixture(autouse=True)
def _garbage_is_collected_between_tests() -> Iterator[None]:
    """A tiny model's call lasts 10 ms, and one collection in it is flagged: whether it falls there is chance."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """One headless Chromium for the session, without network. Skipped where there is none, except in CI."""
    if not (CHROMIUM.exists() and CHROMEDRIVER.exists()):
        message = "no Chromium here (Debian: apt install chromium chromium-driver; or set CHROMIUM and CHROMEDRIVER)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    try:
        from selenium import webdriver
    except ImportError:
        if find_spec("torch") is not None:
            raise
        pytest.skip("selenium is not among what the light tests install")

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in CHROMIUM_ARGUMENTS:
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(CHROMEDRIVER)))
    driver.set_script_timeout(20)
    driver.set_page_load_timeout(30)
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def open_page(browser: Chrome, tmp_path: Path) -> Callable[[str], Chrome]:
    """Open an HTML text as a file:// page; the console log starts empty."""

    def open_(html: str) -> Chrome:
        file = tmp_path / "page.html"
        file.write_text(html, encoding="utf-8")
        console(browser)
        browser.get(file.as_uri())
        return browser

    return open_


@pytest.fixture
def console_lines(browser: Chrome) -> Callable[[], list[str]]:
    """What the page wrote to the console since it was last asked: a good page writes nothing."""
    return lambda: console(browser)


def console(browser: Any) -> list[str]:
    return [f"{line['level']}: {line['message']}" for line in browser.get_log("browser")]
