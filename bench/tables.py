#!/usr/bin/env python3
"""Make the tables of bench/README.md from the results that compare.py has stored.

    python bench/tables.py             # writes them
    python bench/tables.py -check      # status 1 if bench/README.md has others

In the page a table stands between `<!-- table: FILE NAME -->`, a file of bench/results/ and a name
in it, and `<!-- end -->`.
"""

import json
import re
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "hw04" / "code"))
sys.path.append(str(Path(__file__).resolve().parent))
from backstage.shell import guarded, importing

with importing("tables.py", "-r requirements-dev.txt"):
    from backstage.errors import UserError
    from backstage.files import atomic_write
    from backstage.parser import Parser
    from harness import table

HERE = Path(__file__).resolve().parent
PLACE = re.compile(r"(<!-- table: (\S+) (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """The page with all its tables as the results have them."""

    def place(match: re.Match) -> str:
        begin, file, name, end = match.groups()
        path = HERE / "results" / file
        try:
            stored = json.loads(path.read_text())["tables"][name]
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; compare.py -results makes it") from None
        except (ValueError, KeyError):
            why = f"has no table {name}; compare.py -results makes it anew"
            raise UserError(f"{path}: {why}") from None
        return f"{begin}{table(stored)}\n{end}"

    return PLACE.sub(place, page)


def main() -> int:
    parser = Parser("tables.py", __doc__)
    what = "change nothing; status 1 if there is something to change (default write)"
    parser.add_argument("-check", action="store_true", help=what)
    args = parser.parse_args()
    path = HERE / "README.md"
    page = path.read_text(encoding="utf-8")
    made = filled(page)
    if made == page:
        return 0
    if args.check:
        print(f"{path}: its tables are not those of bench/results/; run bench/tables.py")
        return 1
    atomic_write(path, lambda file: file.write(made.encode()))
    return 0


if __name__ == "__main__":
    sys.exit(guarded("tables.py", main))
