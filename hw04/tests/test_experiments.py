"""The runner of the report's experiments, on corpora of a few stories."""

import contextlib
import io
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import analysis
import experiments
import lstlm
import pytest
from experiments import PLANS, Experiment, Plan

SAMPLE = Path(lstlm.DATA) / "sample"
PLAN = Plan("small", "a test, of 2", "-H 1 -N 8 -EDim 8 -VSize 60 -E 1 -B 4", 1, stories=(8, 3))


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder with a few stories under the names of the real files; results and models go to tmp_path too."""
    monkeypatch.setattr(experiments, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(experiments, "BUILD", tmp_path / "build")
    for name, source, stories in (("train.tokens.4M", "train", 12), ("valid.tokens.200K", "valid", 5),
                                  ("test.tokens.4M", "test", 5)):
        lines = (SAMPLE / f"{source}.tokens").read_text().splitlines(keepends=True)[:stories]
        (tmp_path / "tiny").mkdir(exist_ok=True)
        (tmp_path / "tiny" / f"tiny.{name}").write_text("".join(lines))
    return tmp_path


@pytest.fixture
def in_process(monkeypatch):
    """Programs are called without a process of their own, which takes seconds to begin."""
    def call(self, threads, *flags):
        with contextlib.redirect_stdout(printed := io.StringIO()):
            assert getattr(experiments, self.plan.program).main([*flags]) == 0
        return printed.getvalue()

    monkeypatch.setattr(Experiment, "call", call)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_every_plan_is_a_command_line_of_its_program(plan, tmp_path):
    experiment = Experiment(replace(plan, stories=(0, 0), backward=False), 0, tmp_path)
    program = getattr(experiments, plan.program)
    args = program.parse_args(experiment.training_flags())
    assert args.run is program.train and args.seed == 0


def test_the_names_of_plans_and_their_files_differ():
    assert len({plan.name for plan in PLANS}) == len(PLANS)
    models = [Experiment(plan, seed, Path()).model for plan in PLANS for seed in plan.seeds]
    assert len({*models}) == len(models)


def test_a_run_is_stored_once_and_done_anew_when_its_configuration_changes(data, monkeypatch):
    experiment = Experiment(PLAN, 0, data)
    assert experiment.done() is None
    experiment.run(1)
    result = experiment.done()
    precision = lstlm.choose_precision("auto", lstlm.choose_device("cpu"))
    loaded = lstlm.load_model(lstlm.parse_args(["-evaluate", "-model", str(experiment.model)]), precision)
    test = lstlm.score_corpus(loaded, data / "tiny" / "tiny.test.tokens.4M", "auto", 32)
    assert result["test"]["nats"] == pytest.approx(test["nats"], rel=1e-6)
    assert result["parameters"] == sum(p.numel() for p in loaded.model.parameters())
    assert [(point["epoch"], point["step"]) for point in result["curve"]] == [(1, 2)]
    assert result["configuration"]["stories"] == [8, 3]
    stories = (data / "tiny" / "tiny.train.tokens.4M").read_text().splitlines()[:8]
    assert result["train_tokens"] == sum(len(story.split()) + 1 for story in stories)
    assert result["machine"]["precision"] == str(precision).removeprefix("torch.")
    assert json.loads(experiment.result.read_text()) == result
    for other in (replace(PLAN, flags=PLAN.flags + " -lr 0.001"), replace(PLAN, stories=(7, 3))):
        assert Experiment(other, 0, data).done() is None
    with (data / "tiny" / "tiny.test.tokens.4M").open("a") as file:
        file.write("one more story .\n")
    assert experiment.done() is None


def test_a_stopped_run_goes_on_and_a_finished_training_is_only_evaluated(data, monkeypatch):
    experiment, commands = Experiment(PLAN, 0, data), []
    train = Experiment.call

    def watched(self, threads, *flags):
        commands.append(flags)
        if len(commands) == 2:
            raise KeyboardInterrupt
        return train(self, threads, *flags)

    monkeypatch.setattr(Experiment, "call", watched)
    with pytest.raises(KeyboardInterrupt):
        experiment.run(1)
    experiment.run(1)
    assert [flags[0] for flags in commands] == ["-train", "-evaluate", "-evaluate"]
    mark = experiments.mark(experiment.model)
    mark.write_text(mark.read_text().removesuffix(" trained"))
    lstlm.side_file(experiment.model, ".state.pt").write_bytes(b"a state of a stopped run")
    with pytest.raises(SystemExit, match="exit status 2"):  # as that is none
        experiment.run(1)
    assert commands[-1][-1] == "-resume"


def test_a_training_that_was_killed_before_its_first_state_begins_anew(data, in_process):
    """Its model is there, as the valid loss was looked at, and no state."""
    experiment = Experiment(PLAN, 0, data)
    experiment.run(1)
    result = experiment.done()
    mark = experiments.mark(experiment.model)
    mark.write_text(mark.read_text().removesuffix(" trained"))
    experiment.model.write_bytes(b"the model of an early step")
    experiment.run(1)
    assert experiment.done()["test"] == result["test"] and experiment.done()["curve"][0]["step"] == 2


def test_a_failed_training_says_why(data):
    with pytest.raises(SystemExit, match="-N 9 with -a"):
        Experiment(replace(PLAN, flags="-H 1 -N 9 -a -EDim 8 -VSize 60 -E 1"), 0, data).run(1)


def test_a_feed_forward_model_takes_the_vectors_of_the_run_named_base(data, monkeypatch):
    plan = Plan("small", "feed-forward", "-lstm BASE -K 2 -H 1 -N 6 -E 1 -B 4", 1, (0,), (8, 3), "fflm")
    experiment, base = Experiment(plan, 0, data), replace(PLAN, name="base")
    monkeypatch.setattr(experiments, "PLANS", [plan, base])  # in this order; and two at a time
    monkeypatch.setattr("sys.argv", ["experiments.py", "run", "-data", str(data), "-jobs", "2"])
    experiments.main()
    result = experiment.done()
    assert result["parameters"] == 63 * 8 + (2 * 8 + 1) * 6 + (6 + 1) * 63
    assert result["test"]["nats"] < 5
    # Results come with a clone, models do not: base is trained once more, for two that need it, and its result stays.
    stored = experiment.base().result.read_bytes()
    shutil.rmtree(experiments.BUILD)
    monkeypatch.setattr(experiments, "PLANS", [plan, replace(plan, name="feed-forward, 3"), base])
    experiment.result.unlink()
    experiments.main()
    assert experiment.done()["test"] == result["test"]
    assert Experiment(experiments.PLANS[1], 0, data).done()["test"] == result["test"]
    assert experiment.base().result.read_bytes() == stored


@pytest.mark.parametrize("program", ["lstlm", "unbiased"])
def test_a_tied_model_has_a_constant_bias_but_in_one_program_none(program, data, in_process):
    plan = replace(PLAN, flags=f"{PLAN.flags} -tie", program=program)
    (experiment := Experiment(plan, 0, data)).run(1)
    bias = lstlm.unseal(experiment.model.read_bytes())["weights"]["output.bias"]
    assert bias.any() == (program == "lstlm") and "valid" in experiment.done()
    assert lstlm.Nats is not experiments.unbiased.Unbiased


@pytest.mark.parametrize("flags", ["", "-tie"])
def test_the_shipped_model_is_half_as_large_and_predicts_the_same(flags, data, tmp_path, in_process):
    experiment = Experiment(replace(PLAN, flags=f"{PLAN.flags.replace(' 8 ', ' 64 ')} {flags}"), 0, data)
    experiment.run(1)
    experiments.ship(experiment.model, shipped := tmp_path / "shipped.pt")
    assert "best valid loss" in (tmp_path / "shipped.train.txt").read_text()
    assert shipped.stat().st_size < 0.65 * experiment.model.stat().st_size
    test = data / "tiny" / "tiny.test.tokens.4M"
    nats = [lstlm.score_corpus(lstlm.load_model(lstlm.parse_args(["-evaluate", "-model", str(path)])), test, "auto",
                               32)["nats"] for path in (experiment.model, shipped)]
    assert nats[1] == pytest.approx(nats[0], abs=1e-3)


def test_a_backward_corpus_has_each_story_from_its_end(data):
    experiment = Experiment(replace(PLAN, backward=True), 0, data)
    for stories in (0, 3):
        lines = (data / "tiny" / "tiny.valid.tokens.200K").read_text().splitlines()[: stories or None]
        backward = experiment.corpus("valid", stories).read_text().splitlines()
        assert [line.split()[::-1] for line in backward] == [line.split() for line in lines] and backward != lines
    assert experiment.configuration() == {**Experiment(PLAN, 0, data).configuration(), "backward": True}


def test_the_first_stories_of_a_corpus_that_has_changed_are_cut_anew(data):
    experiment = Experiment(PLAN, 0, data)
    whole = data / "tiny" / "tiny.train.tokens.4M"
    for _ in range(2):
        assert experiment.corpus("train", 8).read_text().splitlines() == whole.read_text().splitlines()[:8]
        whole.write_text("".join(reversed(whole.read_text().splitlines(keepends=True))))


def test_a_corpus_that_is_not_there_is_named(data, monkeypatch, capsys):
    (lacking := data / "tiny" / "tiny.valid.tokens.200K").unlink()
    monkeypatch.setattr(experiments, "PLANS", [PLAN])
    for what in ("list", "run"):
        monkeypatch.setattr("sys.argv", ["experiments.py", what, "-data", str(data)])
        with contextlib.suppress(SystemExit):
            experiments.main()
    printed = capsys.readouterr()
    assert "1 min planned" in printed.out and f"error: {lacking}: not there" in printed.err


def test_wikitext_is_a_plan_like_others(data, in_process):
    (data / "wiki").mkdir()
    for part in ("train", "valid", "test"):
        (data / "wiki" / f"wiki.{part}.tokens").write_text(" \n = A B = \n \n c A d b . \n" * 3)
    plan = replace(PLAN, flags="-H 1 -N 4 -EDim 4 -VSize 9 -E 1 -cased -stories stream", stories=(0, 0), text="wiki")
    experiment = Experiment(plan, 0, data)
    experiment.run(1)
    result = experiment.done()
    assert result["V"] == 3 + 7 and result["test"]["n_tokens"] == 3 * (9 + 4)
    assert result["configuration"]["corpora"] == [lstlm.digest(data / "wiki" / "wiki.train.tokens")] * 3


def test_a_model_with_attention_is_asked_where_it_looks(data, in_process):
    experiment, plain = (Experiment(replace(PLAN, name=name, flags=f"{PLAN.flags}{flags}"), 0, data)
                         for name, flags in (("additive", " -a additive"), ("plain", "")))
    experiment.train(1)
    found = analysis.looked_at(experiment)
    assert (found["name"], found["score"], found["stories"]) == ("additive", "additive", 5)
    assert len(found["attention"]["map"]) == len(found["attention"]["words"]) == analysis.SHOWN
    plain.train(1)
    with pytest.raises(SystemExit, match="plain / seed 0: a model without attention"):
        analysis.looked_at(plain)


def test_a_model_is_analysed_with_the_cache_that_was_found_best(data, in_process, monkeypatch):
    monkeypatch.setattr(analysis, "RESULTS", data)
    experiment = Experiment(PLAN, 0, data)
    experiment.train(1)
    with pytest.raises(SystemExit, match="adapting.json: not there; adapting.py -results"):
        analysis.analyse(experiment, 2)
    (data / "adapting.json").write_text('{"cache": {"setting": {"theta": 0.0, "share": 0.0}}}')
    found = analysis.analyse(experiment, 2)
    assert {*found["evaluated"]} == {"train", "valid", "test"} and len(found["next"]) == len(analysis.BEGINNINGS)
    plain = found["losses"]["said_before"]  # a share of 0 is the model as it is
    assert found["cached"] == {kind: {**row, "nats": pytest.approx(row["nats"])} for kind, row in plain.items()}
    assert len(found["penalties"]) == 2 * len(analysis.PENALTIES) + 1


def test_what_is_missing_of_the_rest_is_made(data, monkeypatch, capfd):
    monkeypatch.setattr(experiments, "REPORT", data)
    rest = {"one.json": "write.py -results RESULT 'DATA/a b'", "two.?.json": "fail.py"}
    monkeypatch.setattr(experiments, "REST", rest)
    (data / "write.py").write_text("import sys, os, pathlib\n_, _, result, name = sys.argv\n"
                                   "pathlib.Path(result).write_text(name + os.environ['LSTLM_DATA'])")
    (data / "fail.py").write_text("raise SystemExit(3)")
    (data / "results").mkdir()
    with pytest.raises(SystemExit, match="3"):
        experiments.make_rest(data)
    assert (data / "results" / "one.json").read_text() == f"{data}/a b{data}"
    (data / "results" / "one.json").write_text("as it was")
    (data / "results" / "two.1.json").touch()
    experiments.make_rest(data)
    assert (data / "results" / "one.json").read_text() == "as it was"


@pytest.mark.parametrize("result", experiments.REST)
def test_the_programs_of_the_rest_and_their_runs_exist(result):
    program, *flags = shlex.split(experiments.REST[result])
    assert (experiments.REPORT / program).exists()
    assert program != "analysis.py" or flags[0] in {plan.name for plan in PLANS}
