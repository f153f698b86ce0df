"""Grading submissions: which jobs, what is said of what came of them, how many points."""

from pathlib import Path

from backstage.errors import UserError
from checks.case import Case, Outcome, Verdict
from checks.items import ASSIGNMENTS, causes
from checks.judges import judge

from grader import one_hw04, one_hw4p1
from grader.drawing import all_cases
from grader.result import Result, Test
from grader.rubric import Rubric
from grader.sandbox import PROCESSES, Ran, Sandbox
from grader.submission import Submission


class Grader:
    """Grades submissions with the same numbers, which are drawn from a seed."""

    def __init__(self, rubric: Rubric, sandbox: Sandbox, seed: int):
        self.rubric = rubric
        self.sandbox = sandbox
        self.seed = seed
        self.drawn: dict[str, list[Case]] = {}

    def cases(self, assignment: str) -> list[Case]:
        """All cases of an assignment, drawn once."""
        if assignment not in self.drawn:
            cases = all_cases(assignment, self.seed)
            self.rubric.check(assignment, cases)
            self.drawn[assignment] = cases
        return self.drawn[assignment]

    def grade(self, submission: Submission, assignment: str = "") -> Result:
        """The points of a submission; none, with the reason, if it cannot be graded."""
        assignment = assignment or which_assignment(submission)
        if not assignment:
            return Result(submission.name, [self.nothing(submission.notes)])
        grading = OneGrading(self, submission, assignment)
        one = one_hw04 if assignment == "hw04" else one_hw4p1
        try:
            tests = one.grade(grading)
        except UserError:  # the rubric's, which the teacher can mend
            raise
        except Exception as error:  # the others of a class are graded all the same
            said = f"the grader failed, grade this by hand: {type(error).__name__}: {error}"
            return Result(submission.name, [self.nothing([said, *submission.notes])], failed=True)
        return Result(submission.name, [*tests, notes(submission, self.seed, grading)])

    def nothing(self, said: list[str]) -> Test:
        """The test of a submission that cannot be graded."""
        items = [self.rubric.items(assignment) for assignment in ASSIGNMENTS]
        most = max(sum(sum(parts.values()) for parts in each.values()) for each in items)
        return Test("files", "files", 0, most, "\n".join(said))


def which_assignment(submission: Submission) -> str:
    """The assignment that a submission is of; "" and a note if that cannot be told."""
    first = any(Path(name).name == "lstlm.py" for name in submission.files)
    folders = submission.folder("mytorch") or submission.folder("hw4lib")
    second = bool(folders) or any(Path(n).name == "test_metrics.json" for n in submission.files)
    if first and second:
        submission.note("both assignments are in it: grade it with --assignment")
        return ""
    if not first and not second:
        submission.note("neither lstlm.py nor mytorch/, hw4lib/ or test_metrics.json is in it")
        return ""
    return "hw04" if first else "hw4p1"


def notes(submission: Submission, seed: int, grading: "OneGrading") -> Test:
    """What is to be said beside the points, as a test of no points."""
    lines = [submission.name, *submission.notes, f"--seed {seed} draws the same numbers again"]
    if grading.weak:
        lines.append(f"the system did not permit: {', '.join(sorted(grading.weak))} (docs/"
                     "teaching.md says what that means)")
    return Test("notes", "notes", 0, 0, "\n".join(lines))


class OneGrading:
    """The grading of one submission: its jobs, its time, its tests."""

    def __init__(self, grader: Grader, submission: Submission, assignment: str):
        self.grader = grader
        self.rubric = grader.rubric
        self.submission = submission
        self.assignment = assignment
        self.used = 0.0  # seconds of all jobs so far, of which two run side by side
        self.weak: set[str] = set()  # of the namespaces, those that were not permitted

    def submit(self, item: str, cases: list[Case], fill, seconds=None, **request):
        """Start the job of these cases; returns a future of `Ran`."""
        names = self.rubric.option([], self.assignment, "forbidden", item)
        modules = self.rubric.option([], self.assignment, "not_imported", item)
        request = {
            "assignment": self.assignment, "item": item, "forbidden": names, "modules": modules,
            "reference": "",
            "cases": [{"run": c.run, "part": c.part, "given": c.given} for c in cases], **request,
        }
        return self.grader.sandbox.pool.submit(self.run, request, fill, seconds)

    def run(self, request: dict, fill, seconds: float | None) -> Ran:
        """Run a job, if the submission has time left."""
        left = self.rubric.submission_seconds - self.used / PROCESSES
        if left <= 0:
            return Ran(ended="no time left")
        seconds = seconds or self.grader.sandbox.limits.item_seconds
        ran = self.grader.sandbox.run(request, fill, min(seconds, left))
        self.used += ran.seconds
        if ran.ended == "time" and left < seconds:
            ran.ended = "no time left"
        if "kernel" not in ran.confined:
            self.weak |= {"processes", "network", "files"} - set(ran.confined.split())
        return ran

    def item_test(self, item: str, cases: list[Case], ran: Ran, bonus: bool = False) -> Test:
        """The test of an item: points for each part whose cases all went well."""
        parts = self.rubric.items(self.assignment)[item]
        return self.parts_test(item, parts, cases, ran, bonus)

    def parts_test(
        self, item: str, parts: dict[str, float], cases: list[Case], ran: Ran, bonus: bool
    ) -> Test:
        """The same with points that are given."""
        score = 0.0
        lines = []
        unwritten = True
        for part, points in parts.items():
            verdict = self.part_verdict(item, part, cases, ran)
            unwritten &= not verdict.written
            got = points if verdict.passed else 0
            score += got
            lines.append(f"{part} {got:g}/{points:g}" + (":" if verdict.message else ""))
            lines += [f"  {line}" for line in verdict.message.splitlines()]
        output = "not written yet" if unwritten else "\n".join(lines)
        title = ASSIGNMENTS[self.assignment][item].title
        return Test(item, title, score, sum(parts.values()), output, bonus)

    def part_verdict(self, item: str, part: str, cases: list[Case], ran: Ran) -> Verdict:
        """The first verdict on a part's cases that is not good."""
        for number, case in enumerate(cases):
            if case.part != part:
                continue
            if ran.imported:
                verdict = judge(case, ran.imported, causes(self.assignment, item))
                return Verdict(False, f"the file cannot be imported\n{verdict.message}")
            if number >= len(ran.outcomes):
                return Verdict(False, self.ended(ran))
            outcome: Outcome = ran.outcomes[number]
            verdict = judge(case, outcome, causes(self.assignment, item))
            if not verdict.passed:
                return verdict
        return Verdict(True)

    def ended(self, ran: Ran) -> str:
        """What is said when a process did not reach a case."""
        limits = self.grader.sandbox.limits
        if ran.ended == "time":
            return (
                f"took longer than {limits.item_seconds:g} s\nUsual cause: a loop without an end"
            )
        if ran.ended == "no time left":
            return "the time of this submission was used up by other items"
        if ran.ended:
            return f"the process was {ran.ended}: too much memory, or a crash"
        return "the process ended by itself before it was done (os._exit?)"
