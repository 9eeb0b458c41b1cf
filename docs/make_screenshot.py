"""Write a picture (PNG) of a page, as headless Chromium shows it, for the README and the docs.

The page can be an HTML file, or a run folder or table of samples whose page `laptime report` writes.

python docs/make_screenshot.py page.html picture.png --width 1280 --height 900 --dark
python docs/make_screenshot.py runs/sweep docs/sweep.png --width 1100 --height 1430
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from selenium import webdriver


def main() -> None:
    arguments = argparse.ArgumentParser(description="Write a screenshot of an HTML page.")
    arguments.add_argument("page", type=Path, help="an HTML file, a run folder, or a table of samples")
    arguments.add_argument("picture", type=Path)
    arguments.add_argument("--width", type=int, default=1280)
    arguments.add_argument("--height", type=int, default=0, help="0: the whole page")
    arguments.add_argument("--scale", type=float, default=1.0, help="device pixels per CSS pixel")
    arguments.add_argument("--dark", action="store_true")
    arguments.add_argument("--script", default="", help="JavaScript to run before the picture is taken")
    arguments.add_argument("--chromium", default="/usr/bin/chromium")
    arguments.add_argument("--chromedriver", default="/usr/bin/chromedriver")
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as profile:
        browser = start(asked.chromium, asked.chromedriver, profile)
        try:
            page = page_of(asked.page, Path(profile))
            asked.picture.write_bytes(
                picture(browser, page, asked.width, asked.height, asked.scale, asked.dark, asked.script)
            )
        finally:
            browser.quit()


def page_of(place: Path, scratch: Path) -> Path:
    """The HTML file itself, or the page that `laptime report` writes of a run."""
    if place.suffix == ".html":
        return place
    from laptime.report.results import page, read_run_or_sweep

    file = scratch / "report.html"
    file.write_text(page(read_run_or_sweep(place)), encoding="utf-8")
    return file


def start(chromium: str, chromedriver: str, profile: str) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                     "--disable-background-networking", "--hide-scrollbars", f"--user-data-dir={profile}"):  # fmt: skip
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))


def picture(
    browser: webdriver.Chrome, page: Path, width: int, height: int, scale: float, dark: bool, script: str = ""
) -> bytes:
    """The page as PNG; `height` 0 takes all of it."""
    import base64

    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    size = {"width": width, "height": height or 900, "deviceScaleFactor": scale, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.resolve().as_uri())
    if script:
        browser.execute_script(script)
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    if height == 0:
        size["height"] = browser.execute_script("return document.documentElement.scrollHeight")
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": False})
    return base64.b64decode(shot["data"])


if __name__ == "__main__":
    main()
