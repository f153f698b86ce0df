#!/usr/bin/env python3
"""Grade submissions of either assignment: points for each item, with the reasons.

    python classroom/grade.py ada.zip                          # one: a file, an archive, a folder
    python classroom/grade.py class/ --csv class.csv           # a folder of many
    python classroom/grade.py ada.zip bob/ --json results.json
    python classroom/grade.py --digest hw4_data/hw4p1_data/test   # for hw4p1.perplexity.digests

A student's code runs in processes that are shut in, with numbers that are drawn anew; --seed draws
the same again. Points are in rubric.yaml. Exit status: 0 if all was graded, however well; 1 if the
grader failed on one.
"""

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "hw04" / "code")]
from backstage.errors import UserError  # noqa: E402 - found by the line above
from backstage.parser import Parser  # noqa: E402
from backstage.shell import guarded, importing  # noqa: E402

with importing("grade.py", "-r requirements-dev.txt"):
    from grader import result
    from grader.grading import Grader
    from grader.one_hw4p1 import digest_of
    from grader.rubric import SHIPPED, Rubric
    from grader.sandbox import Sandbox
    from grader.submission import find_submissions, read_submission


def make_parser() -> Parser:
    """The command line."""
    parser = Parser("grade.py", __doc__)
    add = parser.add_argument
    add("submissions", type=Path, nargs="*", metavar="FILE_OR_ZIP", help="lstlm.py, an archive, a "
        "folder, or a folder of several of these")
    add("--json", type=Path, metavar="FILE", help="write results here: an object, or a list")
    add("--csv", type=Path, metavar="FILE", help="write a table here, a row for each submission")
    add("--gradescope", type=Path, metavar="FILE", help="write Gradescope's results.json here, for "
        "one submission")
    add("--rubric", type=Path, metavar="FILE", default=SHIPPED, help="points and limits (default "
        "%(default)s)")
    add("--seed", type=int, help="what the numbers are drawn from (default: drawn, and printed)")
    add("--assignment", choices=("hw04", "hw4p1"), default="", help="which of the two (default: "
        "seen from the files)")
    add("--digest", type=Path, metavar="FOLDER", help="print the digest of test data, and end")
    return parser


def grade_all(args: argparse.Namespace) -> int:
    """Grade what the command line names, and write what it asks for; returns the exit status.

    What is asked for is written after each submission, so that nothing is lost if a run is ended.
    """
    if args.digest:
        print(digest_of(args.digest))
        return 0
    paths = [
        each for path in args.submissions
        for each in ([path] if args.gradescope else find_submissions(path))
    ]
    if not paths:
        raise UserError("name at least one submission (grade.py -h)")
    seed = int.from_bytes(os.urandom(4), "little") if args.seed is None else args.seed
    rubric = Rubric(args.rubric)
    results = []
    with Sandbox(rubric.limits) as sandbox:
        grader = Grader(rubric, sandbox, seed)
        for path in paths:
            results.append(grader.grade(read_submission(path), args.assignment))
            print(results[-1].lines(), flush=True)
            write_all(args, results, single=paths == args.submissions and len(paths) == 1)
    if args.gradescope:
        write(args.gradescope, result.to_gradescope(results[0], rubric.hidden()))
    return int(any(one.failed for one in results))


def write_all(args: argparse.Namespace, results: list[result.Result], single: bool) -> None:
    """Write the results so far into the files that are asked for."""
    if args.json:
        write(args.json, result.to_json(results, single))
    if args.csv:
        write(args.csv, result.to_csv(results))


def write(path: Path, text: str) -> None:
    """Write a result. UserError if that fails."""
    try:
        draft = path.with_name(f"{path.name}.part")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def main(argv: list[str] | None = None) -> int:
    """The exit status: 0, 2 for what the teacher can mend, 1 for a failing grader, 130."""
    return guarded("grade.py", lambda: grade_all(make_parser().parse_args(argv)), argv)


if __name__ == "__main__":
    sys.exit(main())
