"""The runner of the report's experiments, on corpora of a few stories."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import adapter
import experiments
import lstlm
import pytest
import rest
import runner
import store
from backstage.device import choose_device, choose_precision
from backstage.errors import UserError
from backstage.files import digest, side_file
from backstage.sealed import unseal
from extensions import literature
from measures import analysis
from plans import ADDED, PLANS, Plan
from runner import PROGRAMS, Experiment


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.name)
def test_every_plan_is_a_command_line_of_its_program(plan, tmp_path):
    experiment = Experiment(replace(plan, stories=(0, 0), backward=False), 0, tmp_path)
    program = PROGRAMS[plan.program]
    args = program.parse_args(experiment.training_flags())
    assert args.run is program.train
    assert args.seed == 0


def test_the_names_of_plans_and_their_files_differ():
    assert len({plan.name for plan in PLANS}) == len(PLANS)
    models = [Experiment(plan, seed, Path()).model for plan in PLANS for seed in plan.seeds]
    assert len({*models}) == len(models)


def test_all_extensions_are_planned():
    assert {*ADDED} == {*literature.ADDED}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_the_programs_have_what_the_runner_asks_for(program):
    assert all(
        callable(getattr(program, name)) for name in ("main", "parse_args", "train", "load_model")
    )


def test_a_run_is_stored_once_and_done_anew_when_its_configuration_changes(
    data, plan, in_process
):
    experiment = Experiment(plan, 0, data)
    assert experiment.done() is None
    experiment.run(1)
    result = experiment.done()
    precision = choose_precision("auto", choose_device("cpu"))
    args = lstlm.parse_args(["-evaluate", "-model", str(experiment.model)])
    loaded = lstlm.load_model(args, precision)
    test = adapter.corpus_loss(loaded, data / "tiny" / "tiny.test.tokens.4M")
    assert result["test"]["nats"] == pytest.approx(test, rel=1e-6)
    assert result["parameters"] == sum(p.numel() for p in loaded.model.parameters())
    assert [(point["epoch"], point["step"]) for point in result["curve"]] == [(1, 2)]
    assert result["configuration"]["stories"] == [8, 3]
    stories = (data / "tiny" / "tiny.train.tokens.4M").read_text().splitlines()[:8]
    assert result["train_tokens"] == sum(len(story.split()) + 1 for story in stories)
    assert result["machine"]["precision"] == str(precision).removeprefix("torch.")
    assert experiment.result == store.RESULTS / "small" / "a-test-of-2.0.json"
    assert json.loads(experiment.result.read_text()) == result
    for other in (replace(plan, flags=plan.flags + " -lr 0.001"), replace(plan, stories=(7, 3))):
        assert Experiment(other, 0, data).done() is None
    with (data / "tiny" / "tiny.test.tokens.4M").open("a") as file:
        file.write("one more story .\n")
    assert experiment.done() is None


def test_a_stopped_run_goes_on_and_a_finished_training_is_only_evaluated(
    data, plan, monkeypatch, in_process
):
    experiment = Experiment(plan, 0, data)
    commands = []
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
    mark = runner.mark(experiment.model)
    mark.write_text(mark.read_text().removesuffix(" trained"))
    side_file(experiment.model, ".state.pt").write_bytes(b"a state of a stopped run")
    with pytest.raises(SystemExit, match="exit status 2"):  # as that is none
        experiment.run(1)
    assert commands[-1][-1] == "-resume"


def test_a_training_that_was_killed_before_its_first_state_begins_anew(data, plan, in_process):
    """Its model is there, as the valid loss was looked at, and no state."""
    experiment = Experiment(plan, 0, data)
    experiment.run(1)
    result = experiment.done()
    mark = runner.mark(experiment.model)
    mark.write_text(mark.read_text().removesuffix(" trained"))
    experiment.model.write_bytes(b"the model of an early step")
    experiment.run(1)
    assert experiment.done()["test"] == result["test"]
    assert experiment.done()["curve"][0]["step"] == 2


def test_a_failed_training_says_why(data, plan):
    with pytest.raises(SystemExit, match="-N 9 with -a"):
        Experiment(replace(plan, flags=f"{plan.flags} -N 9 -a"), 0, data).run(1)


def test_a_feed_forward_model_takes_the_vectors_of_the_run_named_base(
    data, plan, planned, in_process
):
    flags = "-lstm BASE -K 2 -H 1 -N 6 -E 1 -B 4"
    forward = Plan("small", "feed-forward", flags, 1, (0,), (8, 3), "fflm")
    experiment = Experiment(forward, 0, data)
    base = replace(plan, name="base")
    planned(forward, base)
    experiment.run(1)
    result = experiment.done()
    assert result["parameters"] == 63 * 8 + (2 * 8 + 1) * 6 + (6 + 1) * 63
    assert result["test"]["nats"] < 5
    # Results come with a clone, models do not: base is trained once more, and its result stays.
    experiment.base().run(1)
    stored = experiment.base().result.read_bytes()
    shutil.rmtree(store.BUILD)
    experiment.run(1)
    assert experiment.done()["test"] == result["test"]
    assert experiment.base().result.read_bytes() == stored


@pytest.mark.thorough
def test_two_runs_at_a_time_share_a_base(data, plan, planned):
    flags = "-lstm BASE -K 2 -H 1 -N 6 -E 1 -B 4"
    forward = Plan("small", "feed-forward", flags, 1, (0,), (8, 3), "fflm")
    other = replace(forward, name="feed-forward, 3")
    base = replace(plan, name="base")
    planned(forward, other, base)  # in this order
    assert experiments.main(["run", "-data", str(data), "-jobs", "2"]) == 0
    results = [Experiment(one, 0, data).done() for one in (forward, other, base)]
    assert results[0]["test"] == results[1]["test"] != results[2]["test"]


def test_what_is_missing_is_run_and_what_needs_a_model_last(
    data, plan, planned, monkeypatch, capsys
):
    monkeypatch.setattr(Experiment, "run", lambda self, threads: self.label)
    forward = Plan("small", "feed-forward", "-lstm BASE", 1, (0, 1), program="fflm")
    done = replace(plan, name="done")
    planned(forward, done, replace(plan, name="base"))
    run = Experiment(done, 0, data)
    store.write_json(run.result, {"configuration": run.configuration()})
    assert experiments.main(["run", "-data", str(data), "-jobs", "2"]) == 0
    labels = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert labels == ["base / seed 0", "feed-forward / seed 0", "feed-forward / seed 1"]
    assert experiments.main(["run", "-data", str(data), "-first", "feed-forward"]) == 0
    assert capsys.readouterr().out.split(" ", 1)[1] == "feed-forward / seed 0\n"


@pytest.mark.parametrize("program", ["lstlm", "unbiased"])
def test_a_tied_model_has_a_constant_bias_but_in_one_program_none(program, data, plan, in_process):
    experiment = Experiment(replace(plan, flags=f"{plan.flags} -tie", program=program), 0, data)
    experiment.run(1)
    bias = unseal(experiment.model.read_bytes())["weights"]["output.bias"]
    assert bias.any() == (program == "lstlm")
    assert "valid" in experiment.done()


def test_when_all_is_done_it_says_so(data, plan, planned, capsys):
    planned(plan)
    experiment = Experiment(plan, 0, data)
    store.write_json(experiment.result, {"configuration": experiment.configuration()})
    assert experiments.main(["run", "-data", str(data)]) == 0
    assert capsys.readouterr().out == "nothing to train: 1 of 1 results are there\n"


@pytest.mark.parametrize("content", ["", "{", "\xff", "[" * 100000])
def test_a_damaged_result_is_named(data, plan, planned, capsys, content):
    planned(plan)
    path = Experiment(plan, 0, data).result
    path.parent.mkdir(parents=True)
    path.write_text(content, encoding="latin-1")
    assert experiments.main(["list", "-data", str(data)]) == 2
    err = capsys.readouterr().err
    assert f"{path}: cannot be read as a result" in err
    assert err.count("\n") == 1


def test_without_tied_vectors_there_is_no_constant_bias(data, plan, in_process, capsys):
    with pytest.raises(SystemExit, match="exit status 2"):
        Experiment(replace(plan, program="unbiased"), 0, data).run(1)
    assert "give -tie" in capsys.readouterr().err


@pytest.mark.parametrize("flags", ["", "-tie"])
def test_the_shipped_model_is_half_as_large_and_predicts_the_same(
    flags, data, plan, tmp_path, in_process
):
    large = replace(plan, flags=f"{plan.flags.replace(' 8 ', ' 64 ')} {flags}")
    experiment = Experiment(large, 0, data)
    experiment.run(1)
    shipped = tmp_path / "shipped.pt"
    experiments.ship(experiment.model, shipped)
    assert "best valid loss" in (tmp_path / "shipped.train.txt").read_text()
    assert shipped.stat().st_size < 0.65 * experiment.model.stat().st_size
    test = data / "tiny" / "tiny.test.tokens.4M"
    before, after = (
        adapter.corpus_loss(adapter.load(path), test) for path in (experiment.model, shipped)
    )
    assert after == pytest.approx(before, abs=1e-3)


def test_a_backward_corpus_has_each_story_from_its_end(data, plan):
    experiment = Experiment(replace(plan, backward=True), 0, data)
    for stories in (0, 3):
        whole = (data / "tiny" / "tiny.valid.tokens.200K").read_text().splitlines()
        lines = whole[: stories or None]
        backward = experiment.corpus("valid", stories).read_text().splitlines()
        assert [line.split()[::-1] for line in backward] == [line.split() for line in lines]
        assert backward != lines
    forward = Experiment(plan, 0, data).configuration()
    assert experiment.configuration() == {**forward, "backward": True}


def test_the_first_stories_of_a_corpus_that_has_changed_are_cut_anew(data, plan):
    experiment = Experiment(plan, 0, data)
    whole = data / "tiny" / "tiny.train.tokens.4M"
    for _ in range(2):
        cut = experiment.corpus("train", 8).read_text().splitlines()
        assert cut == whole.read_text().splitlines()[:8]
        whole.write_text("".join(reversed(whole.read_text().splitlines(keepends=True))))


def test_a_corpus_that_is_not_there_is_named(data, plan, planned, capsys):
    lacking = data / "tiny" / "tiny.valid.tokens.200K"
    lacking.unlink()
    planned(plan)
    status = [experiments.main([what, "-data", str(data)]) for what in ("list", "run")]
    printed = capsys.readouterr()
    assert status == [0, 2]
    assert "1 min planned" in printed.out
    assert f"error: {lacking}: not there" in printed.err


@pytest.mark.parametrize(("flags", "says"), [
    (["run", "nothing"], "no run or group named nothing"), (["ship"], "ship needs the name of one"),
    (["ship", "strong"], "whose model is in build/experiments"), (["-jobs", "0", "list"], "-jobs"),
    (["away"], "invalid choice"),
])
def test_a_mistake_is_told(data, flags, says, capsys):
    assert experiments.main(flags) == 2
    assert says in capsys.readouterr().err


def test_wikitext_is_a_plan_like_others(data, plan, in_process):
    (data / "wiki").mkdir()
    for part in ("train", "valid", "test"):
        text = " \n = A B = \n \n c A d b . \n" * 3
        (data / "wiki" / f"wiki.{part}.tokens").write_text(text)
    flags = "-H 1 -N 4 -EDim 4 -VSize 9 -E 1 -cased -stories stream"
    experiment = Experiment(replace(plan, flags=flags, stories=(0, 0), text="wiki"), 0, data)
    experiment.run(1)
    result = experiment.done()
    assert result["V"] == 3 + 7
    assert result["test"]["n_tokens"] == 3 * (9 + 4)
    train = digest(data / "wiki" / "wiki.train.tokens")
    assert result["configuration"]["corpora"] == [train] * 3


def test_a_model_with_attention_is_asked_where_it_looks(data, plan, in_process):
    attentive = replace(plan, name="additive", flags=f"{plan.flags} -a additive")
    experiment = Experiment(attentive, 0, data)
    experiment.train(1)
    found = analysis.looked_at(experiment)
    assert (found["name"], found["score"], found["stories"]) == ("additive", "additive", 5)
    words = found["attention"]["words"]
    assert len(found["attention"]["map"]) == len(words) == analysis.SHOWN
    plain = Experiment(replace(plan, name="plain"), 0, data)
    plain.train(1)
    with pytest.raises(UserError, match="plain / seed 0: a model without attention"):
        analysis.looked_at(plain)


def test_a_model_is_analysed_with_the_cache_that_was_found_best(
    data, plan, in_process, monkeypatch
):
    monkeypatch.setattr(analysis, "PENALTIES", (-1.0, 0.0))
    experiment = Experiment(plan, 0, data)
    experiment.train(1)
    with pytest.raises(UserError, match="adapting.json: not there; adapting.py -results"):
        analysis.analyse(experiment, 2)
    setting = {"cache": {"setting": {"theta": 0.0, "share": 0.0}}}
    store.write_json(store.RESULTS / "measures" / "adapting.json", setting)
    found = analysis.analyse(experiment, 2)
    assert {*found["evaluated"]} == {"train", "valid", "test"}
    assert len(found["next"]) == len(analysis.BEGINNINGS)
    plain = found["losses"]["said_before"]  # a share of 0 is the model as it is
    assert found["cached"] == {
        kind: {**row, "nats": pytest.approx(row["nats"])} for kind, row in plain.items()
    }
    assert len(found["penalties"]) == 2 * len(analysis.PENALTIES) + 1


def test_what_is_missing_of_the_rest_is_made(data, monkeypatch, capfd):
    monkeypatch.setattr(store, "REPORT", data)
    commands = {"a/one.json": "write.py -results RESULT 'DATA/a b'", "two.?.json": "fail.py"}
    monkeypatch.setattr(rest, "REST", commands)
    (data / "write.py").write_text(
        "import sys, os, pathlib\n_, _, result, name = sys.argv\n"
        "pathlib.Path(result).write_text(name + os.environ['LSTLM_DATA'])"
    )
    (data / "fail.py").write_text("raise SystemExit(3)")
    with pytest.raises(SystemExit, match="3"):
        rest.make_rest(data)
    one = data / "results" / "a" / "one.json"
    assert one.read_text() == f"{data}/a b{data}"
    one.write_text("as it was")
    (data / "results" / "two.1.json").touch()
    rest.make_rest(data)
    assert one.read_text() == "as it was"


@pytest.mark.parametrize("result", rest.REST)
def test_the_programs_of_the_rest_and_their_runs_exist(result):
    program, *flags = shlex.split(rest.REST[result])
    assert (store.REPORT / program).exists()
    assert any(store.RESULTS.glob(result))
    if program.endswith("analysis.py"):
        assert flags[0] in {plan.name for plan in PLANS}
