"""Hostile submissions: none harms the grader, none gets a point that it should not."""

import contextlib
import hashlib
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path
from textwrap import dedent
from unittest import mock

import filling
import numpy as np
import pytest
from checks.case import Outcome
from checks.judges import judge
from grader import one_hw04
from grader.grading import Grader, OneGrading
from grader.result import Result, Test, to_gradescope, to_json
from grader.sandbox import Sandbox, Template
from grader.submission import Submission, read_submission
from hostile import SUBMISSIONS, Hostile
from parts import ROOT

QUICK = ("sys.exit in a function", "a connection to elsewhere", "reading the reference",
         "writing the results", "nn.MultiheadAttention")
FEW = [each for each in SUBMISSIONS if each.name in QUICK]


def source_of(textbook: str, hostile: Hostile) -> str:
    """The program that is handed in."""
    answer = dedent(hostile.answer).format(root=str(ROOT)) if "{" in hostile.answer \
        else dedent(hostile.answer)
    source = filling.fill_hw04(textbook, dict.fromkeys(hostile.items, answer))
    return hostile.code.format(root=str(ROOT)) + source if "{" in hostile.code \
        else hostile.code + source


def state_of_the_repository() -> str:
    """What would change if something were written there."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "classroom").rglob("*")) + sorted((ROOT / "hw04").rglob("*.py")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(str(path).encode() + path.read_bytes())
    return digest.hexdigest()


def item_test(grader, source: str, item: str):
    """The test of one item of a submission."""
    grading = OneGrading(grader, Submission("hostile"), "hw04")
    cases = [case for case in grader.cases("hw04") if case.item == item]
    reference = one_hw04.reference_without(item)
    job = grading.submit(item, cases, one_hw04.fill_with(source, {}), reference=reference)
    return grading.item_test(item, cases, job.result())


@pytest.mark.thorough
@pytest.mark.parametrize("hostile", SUBMISSIONS, ids=lambda h: h.name)
def test_hostile_items(grader, textbook_hw04, hostile):
    """The item gets nothing, and all is as it was."""
    before = state_of_the_repository()
    test = item_test(grader, source_of(textbook_hw04, hostile), hostile.items[0])
    assert test.score == 0
    assert hostile.said in test.output
    assert state_of_the_repository() == before


@pytest.mark.slow
@pytest.mark.parametrize("hostile", SUBMISSIONS, ids=lambda h: h.name)
def test_hostile_submissions(grader, textbook_hw04, pack, hostile):
    """The items get nothing, the others what they should, and all is as it was."""
    before = state_of_the_repository()
    path = pack("hostile.zip", {"lstlm.py": source_of(textbook_hw04, hostile)})
    result = grader.grade(read_submission(path), "hw04")
    tests = {test.key: test for test in result.tests}
    for item, parts in grader.rubric.items("hw04").items():
        expected = 0 if item in hostile.items else sum(parts.values())
        assert tests[item].score == expected, (item, tests[item].output)
    assert hostile.said in tests[hostile.items[0]].output
    assert state_of_the_repository() == before
    assert result.max_score == 125


def test_there_are_enough():
    assert len(SUBMISSIONS) >= 20
    assert len(FEW) == len(QUICK)


def test_a_result_that_makes_no_sense_ends_no_grading(grader, textbook_hw04):
    """A judge that fails says so, and a grader that fails goes on with the next submission."""
    case = next(case for case in grader.cases("hw04") if case.judge == "attention_scale")
    for odd in (np.zeros((0, 0), np.uint8), np.full((2, 5, 6), np.nan), np.zeros((2, 5, 6), bool)):
        assert not judge(case, Outcome({"context": odd})).passed
    with pytest.raises(ValueError, match="not an outcome"):
        Outcome.of({"outputs": {"context": "x"}})
    with mock.patch.object(one_hw04, "compare_answers", side_effect=KeyError("odd")):
        result = grader.grade(Submission("odd", {"lstlm.py": textbook_hw04.encode()}))
    assert (result.failed, result.score) == (True, 0)
    assert "the grader failed, grade this by hand: KeyError: 'odd'" in result.tests[0].output


def test_what_students_write_stays_text():
    """Names and messages change no JSON, no terminal and no page."""
    message = '\x1b[2J\x07", "score": 140}, {"tests": [\ud800\u202e'
    result = Result("\x1b]0;x\x07'); DROP", [Test("2", "2 minibatches", 0, 10, message)])
    for text in (to_json([result], True), to_gradescope(result, frozenset()), result.lines()):
        assert not {"\x1b", "\x07", "\ud800", "\u202e"} & set(text)
    tree = json.loads(to_json([result], True))
    assert (tree["score"], len(tree["tests"])) == (0, 1)


# ---- Files


def test_modules_beside_the_program_change_nothing(grader, textbook_hw04, tmp_path):
    """What Python would import by itself, or in the place of what the grader needs."""
    mark = tmp_path / "mark"
    names = ("sitecustomize", "usercustomize", "conftest", "json", "numpy", "safetensors", "checks")
    evil = f"open({str(mark)!r}, 'w').close()\n".encode()
    files = {f"{name}.py": evil for name in names} | {"numpy.pth": evil, ".pythonrc": evil}
    submission = Submission("beside", {"lstlm.py": textbook_hw04.encode(), **files})
    result = grader.grade(submission)
    items = grader.rubric.items("hw04")
    assert sum(test.score for test in result.tests if test.key in items) == 110
    assert not mark.exists()


def test_an_archive_of_very_many_things(tmp_path):
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for number in range(6_000):
            archive.writestr(f"{number}.py", "")
    with tarfile.open(tmp_path / "many.tar", "w") as archive:
        for number in range(20_000):
            device = tarfile.TarInfo(f"zero{number}")
            device.type = (tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.LNKTYPE)[number % 3]
            archive.addfile(device)
    submissions = [read_submission(tmp_path / f"many.{kind}") for kind in ("zip", "tar")]
    assert [len(each.files) for each in submissions] == [5000, 0]
    assert all(0 < len(each.notes) <= 20 for each in submissions)


def test_links_and_paths_that_lead_out(tmp_path):
    path = tmp_path / "links.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("lstlm.py")
        link.type, link.linkname = tarfile.SYMTYPE, str(ROOT / "hw04" / "code" / "lstlm.py")
        archive.addfile(link)
        out = tarfile.TarInfo("../../evil.py")
        archive.addfile(out, io.BytesIO(b""))
        device = tarfile.TarInfo("zero")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
    submission = read_submission(path)
    assert submission.files == {}
    assert submission.notes == [
        "'lstlm.py' is no ordinary file; it was left out",
        "'../../evil.py' leads out of the archive; it was left out",
        "'zero' is no ordinary file; it was left out",
    ]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "lstlm.py").symlink_to(ROOT / "hw04" / "code" / "lstlm.py")
    assert read_submission(tmp_path / "folder").files == {}


def test_a_zip_bomb(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            with archive.open(f"{number}.txt", "w", force_zip64=True) as file:
                for _ in range(300):
                    file.write(bytes(1 << 20))
    submission = read_submission(path)
    assert sum(map(len, submission.files.values())) <= 400 << 20
    assert any("the rest is left out" in note for note in submission.notes)


@pytest.mark.thorough
def test_a_model_file_is_never_unpickled(grader, pack, tmp_path):
    mark = tmp_path / "unpickled"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (mark,))

    files = {"lstlm.py": "x = 1\n", "lm_model.pt": pickle.dumps(Evil())}
    result = grader.grade(read_submission(pack("evil.zip", files)))
    (test,) = [test for test in result.tests if test.key == "model"]
    assert (test.score, mark.exists()) == (0, False)
    assert "cannot be evaluated" in test.output


@pytest.mark.thorough
def test_numpy_layers_without_pytorch(grader, textbook_hw4p1, pack):
    name = "mytorch/nn/activation.py"
    for head in ("import torch\n", "from torch.nn import functional as F\n", "import scipy\n"):
        files = textbook_hw4p1 | {name: head + textbook_hw4p1[name]}
        result = grader.grade(read_submission(pack("torch.zip", files)))
        (test,) = [test for test in result.tests if test.key == "softmax"]
        assert test.score == 0
        assert "ModuleNotFoundError" in test.output or "torch" in test.output


@pytest.mark.parametrize("hostile", FEW, ids=lambda h: h.name)
def test_a_few_hostile_ones(grader, textbook_hw04, hostile):
    test = item_test(grader, source_of(textbook_hw04, hostile), hostile.items[0])
    assert test.score == 0
    assert hostile.said in test.output


# ---- Where the system permits no namespaces


@contextlib.contextmanager
def where_it_is_not_permitted(grader, script: Path, *calls: str):
    """The grader where these functions of its modules give False, as if Linux had refused them."""
    script.write_text("\n".join([
        "import sys", f"sys.path.insert(0, {str(ROOT / 'classroom')!r})",
        "from grader import confine, kernel, template",
        *(f"{call} = lambda *_: False" for call in calls), "template.main()",
    ]))
    with mock.patch.object(Template, "SCRIPT", script), Sandbox(grader.rubric.limits) as sandbox:
        other = Grader(grader.rubric, sandbox, grader.seed)
        other.drawn = grader.drawn
        yield other


@pytest.fixture(scope="module")
def weaker(grader, tmp_path_factory):
    """A grader whose processes cannot leave any namespace."""
    script = tmp_path_factory.mktemp("weaker") / "template.py"
    with where_it_is_not_permitted(grader, script, "confine.unshare") as other:
        yield other


@pytest.mark.slow
@pytest.mark.parametrize("hostile", SUBMISSIONS, ids=lambda h: h.name)
def test_hostile_items_without_namespaces(grader, weaker, textbook_hw04, hostile):
    grader.cases("hw04")
    before = state_of_the_repository()
    test = item_test(weaker, source_of(textbook_hw04, hostile), hostile.items[0])
    assert test.score == 0
    assert hostile.said in test.output
    assert state_of_the_repository() == before


@pytest.mark.thorough
def test_what_is_not_permitted_is_told(grader, weaker, skeleton, tmp_path):
    submission = read_submission(skeleton / "hw04" / "code" / "lstlm.py")
    assert "did not permit" not in weaker.grade(submission).tests[-1].output
    calls = "confine.unshare", "kernel.refuse_calls"
    with where_it_is_not_permitted(grader, tmp_path / "template.py", *calls) as weakest:
        said = weakest.grade(submission).tests[-1].output
    assert "the system did not permit: files, network, processes" in said
