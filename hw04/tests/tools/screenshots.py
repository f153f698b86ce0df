#!/usr/bin/env python3
"""Take pictures of a page of hw04/page/make_page.py, to look at, and the README's.

    python screenshots.py FILE.html FOLDER     # desktop, dark, phone and 4K, whole, into FOLDER
    python screenshots.py FILE.html docs/page.png
"""

import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in ("tests", "code", "page"):
    sys.path.append(str(HERE.parents[1] / folder))
from browser import Browser  # noqa: E402 - found by the lines above
from pages import open_page, type_text, write_story  # noqa: E402

WINDOWS = {  # width, height, dark
    "desktop": (1440, 900, False), "dark": (1440, 900, True), "phone": (360, 800, False),
    "phone-dark": (360, 800, True), "4k": (3840, 2160, False),
}


def take(browser: Browser, page: Path, name: str, path: Path) -> None:
    """A picture of the whole page in one of the windows, with a word of each text chosen."""
    width, height, dark = WINDOWS[name]
    browser.window(width, height, dark=dark)
    open_page(browser, page)
    write_story(browser, "Once upon a time", seed=5)
    for part, number in (("story", 14), ("surprise", 24), ("inside", 24)):
        browser.run(f"document.querySelectorAll('#{part}-words .word')[{number}].click()")
    browser.window(width, browser.run("document.documentElement.scrollHeight"), dark=dark)
    time.sleep(0.5)  # for what glides to its place
    browser.screenshot(path)


def main() -> None:
    """All pictures, or the one of the README."""
    page, out = map(Path, sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(Path(folder))
        try:
            if out.suffix == ".png":
                browser.window(1280, 990)
                open_page(browser, page)
                type_text(browser, "next-text", "Once upon a time, an elfling found a")
                time.sleep(0.5)
                browser.screenshot(out)
                return
            out.mkdir(parents=True, exist_ok=True)
            for name in WINDOWS:
                take(browser, page, name, out / f"{name}.png")
        finally:
            browser.close()


if __name__ == "__main__":
    main()
