"""The command line and the commands as people type them: spellings, hints, what does nothing."""

import fflm
import lstlm
import make_sample
import pytest
from lstlm import UserError

BESIDE_GREEDY = [
    ("-temperature", "0.9"), ("-top_k", "5"), ("-top_p", "0.5"), ("-min_p", "0.1"), ("-seed", "3"),
]


@pytest.fixture
def ask(call, trained):
    """A function that runs a mode with the small model, within this process."""
    return lambda *args, **options: call(*args, "-model", trained / "m.pt", **options)


def notes(*flags: str, program=lstlm) -> list[str]:
    """What is said of flags that do nothing."""
    return program.parse_args([*flags]).notes


# ---- Flags --------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [
    ["once upon a time"], ["once", "upon", "a", "time"], ["--", "once", "upon", "a", "time"],
    ["once", "upon", "-seed", "1", "a", "time"],
])
@pytest.mark.parametrize("mode", ["-prompt", "-use", "--prompt"])
def test_words_without_a_flag_are_the_text(mode, given):
    assert lstlm.parse_args([mode, *given]).text == "once upon a time"


def test_words_without_a_flag_are_continued(ask):
    flags = ["-prompt", "-greedy", "-max_tokens", 5]
    expected = ask(*flags, "-text", "once upon a time").stdout
    assert "tokens: once upon a time\n" in expected
    assert ask(*flags, "once upon a time").stdout == expected
    assert ask("-prompt", "once", "upon", *flags[1:], "a", "time").stdout == expected
    assert lstlm.parse_args(["-prompt", ""]).text == ""
    assert lstlm.parse_args(["-prompt", "--", "-hm", "x"]).text == "-hm x"
    assert lstlm.parse_args(["-prompt", "- hm"]).text == "- hm"


@pytest.mark.parametrize(("flags", "words"), [
    (["-prompt", "-text", "a", "b", "c"], ["-text a and b c: two texts"]),
    (["-train", "my.txt"], ["my.txt: -train", "after -text_file"]),
    (["-evaluate", "my.tokens"], ["my.tokens: -evaluate", "after -test_corpus"]),
    (["-train", "-text", "my.txt"], ["-text my.txt: -train", "after -text_file"]),
    (["once", "upon"], ["say what to do"]),
    (["-prompt", "-temprature", "1"], ["-temprature 1: no such flag; did you mean -temperature?"]),
    (["-prompt", "-topk", "1"], ["did you mean -top_k?"]),
    (["-prompt", "--smples=2"], ["-smples=2: no such flag; did you mean -samples?"]),
    (["-prompt", "--s", "2"], ["ambiguous option: -s", "-samples"]),
    (["-prompt", "-zzzz"], ["-zzzz: no such flag (lstlm.py -h"]),
])
def test_what_is_no_flag_is_answered_with_what_is_near(flags, words):
    with pytest.raises(UserError) as error:
        lstlm.parse_args(flags)
    assert all(word in str(error.value) for word in words), error.value


def test_one_dash_or_two_are_the_same():
    text = "--prompt --temperature 0.7 --top-k=5 --max-tokens 9 --N 8 --continue --fpenalty -5e-1"
    args = lstlm.parse_args(text.split())
    assert (args.run, args.sampling.temperature, args.top_k) == (lstlm.prompt, 0.7, 5)
    assert (args.max_tokens, args.N, args.continue_, args.fpenalty) == (9, 8, True, -0.5)
    assert fflm.parse_args(["--train", "--emb-lr", "0.1"]).emb_lr == 0.1
    assert make_sample.parse(["-check"]).check and make_sample.parse(["--check"]).check
    assert lstlm.parse_args(["-prompt", "-text=--top-k"]).text == "--top-k"
    for temp in ("-temp", "--temp"):
        assert lstlm.parse_args(["-prompt", temp, "0.5"]).temperature == 0.5


def test_other_programs_name_the_nearest_flag():
    with pytest.raises(UserError, match="-chck: no such flag; did you mean --check?"):
        make_sample.parse(["-chck"])
    with pytest.raises(UserError, match="-epochs 3: no such flag"):
        fflm.parse_args(["-train", "-epochs", "3"])


# ---- Flags that do nothing ----------------------------------------------------------------------


@pytest.mark.parametrize(("flag", "value"), BESIDE_GREEDY)
def test_greedy_choice_cancels_what_is_for_drawing(flag, value):
    (note,) = notes("-prompt", "-greedy", flag, value)
    assert note == f"note: {flag} {value} with -greedy changes no token"
    (note,) = notes("-use", "-greedy", flag, value)
    assert note.endswith("no token" if flag == "-seed" else "only the probabilities shown")
    assert notes("-prompt", flag, value) == notes("-prompt", "-greedy", "-fpenalty", "1") == []
    if flag != "-temperature":
        (note,) = notes("-prompt", "-temperature", "0", flag, value)
        assert note == f"note: {flag} {value} with -temperature 0.0 changes no token"


@pytest.mark.parametrize(("flags", "expected"), [
    ("-prompt -greedy -samples 2", "-samples 2 with -greedy: all of them are the same text"),
    ("-use -samples 2", "-samples 2 does nothing here; it is for -prompt"),
    ("-use -continue", "-continue does nothing here; it is for -prompt"),
    ("-prompt -E 3", "-E 3 does nothing here; it is for -train"),
    ("-evaluate -greedy", "-greedy does nothing here; it is for -use and -prompt"),
    ("-prompt -preset strong", "-preset strong does nothing here; it is for -train"),
    ("-train -locked", "-locked does nothing without -dropout"),
    ("-train -tie -finetune", "-finetune does nothing, as -tie trains all word vectors"),
    ("-train -EDim 5 -finetune", "-finetune does nothing, as -EDim learns all word vectors"),
    ("-evaluate -test_corpus a -train_corpus b",
     "-train_corpus b does nothing, as -test_corpus says what is measured"),
])
def test_a_flag_that_does_nothing_is_noted(flags, expected):
    assert notes(*flags.split()) == [f"note: {expected}"]


def test_flags_that_go_together_are_not_noted():
    for flags in (
        "-train -preset strong -locked -dropout 0.2 -seed 3 -B 4 -stories line",
        "-evaluate -B 4 -train_corpus a -valid_corpus b -N 4 -stories line",
        "-prompt -samples 2 -top_k 5 -temperature 0.5 -seed 1 -continue -max_tokens 3",
        "-use -greedy -fpenalty 1 -N 8 -device cpu",
    ):
        assert notes(*flags.split()) == []
    assert notes("-evaluate", "-E", "3", program=fflm) == [
        "note: -E 3 does nothing here; it is for -train"
    ]


def test_notes_come_first_and_not_between_records(ask):
    flags = ["-prompt", "-greedy", "-seed", 3, "-text", "the", "-max_tokens", 2]
    assert ask(*flags).stdout.startswith("note: -seed 3 with -greedy changes no token\ntokens: the")
    done = ask(*flags, "-json")
    assert done.stdout.startswith("{")
    assert "note: -seed 3" in done.stderr


# ---- Commands -----------------------------------------------------------------------------------


def test_commands_have_the_names_of_the_flags_too(ask):
    typed = ":temperature 0.5\n:top_k 3\n  :fpenalty 1\n:top 4\n:temp 0.25\n:exit\nno\n"
    done = ask("-use", text=typed)
    assert done.returncode == 0, done.stderr
    last = [line for line in done.stdout.splitlines() if line.startswith(":greedy False")][-1]
    assert last == ":greedy False  :fp 1.0  :temp 0.25  :top 4  :top_p 1.0  :min_p 0.0"
    assert "tokens: no" not in done.stdout


@pytest.mark.parametrize("leave", [":quit", ":exit", ":q", " :exit "])
def test_each_way_to_leave(ask, leave):
    assert "tokens: no" not in ask("-use", text=f"{leave}\nno\n").stdout


@pytest.mark.parametrize(("typed", "hint"), [
    (":tmp 3", "did you mean :temp?"), (":temperatur 1", "did you mean :temperature?"),
    (":ext", "did you mean :exit?"), (":hlep", "did you mean :help?"),
    (":sho", "did you mean :show?"), (":temp", "give it one value"),
    (":greedy maybe", "give it on, off or nothing"), (":zzz", "no such command"),
])
def test_a_command_that_is_none_is_answered_with_the_nearest(ask, typed, hint):
    out = ask("-use", text=f"{typed}\n").stdout
    assert f"{typed}: not understood, {hint}; :help lists the commands" in out
    assert ":greedy False" not in out


def test_a_command_that_greedy_choice_cancels_says_so(ask):
    note = "note: the most probable token is taken all the same, until :greedy off\n"
    assert ask("-use", text=":greedy\n:top 5\n").stdout.endswith(note)
    assert note not in ask("-use", text=":greedy\n:fp 1\n:greedy off\n:top 5\n").stdout
