"""Flags: misspelt ones, ones that contradict each other or do nothing, and a prompt without one."""

import make_data
import pytest
import run_lm
import train_tokenizers
from hw4lib.config import idle_settings, load_config

# ---- Misspelt flags and settings


@pytest.mark.parametrize(("main", "given", "meant"), [
    (run_lm.main, ["train", "--config", "none.yaml", "--resum"], "--resume"),
    (run_lm.main, ["train", "--config", "none.yaml", "--ephocs", "3"], "--epochs"),
    (run_lm.main, ["generate", "--top_k", "5"], "--top-k"),
    (run_lm.main, ["generate", "--temp", "0.5"], "--temperature"),
    (run_lm.main, ["generate", "--temprature=0.5"], "--temperature"),
    (run_lm.main, ["generate", "-method", "sample"], "--method"),
    (run_lm.main, ["evaluate", "--dat", "x"], "--data"),
    (run_lm.main, ["handin", "--output", "x.tar"], "--out"),
    (make_data.main, ["out", "--train", "a.txt", "--vall", "b.txt"], "--val"),
    (train_tokenizers.main, ["--train", "a.txt", "--trai", "b.txt"], "--train"),
])  # fmt: skip
def test_a_misspelt_flag_is_answered_with_the_nearest(capsys, main, given, meant):
    assert main(given) == 2
    err = capsys.readouterr().err
    wrong = next(t for t in given if t.startswith("-") and t not in ("--train", "--config"))
    assert f"{wrong}" in err and f": no such flag; did you mean {meant}?" in err
    assert err.count("\n") == 1


def test_a_text_where_none_belongs(fails):
    assert "OLD CAT: no flag takes it; a text needs quotes" in fails("train", "OLD", "CAT")
    words = "CAT: no flag takes it; a text needs quotes"
    assert words in fails("generate", "OLD", "--method", "beam", "CAT")


@pytest.mark.parametrize(("setting", "words"), [
    ("num_layers=3", "there is no setting num_layers; did you mean model.num_layers?"),
    ("model.lr=1.0", "there is no setting model.lr; did you mean optimizer.lr?"),
    ("epochs=3", "did you mean training.epochs?"),
    ("modle.d_ff=3", "there is no setting modle; did you mean model?"),
    ("optimizer.adam.esp=1.0", "did you mean optimizer.adam.eps?"),
    ("training.batch_size=3", "did you mean data.batch_size?"),
    ("zzz=3", "there is no setting zzz; there are Name, tokenization"),
])  # fmt: skip
def test_a_misspelt_setting_is_answered_with_the_nearest(begun, fails, setting, words):
    assert words in fails("train", "--set", setting)


# ---- Flags that contradict each other, or do nothing


@pytest.mark.parametrize("flags", [
    ["--set", "model.d_ff=3", "--set", "model.d_ff=4"],
    ["--seed", "3", "--set", "training.seed=4"],
    ["--set", "data.root=other"], ["--epochs", "4", "--set", "training.epochs=3"],
])
def test_what_is_set_twice_is_an_error(begun, fails, flags):
    small = ["--config", "small.yaml", "--data", "data"]
    assert fails("train", *small, *flags).endswith("leave one of them out")


@pytest.mark.parametrize(("method", "idle"), [
    ("greedy", ["--temperature 0.5", "--beam-width 3", "--top-k 5", "--top-p 0.5", "--seed 3"]),
    ("beam", ["--top-k 5", "--top-p 0.5", "--seed 3"]),
    ("sample", ["--beam-width 3", "--repeat-penalty 1.5"]),
])  # fmt: skip
def test_a_flag_that_does_nothing_is_noted(trained_run, says, method, idle):
    used = {
        "greedy": ["--repeat-penalty 1.5"],
        "beam": ["--temperature 0.5", "--repeat-penalty 1.5", "--beam-width 3"],
        "sample": ["--temperature 0.5", "--top-k 5", "--top-p 0.5", "--seed 3", "--samples 2"],
    }[method]
    command = ["generate", "--method", method, "--max-new-tokens", "3"]
    without = says(*command, *" ".join(used).split())
    assert "note: " not in without
    given = says(*command, *" ".join(used + idle).split())
    notes = [line for line in given.splitlines() if line.startswith("note: ")]
    assert [note.partition(" does nothing with ")[0] for note in notes] == [
        f"note: {flag}" for flag in sorted(idle, key=ORDER.index)
    ]
    assert all(f" does nothing with --method {method}; it is for " in note for note in notes)
    assert given.splitlines()[len(notes) :] == without.splitlines()


ORDER = [
    "--temperature 0.5", "--repeat-penalty 1.5", "--beam-width 3", "--top-k 5", "--top-p 0.5",
    "--seed 3",
]  # fmt: skip


@pytest.mark.parametrize(("setting", "others", "why"), [
    ("optimizer.sgd.momentum=0.5", [], "optimizer.name is adam"),
    ("optimizer.adam.eps=1.0e-6", ["optimizer.name=AdamW"], "optimizer.name is adamw"),
    ("scheduler.reduce_lr.factor=0.5", [], "scheduler.name is cosine"),
    ("scheduler.cosine.T_max=3", ["scheduler.name=cosine_warm"], "scheduler.name is cosine_warm"),
    ("tokenization.token_map.5k=x.json", [], "tokenization.token_type is char"),
    ("scheduler.warmup.epochs=3", ["scheduler.warmup.enabled=False"], "enabled is False"),
    ("training.wandb_project=mine", [], "training.use_wandb is False"),
    ("optimizer.adam.eps=1.0e-6", [], ""), ("optimizer.lr=0.1", [], ""),
    ("scheduler.warmup.epochs=3", [], ""), ("scheduler.warmup.enabled=False", [], ""),
    ("tokenization.token_map.char=x.json", [], ""), ("optimizer.layer_decay.enabled=True", [], ""),
])  # fmt: skip
def test_a_setting_that_does_nothing_is_noted(setting, others, why):
    notes = idle_settings([setting], load_config(settings=[setting, *others]))
    assert len(notes) == bool(why)
    for note in notes:
        assert note.startswith(f"note: --set {setting} does nothing, as ") and note.endswith(why)


def test_a_training_notes_a_setting_that_does_nothing(begun, says):
    command = ["train", "--config", "small.yaml", "--data", "data", "--set", "training.epochs=1"]
    out = says(*command, "--set", "optimizer.sgd.momentum=0.5")
    assert "note: --set optimizer.sgd.momentum=0.5 does nothing, as optimizer.name is adam\n" in out


# ---- The prompt, and how much comes after it


def test_a_prompt_may_stand_without_a_flag(trained_run, says, fails):
    with_flag = says("generate", "--prompt", "THE OLD CAT")
    assert with_flag.startswith("THE OLD CAT")
    assert says("generate", "the old cat") == with_flag
    assert says("generate", "--method", "greedy", "THE", "OLD", "CAT") == with_flag
    assert says("generate", "\tThe  old\u00a0 cat\u2003 ") == with_flag
    words = "--prompt A CAT and THE DOG: two prompts; give one, in quotes"
    assert words in fails("generate", "--prompt", "A CAT", "THE", "DOG")


@pytest.mark.parametrize("way", [[], ["--method", "beam"], ["--method", "sample", "--seed", "1"]])
def test_a_continuation_may_end_after_so_many_tokens(trained_run, says, way):
    whole = says("generate", "THE", *way).splitlines()[0]
    for count in (1, 3):
        text, end = says("generate", "THE", "--max-new-tokens", str(count), *way).splitlines()
        new = len(text) - len("THE")  # a token is a character
        assert 0 <= new <= count
        assert f"-- {count} tokens, ended by --max-new-tokens, " in end or ", ended by EOS, " in end
        assert way[1:2] == ["beam"] or whole.startswith(text)
    unbounded = says("generate", "THE", *way)
    assert says("generate", "THE", "--max-new-tokens", "1000", *way) == unbounded


def test_no_token_at_all_is_refused(fails):
    assert "from 1 to 1,000,000" in fails("generate", "--max-new-tokens", "0")


@pytest.mark.parametrize("token", ["[PAD]", "[UNK]", "[MASK]", "[SOS]", "[EOS]", "[BLANK]"])
def test_a_special_token_in_a_prompt_is_refused(trained_run, fails, token):
    words = f"--prompt: it spells the special token {token}; take it out"
    assert words in fails("generate", "--prompt", f"THE {token.lower()} CAT")
    assert words in fails("generate", token)
