"""The first assignment: jobs and tests of one submission."""

import re
from pathlib import Path

import numpy as np
from backstage.errors import UserError
from checks.case import Case
from checks.items import HW04
from skeleton import without_answers

from grader import similarity
from grader.result import Test
from grader.sandbox import ROOT, Ran
from grader.submission import source_text

CODE = ROOT / "hw04" / "code"
BACKSTAGE = CODE / "backstage"
MODEL_SECONDS = 40.0
SEQUENCES = (
    "there was a girl", "one day, a bird", "there once was a boys and", "one day , a",
    "once upon a time , an elf", "once upon a time",
)  # of item 9
TRACES = {"8": "8 -train in traces.txt", "9": "9 -use in traces.txt",
          "10": "10 -prompt in traces.txt", "11": "11 -evaluate in traces.txt"}


def grade(grading) -> list[Test]:
    """All tests of a submission."""
    submission = grading.submission
    path = submission.find("lstlm.py")
    source = source_text(submission.files[path])
    folder = path.rpartition("/")[0]
    compare_backstage(submission, folder)
    compare_answers(submission, source)
    others = beside(submission, folder)
    model = start_model(grading)
    probe = whole_case("is_imported", {})
    ran = grading.submit("whole", [probe], fill_with(source, others)).result()
    tests = item_tests(grading, source, others, ran)
    tests.append(model_test(grading, model))
    tests += traces_tests(grading)
    return tests + report_test(grading)


def item_tests(grading, source: str, others: dict[str, bytes], probe: Ran) -> list[Test]:
    """A test for each item and exercise; without jobs if the file cannot be imported."""
    rubric = grading.rubric
    bonus = rubric.option([], "hw04", "bonus") or []
    exercises = rubric.section("hw04", "exercises")
    points = {**rubric.items("hw04"), **{name: {"property": p} for name, p in exercises.items()}}
    jobs = {}
    for item in points:
        cases = [case for case in grading.grader.cases("hw04") if case.item == item]
        if not probe.outcomes:
            jobs[item] = cases, None
            continue
        fill = fill_with(source, others)
        job = grading.submit(item, cases, fill, reference=reference_without(item))
        jobs[item] = cases, job
    return [
        grading.parts_test(
            item, points[item], cases, job.result() if job else probe, str(item) in bonus
        )
        for item, (cases, job) in jobs.items()
    ]


def reference_without(item: str) -> str:
    """The reference's lstlm.py; if `item` is one of the nine, without its answer."""
    source = (CODE / "lstlm.py").read_text(encoding="utf-8")
    return without_answers(source, (item,)) if item in HW04 else source


def fill_with(source: str, others: dict[str, bytes]):
    """A function that fills a job's folder: the student's lstlm.py, the reference's backstage."""

    def fill(folder: Path) -> None:
        code = folder / "code"
        (code / "backstage").mkdir(parents=True)
        for path in BACKSTAGE.glob("*.py"):
            (code / "backstage" / path.name).write_bytes(path.read_bytes())
        for name, content in others.items():
            (code / name).write_text(source_text(content), encoding="utf-8")
        (code / "lstlm.py").write_text(source, encoding="utf-8")

    return fill


def beside(submission, folder: str) -> dict[str, bytes]:
    """Other programs that the student's file may import: those in its folder."""
    prefix = f"{folder}/" if folder else ""
    found = {}
    for path, content in submission.files.items():
        name = path.removeprefix(prefix)
        if path.startswith(prefix) and name.endswith(".py") and "/" not in name:
            found[name] = content
    found.pop("lstlm.py", None)
    return found


def whole_case(run: str, given: dict) -> Case:
    """A case of a submission as a whole."""
    return Case("whole", "whole", run, given, {"imported": np.array(1)})


# ---- What is only noted


def compare_backstage(submission, folder: str) -> None:
    """Note files of backstage/ that are not the course's, which was used in their place."""
    prefix = f"{folder}/backstage/" if folder else "backstage/"
    changed = []
    for path, content in submission.files.items():
        if not path.startswith(prefix) or not path.endswith(".py"):
            continue
        ours = BACKSTAGE / path.removeprefix(prefix)
        if not ours.is_file() or source_text(content).strip() != ours.read_text().strip():
            changed.append(path.removeprefix(prefix))
    if changed:
        submission.note(f"backstage/ is not the course's ({', '.join(changed[:6])}); the course's "
                        "was used")


def compare_answers(submission, source: str) -> None:
    """Note blocks that are nearly the published solution's."""
    ours = (CODE / "lstlm.py").read_text()
    marked = similarity.marked
    found = [f"item {i}" for i in HW04 if similarity.alike(marked(source, i), marked(ours, i))]
    if found:
        submission.note(similarity.note(found))


# ---- The trained model, and the outputs


def start_model(grading):
    """Start the evaluation of the model file by the reference; None if there is none."""
    submission = grading.submission
    names = [Path(name).name for name in submission.files]
    others = sorted(n for n in names if n.endswith((".pt", ".pth", ".safetensors", ".bin")))
    path = submission.find("lm_model.pt", *others)
    if path is None:
        return None
    content = submission.files[path]
    note_shipped(submission, content)
    corpus = choose_corpus(grading.rubric)
    lines = (ROOT / corpus["file"]).read_text(encoding="utf-8").splitlines(keepends=True)
    text = "".join(lines[: corpus.get("stories", len(lines))])
    case = whole_case("evaluate_model", {"corpus": text})

    def fill(folder: Path) -> None:
        fill_with((CODE / "lstlm.py").read_text(), {})(folder)
        (folder / "code" / "model.pt").write_bytes(content)

    seconds = {"case_seconds": MODEL_SECONDS}
    return path, corpus, grading.submit("whole", [case], fill, MODEL_SECONDS, **seconds)


def note_shipped(submission, content: bytes) -> None:
    """Note a model that is the one which comes with the course."""
    shipped = CODE / "lm_model.pt"
    if shipped.is_file() and shipped.read_bytes() == content:
        submission.note("the model is the one that comes with the published solution")


def choose_corpus(rubric) -> dict:
    """The first corpus of the rubric that is there."""
    for corpus in rubric.section("hw04", "model")["corpora"]:
        if (ROOT / corpus["file"]).is_file():
            return corpus
    raise UserError(f"{rubric.path}: none of hw04.model.corpora is there")


def model_test(grading, model) -> Test:
    """Item 8's points for the model's perplexity."""
    settings = grading.rubric.section("hw04", "model")
    points = settings["points"]
    title = "8 the trained model"
    if model is None:
        return Test("model", title, 0, points, "there is no code/lm_model.pt")
    path, corpus, job = model
    ran = job.result()
    outcome = ran.outcomes[0] if ran.outcomes else None
    if outcome is None or outcome.kind:
        why = outcome.message if outcome else grading.ended(ran)
        return Test("model", title, 0, points, f"{path} cannot be evaluated: {why}")
    found = {name: float(value) for name, value in outcome.outputs.items()}
    said = f"perplexity {found['ppl']:.2f} on {corpus['file']}, {found['unknown']:.1%} <unk>"
    if found["sees ahead"]:
        return Test("model", title, 0, points, f"{said}; it sees what it predicts (-bidirectional)")
    if found["unknown"] > settings["unknown"]:
        most = f"at most {settings['unknown']:.0%} may be <unk>: the vocabulary is too small"
        return Test("model", title, 0, points, f"{said}; {most}")
    full, none = corpus["full"], corpus["none"]
    share = min(1.0, max(0.0, (none - found["ppl"]) / (none - full)))
    said += f"; full points up to {full}, none from {none} on"
    return Test("model", title, points * share, points, said)


def traces_tests(grading) -> list[Test]:
    """Whether traces.txt shows the outputs that items 8 to 11 ask for."""
    path = grading.submission.find("traces.txt")
    text = source_text(grading.submission.files[path]) if path else ""
    text = " ".join(text.split()).lower()
    tests = []
    for item, points in grading.rubric.section("hw04", "traces").items():
        share, said = SHOWN[item](text) if path else (0.0, "there is no code/traces.txt")
        tests.append(Test(f"traces {item}", TRACES[item], points * share, points, said))
    return tests


def shows_training(text: str) -> tuple[float, str]:
    """Item 8: losses, several of them."""
    losses = len(re.findall(r"(loss|perplexity|nats|ppl)\D{0,20}\d+\.\d+", text))
    return (1.0, "") if losses >= 3 else (0.0, "no losses of a training are in it")


def shows_use(text: str) -> tuple[float, str]:
    """Item 9: the six sequences."""
    missing = [each for each in SEQUENCES if each not in text]
    said = f"not in it: {'; '.join(missing)}" if missing else ""
    return 1 - len(missing) / len(SEQUENCES), said


def shows_prompts(text: str) -> tuple[float, str]:
    """Item 10: a greedy completion and five samples of one prompt."""
    count = text.count("once upon a time")
    said = "" if count >= 6 else f"once upon a time is in it {count} times: one greedy, five drawn"
    return (1.0, "") if count >= 6 else (0.0, said)


def shows_evaluation(text: str) -> tuple[float, str]:
    """Item 11: two perplexities, of valid and train."""
    fine = "valid" in text and "train" in text and re.search(r"perplexity|ppl", text)
    return (1.0, "") if fine else (0.0, "no perplexities of the valid and train corpus are in it")


SHOWN = {"8": shows_training, "9": shows_use, "10": shows_prompts, "11": shows_evaluation}


def report_test(grading) -> list[Test]:
    """The teacher's points for the report, where the rubric has them."""
    report = grading.rubric.section("hw04", "report")
    given = (report.get("given") or {}).get(grading.submission.name)
    if given is None:
        pdf = grading.submission.find("report.pdf")
        grading.submission.note(
            f"the report ({pdf or 'report.pdf is missing'}) is yours to grade: {report['points']:g}"
            " points, hw04.report.given in the rubric"
        )
        return []
    return [Test("report", "12 report", given, report["points"], "given by the teacher")]
