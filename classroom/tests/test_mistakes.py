"""Each mistake loses the points of its parts alone, with a message that names the cause."""

import re
from pathlib import Path

import blind_mistakes
import filling
import mistakes
import pytest
import textbook
from grader import one_hw04, one_hw4p1
from grader.grading import OneGrading
from grader.submission import Submission
from mistakes import Mistake

HW04 = mistakes.HW04 + blind_mistakes.HW04
ALL = HW04 + mistakes.HW4P1 + blind_mistakes.HW4P1
FEW = [m for m in ALL if m.name in textbook.TEN_MISTAKES]


@pytest.fixture
def graded(grader, skeleton):
    """A function that grades one item of a submission in which one answer is another."""

    def run(assignment: str, item: str, where: str, answer: str):
        grading = OneGrading(grader, Submission("mistaken"), assignment)
        cases = [case for case in grader.cases(assignment) if case.item == item]
        if assignment == "hw04":
            source = (skeleton / "hw04" / "code" / "lstlm.py").read_text()
            source = filling.fill_hw04(source, {where: answer})
            reference = one_hw04.reference_without(item)
            job = grading.submit(
                item, cases, one_hw04.fill_with(source, {}), reference=reference
            )
        else:
            read = lambda name: (skeleton / "hw4p1" / name).read_text()  # noqa: E731
            files = filling.filled_hw4p1(read, textbook.FUNCTIONS | {where: answer})
            (file,) = [part.file for part in one_hw4p1.PARTS if part.item == item]
            fill = one_hw4p1.fill_with(file, {file: files[file].encode()})
            job = grading.submit(item, cases, fill)
        return grading.item_test(item, cases, job.result())

    return run


def assignment_of(mistake: Mistake) -> str:
    """The assignment that a mistake is made in."""
    return "hw04" if mistake in HW04 else "hw4p1"


def check(mistake: Mistake, test, parts: dict[str, float]) -> None:
    """The parts that lose points are those expected, and the message names the cause."""
    lost = set(re.findall(r"(?m)^([\w -]+) 0/", test.output))
    assert lost == set(mistake.lost), test.output
    assert test.score == sum(points for part, points in parts.items() if part not in mistake.lost)
    assert mistake.said in " ".join(test.output.split())


def test_there_are_enough():
    assert len(ALL) > 140
    assert len({(m.name, m.where) for m in ALL}) == len(ALL)
    assert len(FEW) == len(textbook.TEN_MISTAKES) == 10
    assert {m.item for m in mistakes.HW04} == {*one_hw04.HW04}
    assert {m.item for m in mistakes.HW4P1} == {*one_hw4p1.HW4P1}


def test_the_ten_are_those_written_before_the_grader():
    for mistake in FEW:
        where, old, new = textbook.TEN_MISTAKES[mistake.name]
        assert (mistake.where, mistake.old, mistake.new) == (where, old, new)


@pytest.mark.parametrize("mistake", FEW, ids=lambda m: m.name)
def test_ten_mistakes(graded, grader, mistake):
    assignment = assignment_of(mistake)
    test = graded(assignment, mistake.item, mistake.where, filling.mistaken(mistake))
    check(mistake, test, grader.rubric.items(assignment)[mistake.item])


@pytest.mark.thorough
@pytest.mark.parametrize("mistake", ALL, ids=lambda m: f"{m.where}: {m.name}")
def test_all_mistakes(graded, grader, mistake):
    assignment = assignment_of(mistake)
    test = graded(assignment, mistake.item, mistake.where, filling.mistaken(mistake))
    check(mistake, test, grader.rubric.items(assignment)[mistake.item])


def test_no_message_has_an_answer():
    """What stands in the sources of messages are no lines of the textbook or the reference."""
    folder = Path(one_hw04.__file__).parent
    texts = [path.read_text() for path in folder.glob("draw_*.py")]
    texts += [path.read_text() for path in (folder.parent / "checks").glob("items.py")]
    said = "\n".join(line for text in texts for line in re.findall(r'"[^"\n]{20,}"', text))
    for answer in (*textbook.BLOCKS.values(), *textbook.FUNCTIONS.values()):
        for line in map(str.strip, answer.splitlines()):
            assert len(line) < 20 or line not in said
