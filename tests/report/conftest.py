"""Reports in headless Chromium, which must neither log nor request anything."""

import shutil
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from .chromium_page import ARGUMENTS, OpenReport


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    executable = shutil.which("chromium")
    assert executable, "no `chromium` on the path: install the package chromium (`make chromium`)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_report(chromium: Browser) -> Iterator[OpenReport]:
    """Return a function that opens a file with settings of the browser context."""
    contexts: List[BrowserContext] = []
    complaints: List[str] = []
    requests: List[str] = []

    def open_(path: Path, **settings: Any) -> Page:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        page.locator("#count").filter(has_text="sentences").wait_for()
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith("file:") or ".html" not in url] == []
