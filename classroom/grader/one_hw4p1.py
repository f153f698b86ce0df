"""The second assignment: jobs and tests of one submission."""

import functools
import hashlib
import json
import math
import re
from pathlib import Path

from checks.items import HW4P1
from emptied import emptied_module, without_dead_imports
from parts import OWN, PARTS
from skeleton import own_files

from grader import similarity
from grader.result import Test
from grader.sandbox import ROOT
from grader.submission import source_text

SOURCE = ROOT / "hw4p1"
LAYERS = ("linear", "softmax", "attention", "multi_head")
TOP = r"(?m)^(?:class|def) (\w+)"  # what a module defines
RESULTS = ("test_metrics.json", "test_generated_results.json", "model_arch.txt")


def grade(grading) -> list[Test]:
    """All tests of a submission."""
    submission = grading.submission
    files = {f"{name}/{path}": content for name in ("mytorch", "hw4lib")
             for path, content in submission.folder(name).items() if path.endswith(".py")}
    has_lib = any(name.startswith("hw4lib/") for name in files)
    items = grading.rubric.items("hw4p1")
    bonus = grading.rubric.option([], "hw4p1", "bonus") or []
    graded = [item for item in items if has_lib or item in LAYERS]
    compare_answers(submission, files)
    jobs = {}
    for part in PARTS:
        if part.item not in graded:
            continue
        cases = [case for case in grading.grader.cases("hw4p1") if case.item == part.item]
        missing = part.file not in files
        job = None if missing else grading.submit(part.item, cases, fill_with(part.file, files))
        jobs[part.item] = cases, job, part.file
    tests = []
    for item in graded:
        cases, job, file = jobs[item]
        if job is None:
            most = sum(items[item].values())
            tests.append(Test(item, HW4P1[item].title, 0, most, f"{file} is missing"))
        else:
            tests.append(grading.item_test(item, cases, job.result(), item in bonus))
    return [*tests, perplexity_test(grading, has_lib)]


def fill_with(graded: str, files: dict[str, bytes]):
    """A function that fills a job's folder: the reference's files, the student's for the item.

    Files of the student's that the reference lacks are there, too, and with a trainer all that the
    student has in its folder.
    """
    with_folder = graded.startswith(f"{OWN}/")
    # Here and not in `fill`, which runs in threads: two that call ast.parse at once fail at times
    # in Python 3.11 (SystemError: AST constructor recursion depth mismatch).
    reference = reference_without(graded)

    def fill(folder: Path) -> None:
        code = folder / "code"
        for name, text in reference.items():
            put(code / name, text.encode())
        put(code / "config.yaml", (SOURCE / "config.yaml").read_bytes())
        for name, content in files.items():
            beside = with_folder and name.startswith(OWN)
            if name == graded or beside or not (SOURCE / name).exists():
                put(code / name, source_text(content).encode())

    return fill


@functools.cache
def reference_without(graded: str) -> dict[str, str]:
    """The reference's modules but one, of which they import only what a student's has.

    The reference's own may define more, for the sequel of the assignment. Beside a trainer there is
    the frame of a training that has no answers in it.
    """
    (part,) = [part for part in PARTS if part.file == graded]
    paths = [path for package in ("mytorch", "hw4lib") for path in (SOURCE / package).rglob("*.py")]
    texts = {str(path.relative_to(SOURCE)): path.read_text(encoding="utf-8") for path in paths}
    if graded.startswith(OWN):
        return {n: text for n, text in texts.items() if not n.startswith(OWN)} | own_files()
    whole = texts[graded]
    texts[graded] = emptied_module(SOURCE / graded, part)
    gone = set(re.findall(TOP, whole)) - set(re.findall(TOP, texts[graded]))
    return {
        name: without_dead_imports(SOURCE, name, text, texts)
        if any(word in text for word in gone) else text
        for name, text in texts.items() if name != graded
    }


def put(path: Path, content: bytes) -> None:
    """Write a file, and the folders that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def compare_answers(submission, files: dict[str, bytes]) -> None:
    """Note functions that are nearly the published solution's.

    Constructors are alike by themselves: their attributes have the names of the specification.
    """
    function = similarity.function
    found = []
    for part in PARTS:
        if part.file not in files:
            continue
        theirs, ours = source_text(files[part.file]), (SOURCE / part.file).read_text()
        found += [
            name for name in part.write
            if not name.endswith(".__init__")
            and similarity.alike(function(theirs, name), function(ours, name))
        ]
    if found:
        submission.note(similarity.note(found))


# ---- The perplexity


def perplexity_test(grading, has_lib: bool) -> Test:
    """Points for the perplexity on the test data, as the results say."""
    settings = grading.rubric.section("hw4p1", "perplexity")
    points = settings["points"]
    if not has_lib:
        points = grading.rubric.option(points, "hw4p1", "alone")
    wrong, said = read_results(grading, settings)
    return Test("perplexity", "LanguageModel", 0 if wrong else points, points, wrong or said)


def read_results(grading, settings: dict) -> tuple[str, str]:
    """What is wrong with the results, and what they say."""
    submission = grading.submission
    paths = {name: submission.find(name) for name in RESULTS}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        return f"{', '.join(missing)} is missing", ""
    try:
        metrics = json.loads(source_text(submission.files[paths["test_metrics.json"]]))
        texts = json.loads(source_text(submission.files[paths["test_generated_results.json"]]))
        per_char, loss_char, loss_token = (
            float(metrics[name]) for name in ("perplexity_char", "ce_loss_char", "ce_loss_token")
        )
        fine = [{"prompt", "original", "generated", "score"} <= set(text) for text in texts]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return f"the results cannot be read: {type(error).__name__} {error}"[:200], ""
    said = f"perplexity_char {per_char:.4f} as test_metrics.json says"
    wrong = disagreement(metrics, per_char, loss_char, loss_token) or other_data(metrics, settings)
    if wrong:
        return f"{said}; {wrong}", said
    if not fine or not all(fine):
        return "test_generated_results.json is no list of prompt, original, generated, score", ""
    if not per_char <= settings["most"]:
        return f"{said}; at most {settings['most']} is asked for", said
    return "", said


def disagreement(metrics: dict, per_char: float, loss_char: float, loss_token: float) -> str:
    """How the numbers contradict each other; "" if they do not."""
    if not all(math.isfinite(x) and x > 0 for x in (per_char, loss_char, loss_token)):
        return "the numbers are not all positive and finite"
    if not math.isclose(math.exp(min(loss_char, 700)), per_char, rel_tol=1e-3):
        return "perplexity_char is not e to the power of ce_loss_char"
    data = metrics.get("test_data")
    if isinstance(data, dict) and data.get("tokens") and data.get("characters"):
        ratio = float(data["characters"]) / float(data["tokens"])
        if not math.isclose(loss_token / loss_char, ratio, rel_tol=1e-3):
            return "ce_loss_token / ce_loss_char is not the data's characters per token"
    return ""


def other_data(metrics: dict, settings: dict) -> str:
    """Why the test data is not the course's; "" if it is, or if any is taken."""
    data = metrics.get("test_data")
    data = data if isinstance(data, dict) else {}
    digests = settings.get("digests") or []
    if digests and data.get("sha256") not in digests:
        return f"measured on other data than the course's ({data.get('folder', 'unknown')!r})"
    if not digests and data.get("made_of") == ["test.tokens"]:
        return "measured on the embedded sample, which is easy: use the course's data"
    return ""


def digest_of(folder: Path) -> str:
    """The SHA-256 of a folder of transcripts, as run_lm.py writes it into test_metrics.json."""
    digest = hashlib.sha256()
    files = [path for path in folder.glob("*.npy") if not path.name.startswith(".")]
    for path in sorted(files, key=lambda path: path.name):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
