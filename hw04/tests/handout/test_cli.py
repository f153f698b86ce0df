"""The four modes as a person or a script runs them: what is printed, and the exit status."""

import contextlib
import importlib.util
import io
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import backstage.defaults
import lstlm
import pytest
import torch
from backstage.corpora import BOS, UNK
from backstage.sealed import seal
from small import ONE_THREAD, SMALL, content_of
from torch.nn import functional as F

PROGRAM = Path(lstlm.__file__)
TINY = ["-H", 1, "-N", 4, "-EDim", 3, "-E", 1]  # a training of no time
LETTER = math.log2(27)  # bits that each letter of an unknown word costs


def run(*args, text: str = "") -> subprocess.CompletedProcess:
    """Run lstlm.py as a process with standard input from a pipe."""
    command = [sys.executable, PROGRAM, *map(str, args)]
    return subprocess.run(command, input=text, capture_output=True, text=True, env=ONE_THREAD)


def shell(command: str) -> subprocess.CompletedProcess:
    """Run a command line."""
    return subprocess.run(command, shell=True, capture_output=True, text=True, env=ONE_THREAD)


@pytest.fixture
def ask(call, trained):
    """A function that runs a mode with the small model, within this process."""
    return lambda *args, **options: call(*args, "-model", trained / "m.pt", **options)


@pytest.fixture
def corpora(trained):
    """Flags that name the small corpora."""
    return ["-train_corpus", trained / "train.tokens", "-valid_corpus", trained / "valid.tokens"]


@pytest.fixture
def few(trained):
    """Flags that name the smallest corpora: 20 stories."""
    return ["-train_corpus", trained / "valid.tokens", "-valid_corpus", trained / "valid.tokens"]


def check_error(done, *words: str, status: int = 2) -> None:
    """One clear line on standard error that has all the words, and a user's mistake's status."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip() and "\r" not in line]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


def records(done) -> list[dict]:
    """The lines of JSON that were printed."""
    return [json.loads(line) for line in done.stdout.splitlines()]


def read(path: Path) -> dict:
    """The content of a checkpoint."""
    return content_of(path)


# ---- -train -------------------------------------------------------------------------------------


def test_train_reports_logs_and_keeps_the_best(trained):
    out = (trained / "train.out").read_text()
    assert re.search(r"vocabulary: [\d,]+ words and 3 special tokens, vectors of size 16", out)
    assert "120 stories" in out
    form = r"epoch (\d), step (\d+): train [\d.]+ nats \(perplexity [\d.]+\), valid ([\d.]+)"
    reports = re.findall(form, out)
    assert [(int(e), int(s)) for e, s, _ in reports] == [(1, 20), (1, 30), (2, 40), (2, 60)]
    log = [json.loads(line) for line in (trained / "m.log.jsonl").read_text().splitlines()]
    assert log[0]["event"] == "start"
    assert log[0]["steps"] == 60
    assert 0 < log[0]["highest_lr"] < log[0]["lr"]
    peak = f"{log[0]['highest_lr']:.3g} of -lr {log[0]['lr']:g}"
    assert f"note: 60 steps: the learning rate comes to {peak}, as it falls early\n" in out
    assert [round(r["valid_nats"], 4) for r in log[1:]] == [float(v) for *_, v in reports]
    assert log[-1]["valid_nats"] < log[1]["valid_nats"]  # it learns
    best = min(r["valid_nats"] for r in log[1:])
    assert read(trained / "m.pt")["facts"]["valid_nats"] == best
    flags = (trained / "train.flags").read_text().replace("\n", " ")
    assert (trained / "trace.txt").read_text() == f"$ python lstlm.py {flags}\n{out}"
    assert not list(trained.glob(".*"))
    if importlib.util.find_spec("matplotlib"):
        assert (trained / "m.loss.png").exists()


def test_training_reads_a_stream_in_stretches(call, trained, corpora, tmp_path):
    model = ["-model", tmp_path / "m.pt"]
    flags = ["-stories", "stream", "-E", 1, "-H", 1, "-N", 8, "-EDim", 4, "-B", 4, "-bptt", 512]
    done = call("-train", *corpora, *flags, *model)
    count = len((trained / "train.tokens").read_text().replace("\n", " <eos> ").split())
    stretches = -(-count // lstlm.STREAM_STORY)
    assert f"{stretches} stretches, {count:,} target tokens" in done.stdout
    evaluate = ["-evaluate", *model, "-test_corpus", trained / "valid.tokens"]
    (row,) = records(call(*evaluate, "-json", "-stories", "stream"))
    assert row["nats"] == pytest.approx(read(tmp_path / "m.pt")["facts"]["valid_nats"], abs=1e-3)
    told = call(*evaluate).stdout
    assert "note: trained with -stories stream, evaluated with -stories auto" in told
    with pytest.raises(lstlm.UserError, match="-positions -stories stream"):
        lstlm.parse_args(["-train", "-positions", "-stories", "stream"])


@pytest.mark.parametrize(
    ("flags", "other"),
    [
        (["-cell", "gru"], ["-cell", "lstm"]), (["-a", "additive"], ["-a", "dot"]),
        (["-tie", "-H", 2], ["-N", 16]),
    ],
)
def test_other_models_train_are_stored_and_generate(call, tmp_path, few, flags, other):
    model = tmp_path / "other.pt"
    done = call("-train", *few, *SMALL, *flags, "-model", model)
    assert done.returncode == 0
    stored = read(model)["config"][flags[0][1:]]
    assert stored == (True if flags[0] == "-tie" else flags[1])
    first, last = map(float, re.findall(r"train ([\d.]+) nats", done.stdout))
    assert last < first
    assert call("-use", "-greedy", "-model", model, *flags, "-text", "the").returncode == 0
    done = call("-use", *other, "-model", model, "-text", "the")
    check_error(done, " ".join(map(str, other)))


def test_a_bidirectional_model_trains_but_does_not_generate(call, tmp_path, few):
    model = tmp_path / "bi.pt"
    flags = ["-bidirectional", "-locked", "-dropout", 0.1]
    done = call("-train", *few, *SMALL, "-E", 1, *flags, "-model", model)
    assert done.returncode == 0
    assert "no language model" in done.stdout
    for mode in ("-use", "-prompt"):
        check_error(call(mode, "-model", model, "-text", "the"), "bi.pt", "-bidirectional")
    done = call("-evaluate", "-model", model, *few)
    assert done.returncode == 0
    assert "no language model" in done.stdout
    done = call("-evaluate", "-positions", "-model", model, *few)
    check_error(done, "-positions True", "has False")


def test_training_again_keeps_the_earlier_model(call, trained, few, tmp_path):
    model = tmp_path / "again.pt"
    shutil.copy(trained / "m.pt", model)
    before = model.read_bytes()
    done = call("-train", *SMALL, *few, "-model", model, "-E", 1)
    assert "is kept in" in done.stdout
    assert (tmp_path / "again.prev.pt").read_bytes() == before
    assert model.read_bytes() != before


def test_the_same_seed_gives_the_same_model_and_another_seed_another(call, tmp_path, few):
    weights = []
    for name, seed in (("s1", 0), ("s2", 0), ("s3", 1)):
        flags = ["-E", 1, "-B", 4, "-dropout", 0.2, "-a", "-seed", seed]
        call("-train", *SMALL, *few, *flags, "-model", tmp_path / f"{name}.pt")
        weights.append(read(tmp_path / f"{name}.pt")["weights"])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["output.weight"], weights[2]["output.weight"])


def test_glove_vectors_on_the_command_line(call, few, tmp_path):
    glove = tmp_path / "glove.txt"
    glove.write_text("the 0.25 1 2\n. -1 0.5 3\n")
    flags = ["-H", 1, "-N", 8, "-E", 1, "-embeddings_file", glove]
    done = call("-train", *flags, *few, "-model", tmp_path / "g.pt")
    assert "2 from glove.txt" in done.stdout
    saved = read(tmp_path / "g.pt")
    row = saved["weights"]["embedding.weight"][saved["words"].index("the")]
    assert torch.equal(row, torch.tensor([0.25, 1, 2]))
    assert "note: the corpus has" in done.stdout


def test_the_embedded_sample_stands_in_and_says_so(tmp_path):
    """As in a fresh clone: the program and the sample, but no other data."""
    clone = tmp_path / "hw04"
    here = PROGRAM.parents[1]
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(here / "code" / "backstage", clone / "code" / "backstage", ignore=ignored)
    shutil.copy(PROGRAM, clone / "code")
    (clone / "data" / "sample").mkdir(parents=True)
    for split in ("train", "valid"):  # the first stories are enough here
        lines = (here / "data" / "sample" / f"{split}.tokens").read_text().splitlines(True)
        (clone / "data" / "sample" / f"{split}.tokens").write_text("".join(lines[:30]))
    code = (
        "import os, sys, lstlm\n"
        "sys.modules['matplotlib.figure'] = None\n"  # as where it is not installed
        "assert lstlm.main(['-train', '-H', '1', '-N', '8', '-E', '1']) == 0\n"
        "print('----', flush=True)\n"
        "os.chdir('/')\n"
        "assert lstlm.main(['-evaluate']) == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
        env={**ONE_THREAD, "PYTHONPATH": str(clone / "code")},
    )
    assert done.returncode == 0, done.stderr
    training, evaluation = done.stdout.split("----\n")
    lines = training.splitlines()
    assert "embedded sample" in lines[0]
    assert "embedded sample" in lines[-1]
    assert "note: no" in training  # GloVe file
    assert read(clone / "code" / "lm_model.pt")["facts"]["sample"] is True
    assert "valid.tokens" in evaluation


def test_a_corpus_of_plain_prose_is_noted(call, trained, tmp_path):
    prose = tmp_path / "prose"
    prose.write_text(
        'The old man went to the harbour. "Good day," he said.\nThen it rained, and he ran.\n'
    )
    flags = ["-train", *TINY, "-model", tmp_path / "m.pt"]
    noted = call(*flags, "-train_corpus", prose, "-valid_corpus", prose).stdout
    assert "note: 40% of the words, such as harbour., are no tokens" in noted
    valid = trained / "valid.tokens"
    clean = call(*flags, "-train_corpus", valid, "-valid_corpus", valid).stdout
    assert "are no tokens" not in clean


# ---- -evaluate ----------------------------------------------------------------------------------


def test_evaluate_gives_the_valid_loss_of_the_training(ask, trained, corpora):
    done = ask("-evaluate", *corpora, "-json")
    assert done.returncode == 0, done.stderr
    valid, train = records(done)
    assert valid["corpus"].endswith("valid.tokens")
    assert train["corpus"].endswith("train.tokens")
    saved = read(trained / "m.pt")["facts"]["valid_nats"]
    assert valid["nats"] == pytest.approx(saved, abs=1e-6)
    assert valid["ppl"] == pytest.approx(math.exp(valid["nats"]), rel=1e-6)
    assert set(valid) == {
        "mode", "corpus", "nats", "ppl", "bpc", "n_tokens", "unk_share", "tokens_per_s",
    }
    lines = (trained / "valid.tokens").read_text().splitlines()
    assert valid["n_tokens"] == sum(len(line.split()) + 1 for line in lines)
    table = ask("-evaluate", *corpora).stdout
    assert f"{valid['nats']:8.4f}" in table
    assert "not comparable" not in table


def test_bits_per_character_by_hand(ask, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.write_text("the zyxzy .\nonce upon a time .\n")
    (row,) = records(ask("-evaluate", "-test_corpus", corpus, "-json"))
    bits = row["nats"] * 10 / math.log(2) + len("zyxzy") * LETTER
    assert row["n_tokens"] == 10
    assert row["unk_share"] == 0.1
    characters = len("the zyxzy .") + 1 + len("once upon a time .") + 1
    assert row["bpc"] == pytest.approx(bits / characters)
    assert "not comparable" in ask("-evaluate", "-test_corpus", corpus).stdout


def test_a_stream_is_one_story_of_all_lines(ask, trained):
    text = (trained / "valid.tokens").read_text()
    words = text.replace("\n", " <eos> ").split()
    flags = ["-test_corpus", trained / "valid.tokens", "-json", "-stories", "stream"]
    (row,) = records(ask("-evaluate", *flags))
    args = lstlm.parse_args(["-evaluate", "-model", str(trained / "m.pt")])
    loaded = lstlm.load_model(args)
    ids = torch.tensor([BOS, *(loaded.token2idx.get(word, UNK) for word in words)])
    with torch.no_grad():  # at one go, from the first to the last, without a cut or a new state
        logits = loaded.model(ids[None, :-1], torch.tensor([len(words)]))
    assert row["n_tokens"] == len(words)
    assert row["nats"] == pytest.approx(float(F.cross_entropy(logits[0], ids[1:])), rel=1e-4)
    unknown = sum(len(word) for word in words if word not in loaded.token2idx)
    bits = row["nats"] * len(words) / math.log(2) + unknown * LETTER
    assert row["bpc"] == pytest.approx(bits / len(text))


def test_evaluate_looks_for_all_files_first(ask, trained):
    done = ask("-evaluate", "-test_corpus", trained / "valid.tokens", trained / "nope")
    check_error(done, "nope", "-test_corpus")
    assert done.stdout == ""


# ---- -use ---------------------------------------------------------------------------------------


def test_use_through_a_pipe(trained):
    typed = "once upon a\nthe zyzzybird\n\n:fp 9\n:help\n:quit\nno\n"
    done = run("-use", "-greedy", "-model", trained / "m.pt", text=typed)
    assert done.returncode == 0, done.stderr
    assert "tokens: once upon a\nnext:   time\n" in done.stdout
    assert re.search(r"^ +time +\d+\.\d% █", done.stdout, re.M)
    assert "[zyzzybird is unknown" in done.stdout
    assert "starting from <bos>" in done.stdout
    assert "-fpenalty 9.0: give a number from -2 to 2" in done.stdout
    assert "tokens: no" not in done.stdout


def test_use_in_json(ask):
    (record,) = records(ask("-use", "-json", text="once upon a\n"))
    assert record["mode"] == "use"
    assert record["text"] == "once upon a"
    assert record["tokens"][0] == "time"
    assert len(record["tokens"]) == len(record["probs"]) == 10
    assert record["probs"] == sorted(record["probs"], reverse=True)


def test_the_word_that_use_draws_follows_the_seed_and_the_settings(ask):
    shown = [ask("-use", "-seed", seed, "-text", "the").stdout for seed in (1, 1, *range(2, 12))]
    assert shown[0] == shown[1]
    drawn = {re.search(r"^next: +(\S+)", text, re.M)[1] for text in shown}
    assert len(drawn) > 1
    assert "(drawn with -seed 1" in shown[0]
    forced = ask("-use", "-seed", 1, "-top_k", 1, "-text", "the").stdout
    assert len(re.findall(r"^ .*%", forced, re.M)) == 1  # the other words have no chance


# ---- -prompt ------------------------------------------------------------------------------------


def test_prompt_greedy_twice_is_the_same_and_sampling_follows_the_seed(ask):
    greedy = [ask("-prompt", "-greedy", "-text", "once upon a time").stdout for _ in "12"]
    assert greedy[0] == greedy[1]
    assert "Once upon a time" in greedy[0]
    first = ask("-prompt", "-text", "the", "-json").stdout
    seed = json.loads(first)["seed"]
    assert first == ask("-prompt", "-text", "the", "-json", "-seed", seed).stdout


def test_prompt_samples_and_max_tokens(ask):
    flags = ["-samples", 3, "-max_tokens", 7, "-json", "-seed", 4]
    found = records(ask("-prompt", *flags, text="the\na\n"))
    assert [r["seed"] for r in found] == [4, 5, 6] * 2
    assert all(len(r["tokens"]) == len(r["probs"]) <= 7 for r in found)
    assert all(0 < p <= 1 for r in found for p in r["probs"])
    assert not {"<unk>", "<bos>"} & {token for r in found for token in r["tokens"]}


def test_samples_in_one_batch_are_those_of_one_at_a_time(ask):
    flags = ["-prompt", "-text", "the", "-json", "-max_tokens", 40]
    together = records(ask(*flags, "-samples", 5, "-seed", 4))
    alone = [records(ask(*flags, "-seed", seed))[0] for seed in range(4, 9)]
    assert len({len(record["tokens"]) for record in together}) > 1  # they end at different times
    for ours, theirs in zip(together, alone, strict=True):
        assert ours["probs"] == pytest.approx(theirs["probs"], rel=1e-4)
        assert {**ours, "probs": 0} == {**theirs, "probs": 0}


def test_generation_in_eight_bits_is_the_same_text(call, ask, tmp_path):
    flags = ["-prompt", "-greedy", "-text", "once upon a time"]
    assert ask(*flags, "-precision", "int8").stdout == ask(*flags).stdout
    for mode in ("-train", "-evaluate"):
        done = call(mode, "-model", tmp_path / "x" / "m.pt", "-precision", "int8")
        check_error(done, "int8", "-prompt")


def test_continue_ends_for_one_of_its_three_reasons(ask):
    flags = ["-greedy", "-continue", "-fpenalty", -2, "-max_tokens", 9, "-json"]
    (loop,) = records(ask("-prompt", *flags, "-text", "the the the"))
    assert loop["ended"].startswith("a loop: ")
    flags = ["-continue", "-temperature", 50, "-top_k", 200, "-max_tokens", 2, "-seed", 1, "-json"]
    (rounds,) = records(ask("-prompt", *flags, "-text", "the"))
    assert rounds["ended"] in ("20 rounds of 2 tokens", "<eos>")
    ended = rounds["ended"] == "<eos>"
    assert ended == (rounds["tokens"][-1] == "<eos>") == (len(rounds["tokens"]) < 40)


def test_prompts_that_are_odd_but_fine(ask):
    unknown = ask("-prompt", "-text", "zyx qwv", "-max_tokens", 3)
    assert unknown.returncode == 0
    assert unknown.stdout.count("is unknown") == 2
    empty = ask("-prompt", "-text", "", "-max_tokens", 3)
    assert "starting from <bos>" in empty.stdout
    escape = ask("-prompt", "-max_tokens", 3, text="\x1b[31mred\x07\n")
    assert escape.returncode == 0
    assert "\x1b" not in escape.stdout
    assert "\x07" not in escape.stdout


def test_a_prompt_of_a_hundred_thousand_tokens(ask):
    flags = ["-greedy", "-max_tokens", 3, "-json"]
    done = ask("-prompt", *flags, text="the cat " * 50_000 + "\n")
    assert done.returncode == 0, done.stderr
    assert len(records(done)[0]["tokens"]) <= 3


def test_prompt_takes_commands_and_says_unknown_words_as_they_were_typed(ask):
    typed = ":greedy\nthe zyzzybird\n:temp\n:quit\nno\n"
    done = ask("-prompt", "-max_tokens", 5, text=typed)
    assert done.returncode == 0
    assert ":greedy True" in done.stdout
    assert "The zyzzybird" in done.stdout
    assert "-- seed" not in done.stdout
    assert ":temp: not understood, give it one value; :help lists the commands" in done.stdout
    assert "tokens: no" not in done.stdout


# ---- Mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["-fpenalty", "3"], ["-fpenalty 3.0", "-2 to 2"]),
        (["-N", "7", "-a"], ["-N 7", "even"]),
        (["-bidirectional", "-a"], ["-a", "-bidirectional"]),
        (["-tie", "-EDim", "9", "-a"], ["-EDim 9", "even"]),
        (["-emb_lr", "0"], ["-emb_lr 0.0"]),
        (["-weight_decay", "-1"], ["-weight_decay -1.0"]),
        (["-H", "0"], ["-H", "at least 1"]),
        (["-top_p", "0"], ["-top_p 0.0"]),
        (["-lr", "0"], ["-lr 0.0"]),
        (["-dropout", "1"], ["-dropout 1.0"]),
        (["-train_corpus", "no/such/file"], ["no/such/file", "No such file"]),
        (["-valid_corpus", "/"], ["/", "directory"]),
        (["-embeddings_file", "no/glove"], ["no/glove", "No such file"]),
        (["-EDim", "5", "-embeddings_file", "x"], ["-EDim", "-embeddings_file"]),
        (["-temprature", "1"], ["-temprature 1", "did you mean -temperature?"]),
        (["--sed", "1"], ["did you mean -seed?"]),
        (["once", "upon"], ["once upon", "-text_file"]),
        (["-model", "x.pt", "-trace", "x.log.jsonl"], ["x.log.jsonl: two flags name it"]),
        (["-model", "x.pt", "-embeddings_file", "x.state.pt"], ["x.state.pt: two flags name it"]),
    ],
)
def test_wrong_flags(call, tmp_path, corpora, flags, words):
    check_error(call("-train", *corpora, "-model", tmp_path / "none.pt", *flags), *words)
    assert not (tmp_path / "none.pt").exists()


def test_one_corpus_alone_where_the_other_has_no_default(call, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(backstage.defaults, "DATA", tmp_path)
    flags = ["-train", "-train_corpus", trained / "train.tokens", "-model", tmp_path / "alone.pt"]
    check_error(call(*flags), "tiny.valid.tokens.200K", "-valid_corpus")
    (tmp_path / "tiny").mkdir()
    shutil.copy(trained / "valid.tokens", tmp_path / "tiny" / "tiny.valid.tokens.200K")
    assert call(*flags, *TINY).returncode == 0


def test_no_mode_at_all(call):
    check_error(call(), "-train", "-prompt")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU here")
def test_no_gpu(ask):
    check_error(ask("-use", "-device", "cuda"), "-device cuda", "-device cpu")


def test_a_folder_that_cannot_be_written_is_found_before_training(call, corpora, tmp_path):
    (tmp_path / "file").write_text("")
    done = call("-train", *corpora, "-model", tmp_path / "file" / "m.pt")
    check_error(done, "cannot be written", "-model")
    assert "vocabulary" not in done.stdout


def test_a_checkpoint_that_is_none(call, trained, tmp_path):
    whole = (trained / "m.pt").read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:-10]):
        (tmp_path / "bad.pt").write_bytes(content)
        check_error(call("-use", "-model", tmp_path / "bad.pt", text="the\n"), "bad.pt", "-model")
    done = call("-use", "-model", tmp_path / "none.pt")
    check_error(done, "none.pt: no such model", "-train")
    for path in (tmp_path, ".", "/"):
        check_error(call("-use", "-model", path), f"{path}: no lstlm file")
    saved = read(trained / "m.pt")
    (tmp_path / "new.pt").write_bytes(seal({**saved, "version": 99}))
    check_error(call("-evaluate", "-model", tmp_path / "new.pt"), "version 99")
    saved["weights"]["output.bias"] = torch.zeros(3)
    (tmp_path / "shape.pt").write_bytes(seal(saved))
    check_error(call("-use", "-model", tmp_path / "shape.pt"), "damaged")


@pytest.mark.parametrize(
    "flags", [["-N", "64"], ["-H", "2"], ["-a"], ["-VSize", "77"], ["-EDim", "50"], ["-cased"]]
)
def test_an_architecture_flag_that_disagrees_names_both_values(ask, trained, flags):
    value = flags[1] if len(flags) > 1 else ""
    saved = read(trained / "m.pt")["config"][flags[0][1:]]
    check_error(ask("-use", *flags), flags[0], value, str(saved))


def test_a_model_that_is_not_there_yet(call, tmp_path):
    (tmp_path / "early.state.pt").write_bytes(b"")
    done = call("-use", "-model", tmp_path / "early.pt")
    check_error(done, "early.pt", "stopped run", "-resume")


# ---- Streams and help ---------------------------------------------------------------------------


def test_standard_input_that_is_not_utf8(ask):
    done = ask("-prompt", "-max_tokens", 2, text=b"na\xefve\n")
    check_error(done, "standard input is not UTF-8")


def test_help_says_every_default(call):
    text = call("-h").stdout
    flags = re.findall(r"^  (-\w+)(.*?)(?=^  -|^\w|\Z)", text, re.M | re.S)
    assert len(flags) > 35
    for flag, about in flags:
        if flag not in ("-h", "-train", "-use", "-prompt", "-evaluate"):
            assert "default" in about, flag


def test_a_preset_sets_what_is_not_given():
    plain, strong = (lstlm.parse_args(["-train", *flags]) for flags in ([], ["-preset", "strong"]))
    assert not plain.tie
    assert (strong.tie, strong.EDim, strong.dropout, strong.E) == (True, 512, 0.3, 8)
    flags = ["-train", "-E", "3", "-preset", "strong", "-lr", "0.001"]
    given = lstlm.parse_args(flags)
    assert (given.tie, given.E, given.lr, given.emb_lr) == (True, 3, 0.001, 0.001)
    same = {name for name, value in vars(plain).items() if vars(strong)[name] == value}
    assert vars(plain).keys() - same == {"tie", "EDim", "dropout", "E", "preset"}


def test_main_may_be_called_where_output_is_no_file(trained):
    """In a notebook, say."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        flags = ["-use", "-greedy", "-model", str(trained / "m.pt"), "-text", "once"]
        assert lstlm.main(flags) == 0
    assert printed.getvalue().startswith("tokens: once")


def check_closed(trained, flags: str, closed: str) -> None:
    done = shell(f"'{sys.executable}' '{PROGRAM}' {flags} {closed}")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


def test_streams_that_the_caller_closed_are_no_error(trained):
    check_closed(trained, f"-prompt -text the -model '{trained}/m.pt'", "<&- >&- 2>&-")


@pytest.mark.thorough
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_stream_that_the_caller_closed_is_no_error_in_any_mode(trained, tmp_path, closed):
    valid = trained / "valid.tokens"
    train = f"-train {' '.join(map(str, TINY))} -train_corpus '{valid}' -valid_corpus '{valid}'"
    for flags, model in (
        ("-prompt -text the", trained / "m.pt"),
        (f"-evaluate -test_corpus '{valid}'", trained / "m.pt"),
        (train, tmp_path / "closed.pt"),
    ):
        check_closed(trained, f"{flags} -model '{model}'", closed)


def test_output_that_nobody_reads_ends_quietly(trained):
    flags = f"-prompt -model '{trained}/m.pt' -text the -samples 60 -max_tokens 10 -seed 1"
    done = shell(f"'{sys.executable}' '{PROGRAM}' {flags} | head -1")
    assert "Traceback" not in done.stderr
    assert done.stderr == ""
