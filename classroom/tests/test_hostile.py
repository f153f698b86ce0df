"""Hostile submissions: none harms the grader, none gets a point that it should not."""

import hashlib
import io
import os
import pickle
import tarfile
import time
import zipfile
from pathlib import Path
from textwrap import dedent
from unittest import mock

import filling
import pytest
from grader import one_hw04
from grader.grading import Grader, OneGrading
from grader.sandbox import Sandbox, Template
from grader.submission import Submission, read_submission
from hostile import NINE, SUBMISSIONS, Hostile
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


@pytest.mark.thorough
def test_endless_loops_end_within_the_limit(grader, textbook_hw04, pack):
    """Seconds that a quiet machine would need; here other programs may run."""
    source = filling.fill_hw04(textbook_hw04, dict.fromkeys(NINE, "while True: pass"))
    path = pack("endless.zip", {"lstlm.py": source})
    started, cpu = time.monotonic(), os.times()
    grader.grade(read_submission(path), "hw04")
    now = os.times()
    assert time.monotonic() - started < 6 * grader.rubric.submission_seconds
    assert now.user - cpu.user < 20  # of this process; those that are shut in have their limits


# ---- Files


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


@pytest.fixture(scope="module")
def weaker(grader, tmp_path_factory):
    """A grader whose processes cannot leave any namespace."""
    script = tmp_path_factory.mktemp("weaker") / "template.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'classroom')!r})\n"
        "from grader import confine, template\nconfine.unshare = lambda flags: False\n"
        "template.main()\n"
    )
    with mock.patch.object(Template, "SCRIPT", script), Sandbox(grader.rubric.limits) as sandbox:
        other = Grader(grader.rubric, sandbox, grader.seed)
        other.drawn = grader.drawn
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
def test_what_is_not_permitted_is_told(weaker, skeleton):
    result = weaker.grade(read_submission(skeleton / "hw04" / "code" / "lstlm.py"))
    assert "the system did not permit: files, network, processes" in result.tests[-1].output
