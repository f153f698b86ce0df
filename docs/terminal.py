#!/usr/bin/env python3
"""Draw the text of a terminal as an SVG picture, for the README.

    (echo '$ make demo'; make demo 2>/dev/null | sed -n '/1.4 training/,$p') \\
        | python3 docs/terminal.py > docs/demo.svg

Lines longer than COLUMNS are folded, as a terminal does.
"""

import sys
import textwrap
from html import escape

COLUMNS, CHARACTER, LINE = 100, 8.4, 19  # the two sizes in pixels, at a font size of 14


def picture(lines: list[str]) -> str:
    """An SVG of a dark terminal with these lines."""
    width, height = COLUMNS * CHARACTER + 40, len(lines) * LINE + 40
    rows = "\n".join(
        f'<text x="20" y="{32 + LINE * row}" fill="{colour(line)}">{escape(line)}</text>'
        for row, line in enumerate(lines)
    )
    fonts = "ui-monospace,SFMono-Regular,Menlo,Consolas,DejaVu Sans Mono,monospace"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" font-size="14"'
        f' xml:space="preserve" font-family="{fonts}">\n'
        f'<rect width="100%" height="100%" rx="10" fill="#0d1117"/>\n{rows}\n</svg>\n'
    )


def colour(line: str) -> str:
    """Green for what is typed and for the headings of `make`, light grey for the rest."""
    return "#7ee787" if line.startswith(("==", "$")) else "#e6edf3"


def main() -> None:
    lines = sys.stdin.read().splitlines()
    folded = []
    for line in lines:
        folded += textwrap.wrap(line, COLUMNS, drop_whitespace=False) or [""]
    print(picture(folded), end="")


if __name__ == "__main__":
    main()
