"""A browser."""

from collections.abc import Iterator

import pytest
from browser import Browser, program
from pages import load_parts


@pytest.fixture(scope="session")
def started(tmp_path_factory) -> Iterator[Browser]:
    """The browser of all tests."""
    if program() is None:
        pytest.skip("no browser here; on Debian or Ubuntu: sudo apt install chromium")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def browser(started) -> Browser:
    """The browser, in a window of a desktop."""
    started.window(1280, 900)
    started.open("about:blank")
    started.requests.clear()
    started.errors.clear()
    return started


@pytest.fixture
def parts(browser) -> Browser:
    """The browser with the modules of the page, without the page."""
    load_parts(browser)
    return browser
