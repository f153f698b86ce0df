"""The four modes as a person or a script runs them: a process with pipes, its output and its exit status."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import lstlm
import pytest
import torch

PROGRAM = Path(lstlm.__file__)
SAMPLE = PROGRAM.parent.parent / "data" / "sample"
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}  # no waiting for a core that something else uses
SMALL = ["-H", "1", "-N", "32", "-EDim", "16", "-E", "2", "-B", "4", "-lr", "0.02", "-seed", "0"]


def run(*args, text: str | bytes = ""):
    """Run lstlm.py with standard input from a pipe."""
    data = text.encode() if isinstance(text, str) else text
    done = subprocess.run([sys.executable, PROGRAM, *map(str, args)], input=data, capture_output=True, env=ONE_THREAD)
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
    return done


@pytest.fixture
def call(capfd, monkeypatch):
    """The same within this process, where the start of a process is not what is tested."""

    def run_main(*args, text: str = ""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        capfd.readouterr()
        try:
            status = lstlm.main([*map(str, args)])
        except SystemExit as exit:
            status = exit.code
        return subprocess.CompletedProcess(args, status, *capfd.readouterr())

    return run_main


def check_error(done, *words: str, status: int = 2) -> None:
    """One clear line on standard error that has all the words, and the exit status of a user's mistake."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip() and "\r" not in line]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small corpus and a model trained on it through the command line."""
    path = tmp_path_factory.mktemp("cli")
    stories = (SAMPLE / "train.tokens").read_text().splitlines(keepends=True)
    (path / "train.tokens").write_text("".join(stories[:120]))
    (path / "valid.tokens").write_text("".join(stories[120:140]))
    done = run("-train", *SMALL, "-train_corpus", path / "train.tokens", "-valid_corpus", path / "valid.tokens",
               "-model", path / "m.pt", "-valid_every", "20", "-trace", path / "trace.txt")
    assert done.returncode == 0, done.stderr
    (path / "train.out").write_text(done.stdout)
    return path


@pytest.fixture
def corpora(folder):
    """Flags that name the small corpora."""
    return ["-train_corpus", folder / "train.tokens", "-valid_corpus", folder / "valid.tokens"]


def test_train_reports_logs_and_keeps_the_best(folder):
    out = (folder / "train.out").read_text()
    assert re.search(r"vocabulary: [\d,]+ words and 3 special tokens, vectors of size 16", out)
    assert "120 stories" in out
    reports = re.findall(r"epoch (\d), step (\d+): train [\d.]+ nats \(perplexity [\d.]+\), valid ([\d.]+)", out)
    assert [(int(e), int(s)) for e, s, _ in reports] == [(1, 20), (1, 30), (2, 40), (2, 60)]
    records = [json.loads(line) for line in (folder / "m.log.jsonl").read_text().splitlines()]
    assert records[0]["event"] == "start"
    assert [round(r["valid_nats"], 4) for r in records[1:]] == [float(v) for *_, v in reports]
    assert records[-1]["valid_nats"] < records[1]["valid_nats"]  # it learns
    saved = torch.load(folder / "m.pt", weights_only=True)
    assert saved["facts"]["valid_nats"] == min(r["valid_nats"] for r in records[1:])
    assert (folder / "trace.txt").read_text() == "$ python lstlm.py " + " ".join(
        ["-train", *SMALL, "-train_corpus", str(folder / "train.tokens"), "-valid_corpus", str(folder / "valid.tokens"),
         "-model", str(folder / "m.pt"), "-valid_every", "20", "-trace", str(folder / "trace.txt")]) + "\n" + out
    assert not list(folder.glob(".*"))


def test_evaluate_gives_the_valid_loss_of_the_training(folder, corpora):
    done = run("-evaluate", "-model", folder / "m.pt", *corpora, "-json")
    assert done.returncode == 0, done.stderr
    valid, train = map(json.loads, done.stdout.splitlines())
    assert valid["corpus"].endswith("valid.tokens")
    assert train["corpus"].endswith("train.tokens")
    saved = torch.load(folder / "m.pt", weights_only=True)["facts"]["valid_nats"]
    assert valid["nats"] == pytest.approx(saved, abs=1e-6)
    assert valid["ppl"] == pytest.approx(2.718281828 ** valid["nats"], rel=1e-6)
    assert set(valid) == {"mode", "corpus", "nats", "ppl", "bpc", "n_tokens", "unk_share", "tokens_per_s"}
    assert valid["n_tokens"] == sum(
        len(line.split()) + 1 for line in (folder / "valid.tokens").read_text().splitlines())
    table = run("-evaluate", "-model", folder / "m.pt", *corpora)
    assert f"{valid['nats']:8.4f}" in table.stdout
    assert "not comparable" not in table.stdout


def test_bits_per_character_by_hand(call, folder, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.write_text("the zyxzy .\nonce upon a time .\n")
    row = json.loads(call("-evaluate", "-model", folder / "m.pt", "-test_corpus", corpus, "-json").stdout)
    bits = row["nats"] * 10 / 0.6931471805599453 + 5 * 4.754887502163469  # log2(27) for each letter of zyxzy
    assert row["n_tokens"] == 10
    assert row["unk_share"] == 0.1
    assert row["bpc"] == pytest.approx(bits / (len("the zyxzy .") + 1 + len("once upon a time .") + 1))
    assert "not comparable" in call("-evaluate", "-model", folder / "m.pt", "-test_corpus", corpus).stdout


def test_a_stream_is_one_story_of_all_lines(call, folder, corpora, tmp_path):
    words = [*(folder / "valid.tokens").read_text().replace("\n", " <eos> ").split()]
    row = json.loads(call("-evaluate", "-model", folder / "m.pt", "-test_corpus", folder / "valid.tokens", "-json",
                          "-stories", "stream").stdout)
    loaded = lstlm.load_model(lstlm.parse_args(["-evaluate", "-model", str(folder / "m.pt")]))
    ids = torch.tensor([lstlm.BOS, *(loaded.token2idx.get(word, lstlm.UNK) for word in words)])
    with torch.no_grad():  # at one go, from the first token to the last, without a cut or a new state
        logits = loaded.model(ids[None, :-1], torch.tensor([len(words)]))
    assert row["n_tokens"] == len(words)
    assert row["nats"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits[0], ids[1:])), rel=1e-4)
    unknown = sum(len(word) for word in words if word not in loaded.token2idx)
    bits = row["nats"] * len(words) / 0.6931471805599453 + unknown * 4.754887502163469
    assert row["bpc"] == pytest.approx(bits / len((folder / "valid.tokens").read_text()))


def test_training_reads_a_stream_in_stretches(call, folder, corpora, tmp_path):
    assert lstlm.stretches([1, 5, 6, 7, 8, 2], 2) == [[1, 5, 6], [6, 7, 8], [8, 2]]
    done = call("-train", *corpora, "-stories", "stream", "-E", "1", "-H", "1", "-N", "8", "-EDim", "4", "-B", "4",
                "-bptt", "512", "-model", tmp_path / "m.pt")
    count = len((folder / "train.tokens").read_text().replace("\n", " <eos> ").split())
    assert f"{-(-count // lstlm.STRETCH)} stretches, {count:,} target tokens" in done.stdout
    model = torch.load(tmp_path / "m.pt", weights_only=True)
    row = json.loads(call("-evaluate", "-model", tmp_path / "m.pt", "-test_corpus", folder / "valid.tokens", "-json",
                          "-stories", "stream").stdout)
    assert row["nats"] == pytest.approx(model["facts"]["valid_nats"], abs=1e-3)
    told = call("-evaluate", "-model", tmp_path / "m.pt", "-test_corpus", folder / "valid.tokens").stdout
    assert "note: trained with -stories stream, evaluated with -stories auto" in told
    with pytest.raises(lstlm.UserError, match="-positions -stories stream"):
        lstlm.parse_args(["-train", "-positions", "-stories", "stream"])


def test_use_through_a_pipe(folder):
    typed = "once upon a\nthe zyzzybird\n\n:fp 9\n:help\n:quit\nno\n"
    done = run("-use", "-greedy", "-model", folder / "m.pt", text=typed)
    assert done.returncode == 0, done.stderr
    assert "tokens: once upon a\nnext:   time\n" in done.stdout
    assert re.search(r"^ +time +\d+\.\d% █", done.stdout, re.M)
    assert "[zyzzybird is unknown" in done.stdout
    assert "starting from <bos>" in done.stdout
    assert "-fpenalty 9.0: give a number from -2 to 2" in done.stdout
    assert "tokens: no" not in done.stdout


def test_use_in_json(call, folder):
    done = call("-use", "-model", folder / "m.pt", "-json", text="once upon a\n")
    record = json.loads(done.stdout)
    assert record["mode"] == "use"
    assert record["text"] == "once upon a"
    assert record["tokens"][0] == "time"
    assert len(record["tokens"]) == len(record["probs"]) == 10
    assert record["probs"] == sorted(record["probs"], reverse=True)


def test_prompt_greedy_twice_is_the_same_and_sampling_follows_the_seed(folder):
    greedy = [run("-prompt", "-greedy", "-model", folder / "m.pt", "-text", "once upon a time").stdout for _ in "12"]
    assert greedy[0] == greedy[1]
    assert "Once upon a time" in greedy[0]
    first = run("-prompt", "-model", folder / "m.pt", "-text", "the", "-json")
    seed = json.loads(first.stdout)["seed"]
    again = run("-prompt", "-model", folder / "m.pt", "-text", "the", "-json", "-seed", seed)
    assert first.stdout == again.stdout


def test_prompt_samples_and_max_tokens(call, folder):
    flags = ["-samples", 3, "-max_tokens", 7, "-json", "-seed", 4]
    done = call("-prompt", "-model", folder / "m.pt", *flags, text="the\na\n")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["seed"] for r in records] == [4, 5, 6] * 2
    assert all(len(r["tokens"]) == len(r["probs"]) <= 7 for r in records)
    assert all(0 < p <= 1 for r in records for p in r["probs"])
    assert not {"<unk>", "<bos>"} & {token for r in records for token in r["tokens"]}


def test_samples_in_one_batch_are_those_of_one_at_a_time(call, folder):
    flags = ["-prompt", "-model", folder / "m.pt", "-text", "the", "-json", "-max_tokens", 40]
    together = [json.loads(line) for line in call(*flags, "-samples", 5, "-seed", 4).stdout.splitlines()]
    alone = [json.loads(call(*flags, "-seed", seed).stdout) for seed in range(4, 9)]
    assert len({len(record["tokens"]) for record in together}) > 1  # they end at different times
    for ours, theirs in zip(together, alone, strict=True):
        assert ours["probs"] == pytest.approx(theirs["probs"], rel=1e-4)
        assert {**ours, "probs": 0} == {**theirs, "probs": 0}


def test_generation_in_eight_bits_is_the_same_text(call, folder):
    flags = ["-prompt", "-greedy", "-model", folder / "m.pt", "-text", "once upon a time"]
    assert call(*flags, "-precision", "int8").stdout == call(*flags).stdout
    for mode in ("-train", "-evaluate"):
        check_error(call(mode, "-model", folder / "x" / "m.pt", "-precision", "int8"), "int8", "-prompt")


@pytest.mark.parametrize(
    ("flags", "other"),
    [(["-cell", "gru"], ["-cell", "lstm"]), (["-a", "additive"], ["-a", "dot"]), (["-tie", "-H", 2], ["-N", 16])],
)
def test_other_models_train_are_stored_and_generate(call, folder, corpora, flags, other):
    model = folder / "other.pt"
    (folder / "other.prev.pt").unlink(missing_ok=True)
    done = call("-train", *corpora, *SMALL, *flags, "-model", model)
    assert done.returncode == 0
    stored = torch.load(model, weights_only=True)["config"][flags[0][1:]]
    assert stored == (True if flags[0] == "-tie" else flags[1])
    first, last = map(float, re.findall(r"train ([\d.]+) nats", done.stdout))
    assert last < first
    assert call("-use", "-greedy", "-model", model, *flags, "-text", "the").returncode == 0
    check_error(call("-use", *other, "-model", model, "-text", "the"), " ".join(map(str, other)))


def test_a_bidirectional_model_trains_but_does_not_generate(call, folder, corpora):
    model = folder / "bi.pt"
    done = call("-train", *corpora, *SMALL, "-E", 1, "-bidirectional", "-locked", "-dropout", 0.1, "-model", model)
    assert done.returncode == 0
    assert "no language model" in done.stdout
    for mode in ("-use", "-prompt"):
        check_error(call(mode, "-model", model, "-text", "the"), "bi.pt", "-bidirectional")
    done = call("-evaluate", "-model", model, *corpora)
    assert done.returncode == 0
    assert "no language model" in done.stdout
    check_error(call("-evaluate", "-positions", "-model", model, *corpora), "-positions True", "has False")


def test_continue_ends_for_one_of_its_three_reasons(call, folder):
    loop = call("-prompt", "-greedy", "-continue", "-fpenalty", "-2", "-max_tokens", 9, "-model", folder / "m.pt",
               "-text", "the the the", "-json")
    assert json.loads(loop.stdout)["ended"].startswith("a loop: ")
    rounds = call("-prompt", "-continue", "-temperature", "50", "-top_k", "200", "-max_tokens", 2, "-seed", 1,
                 "-model", folder / "m.pt", "-text", "the", "-json")
    record = json.loads(rounds.stdout)
    assert record["ended"] in ("20 rounds of 2 tokens", "<eos>")
    assert (record["ended"] == "<eos>") == (record["tokens"][-1] == "<eos>") == (len(record["tokens"]) < 40)


def test_prompts_that_are_odd_but_fine(call, folder):
    unknown = call("-prompt", "-model", folder / "m.pt", "-text", "zyx qwv", "-max_tokens", 3)
    assert unknown.returncode == 0
    assert unknown.stdout.count("is unknown") == 2
    empty = call("-prompt", "-model", folder / "m.pt", "-text", "", "-max_tokens", 3)
    assert "starting from <bos>" in empty.stdout
    escape = call("-prompt", "-model", folder / "m.pt", "-max_tokens", 3, text="\x1b[31mred\x07\n")
    assert escape.returncode == 0
    assert "\x1b" not in escape.stdout
    assert "\x07" not in escape.stdout


def test_a_prompt_of_a_hundred_thousand_tokens(folder):
    text = "the cat " * 50_000 + "\n"
    done = run("-prompt", "-greedy", "-max_tokens", 3, "-json", "-model", folder / "m.pt", text=text)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["tokens"]) <= 3


def test_a_first_token_waits_for_no_library_that_it_does_not_need(folder):
    """PyTorch's compiler and sympy take seconds to load, and the first operation on device `meta` may load them."""
    argv = ["-prompt", "-model", str(folder / "m.pt"), "-text", "the cat", "-max_tokens", "1"]
    code = f"import sys, lstlm; lstlm.main({argv}); print(*({{'torch._dynamo', 'sympy'}} & {{*sys.modules}}))"
    environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, ""), done.stdout + done.stderr


def test_training_again_keeps_the_earlier_model(folder, corpora):
    shutil.copy(folder / "m.pt", folder / "again.pt")
    before = (folder / "again.pt").read_bytes()
    done = run("-train", *SMALL, *corpora, "-model", folder / "again.pt", "-E", 1)
    assert "is kept in" in done.stdout
    assert (folder / "again.prev.pt").read_bytes() == before
    assert (folder / "again.pt").read_bytes() != before


def test_the_same_seed_gives_the_same_model_and_another_seed_another(folder, corpora):
    weights = []
    for name, seed in (("s1", 0), ("s2", 0), ("s3", 1)):
        flags = ["-E", 1, "-B", 16, "-dropout", 0.2, "-a", "-seed", seed]
        run("-train", *SMALL, *corpora, *flags, "-model", folder / f"{name}.pt")
        weights.append(torch.load(folder / f"{name}.pt", weights_only=True)["weights"])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["output.weight"], weights[2]["output.weight"])


def test_glove_vectors_on_the_command_line(call, folder, corpora, tmp_path):
    glove = tmp_path / "glove.txt"
    glove.write_text("the 0.25 1 2\n. -1 0.5 3\n")
    done = call("-train", "-H", 1, "-N", 8, "-E", 1, *corpora, "-embeddings_file", glove, "-model", folder / "g.pt")
    assert "2 from glove.txt" in done.stdout
    saved = torch.load(folder / "g.pt", weights_only=True)
    row = saved["weights"]["embedding.weight"][saved["words"].index("the")]
    assert torch.equal(row, torch.tensor([0.25, 1, 2]))
    assert "note: the corpus has" in done.stdout


def test_the_embedded_sample_stands_in_and_says_so(tmp_path):
    """As in a fresh clone: the program and the sample, but no other data."""
    for part in ("code/lstlm.py", "data/sample/train.tokens", "data/sample/valid.tokens"):
        (tmp_path / "hw04" / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROGRAM.parent.parent / part, tmp_path / "hw04" / part)
    for split in ("train", "valid"):  # the first stories are enough here
        path = tmp_path / "hw04" / "data" / "sample" / f"{split}.tokens"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:30]))
    program = tmp_path / "hw04" / "code" / "lstlm.py"
    done = subprocess.run([sys.executable, program, "-train", "-H", "1", "-N", "8", "-E", "1"], capture_output=True,
                          text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "embedded sample" in lines[0]
    assert "embedded sample" in lines[-1]
    assert "note: no" in done.stdout  # GloVe file
    saved = torch.load(tmp_path / "hw04" / "code" / "lm_model.pt", weights_only=True)
    assert saved["facts"]["sample"] is True
    done = subprocess.run([sys.executable, program, "-evaluate"], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert "valid.tokens" in done.stdout


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
        (["--seed", "1"], ["did you mean -seed?"]),
        (["once", "upon"], ["once upon", "quotes"]),
        (["-model", "x.pt", "-trace", "x.log.jsonl"], ["x.log.jsonl: two flags name it"]),
        (["-model", "x.pt", "-embeddings_file", "x.state.pt"], ["x.state.pt: two flags name it"]),
    ],
)
def test_wrong_flags(call, folder, corpora, flags, words):
    check_error(call("-train", *corpora, "-model", folder / "none.pt", *flags), *words)
    assert not (folder / "none.pt").exists()


def test_one_corpus_alone_where_the_other_has_no_default(call, folder, monkeypatch):
    monkeypatch.setattr(lstlm, "DATA", folder)
    flags = ["-train", "-train_corpus", folder / "train.tokens", "-model", folder / "alone.pt"]
    check_error(call(*flags), "tiny.valid.tokens.200K", "-valid_corpus")
    (folder / "tiny").mkdir()
    shutil.copy(folder / "valid.tokens", folder / "tiny" / "tiny.valid.tokens.200K")
    assert call(*flags, "-H", 1, "-N", 4, "-EDim", 3, "-E", 1).returncode == 0


def test_no_mode_at_all(call):
    check_error(call(), "-train", "-prompt")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU here")
def test_no_gpu(call, folder):
    check_error(call("-use", "-device", "cuda", "-model", folder / "m.pt"), "-device cuda", "-device cpu")


def test_a_folder_that_cannot_be_written_is_found_before_training(call, folder, corpora):
    (folder / "file").write_text("")
    done = call("-train", *corpora, "-model", folder / "file" / "m.pt")
    check_error(done, "cannot be written", "-model")
    assert "vocabulary" not in done.stdout


def test_a_checkpoint_that_is_none(call, folder, tmp_path):
    whole = (folder / "m.pt").read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:-10]):
        (tmp_path / "bad.pt").write_bytes(content)
        check_error(call("-use", "-model", tmp_path / "bad.pt", text="the\n"), "bad.pt", "-model")
    check_error(call("-use", "-model", tmp_path / "none.pt"), "none.pt: no such model", "-train")
    for path in (tmp_path, ".", "/"):
        check_error(call("-use", "-model", path), f"{path}: no lstlm file")
    saved = torch.load(folder / "m.pt", weights_only=True)
    (tmp_path / "new.pt").write_bytes(lstlm.seal({**saved, "version": 99}))
    check_error(call("-evaluate", "-model", tmp_path / "new.pt"), "version 99")
    saved["weights"]["output.bias"] = torch.zeros(3)
    (tmp_path / "shape.pt").write_bytes(lstlm.seal(saved))
    check_error(call("-use", "-model", tmp_path / "shape.pt"), "damaged")


@pytest.mark.parametrize("flags", [["-N", "64"], ["-H", "2"], ["-a"], ["-VSize", "77"], ["-EDim", "50"], ["-cased"]])
def test_an_architecture_flag_that_disagrees_names_both_values(call, folder, flags):
    value = flags[1] if len(flags) > 1 else ""
    saved = torch.load(folder / "m.pt", weights_only=True)["config"][flags[0][1:]]
    check_error(call("-use", "-model", folder / "m.pt", *flags), flags[0], value, str(saved))


def test_standard_input_that_is_not_utf8(folder):
    done = run("-prompt", "-model", folder / "m.pt", "-max_tokens", 2, text=b"na\xefve\n")
    assert done.returncode in (0, 2)
    assert "Traceback" not in done.stderr


def test_help_says_every_default(call):
    text = call("-h").stdout
    flags = re.findall(r"^  (-\w+)(.*?)(?=^  -|^\w|\Z)", text, re.M | re.S)
    assert len(flags) > 35
    for flag, about in flags:
        if flag not in ("-h", "-train", "-use", "-prompt", "-evaluate"):
            assert "default" in about, flag


def test_a_preset_sets_what_is_not_given():
    plain, strong = (lstlm.parse_args(["-train", *flags]) for flags in ([], ["-preset", "strong"]))
    assert not plain.tie and (strong.tie, strong.EDim, strong.dropout, strong.E) == (True, 512, 0.3, 8)
    given = lstlm.parse_args(["-train", "-E", "3", "-preset", "strong", "-lr", "0.001"])
    assert (given.tie, given.E, given.lr, given.emb_lr) == (True, 3, 0.001, 0.001)
    same = {name for name, value in vars(plain).items() if vars(strong)[name] == value}
    assert vars(plain).keys() - same == {"tie", "EDim", "dropout", "E", "preset"}


def test_main_may_be_called_where_output_is_no_file(folder):
    """In a notebook, say."""
    with contextlib.redirect_stdout(printed := io.StringIO()):
        assert lstlm.main(["-use", "-greedy", "-model", str(folder / "m.pt"), "-text", "once"]) == 0
    assert printed.getvalue().startswith("tokens: once")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_stream_that_the_caller_closed_is_no_error(folder, closed):
    train = f"-train -H 1 -N 4 -EDim 3 -E 1 -train_corpus '{folder}/valid.tokens' -valid_corpus '{folder}/valid.tokens'"
    for flags, model in (("-prompt -text the", "m"), (f"-evaluate -test_corpus '{folder}/valid.tokens'", "m"),
                         (train, "closed")):
        command = f"'{sys.executable}' '{PROGRAM}' {flags} -model '{folder}/{model}.pt' {closed}"
        done = subprocess.run(command, shell=True, capture_output=True, text=True, env=ONE_THREAD)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


def test_output_that_nobody_reads_ends_quietly(folder):
    command = f"'{sys.executable}' '{PROGRAM}' -prompt -model '{folder}/m.pt' -text the -samples 200 -seed 1 | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert done.stderr == ""


def test_prompt_takes_commands_and_says_unknown_words_as_they_were_typed(call, folder):
    typed = ":greedy\nthe zyzzybird\n:temp\n:quit\nno\n"
    done = call("-prompt", "-model", folder / "m.pt", "-max_tokens", 5, text=typed)
    assert done.returncode == 0
    assert ":greedy True" in done.stdout
    assert "The zyzzybird" in done.stdout
    assert "-- seed" not in done.stdout
    assert ":temp: not understood; :help lists the commands" in done.stdout
    assert "tokens: no" not in done.stdout


def test_a_corpus_of_plain_prose_is_noted(call, folder, tmp_path):
    prose = tmp_path / "prose"
    prose.write_text('The old man went to the harbour. "Good day," he said.\nThen it rained, and he ran.\n')
    flags = ["-train", "-H", 1, "-N", 4, "-EDim", 3, "-E", 1, "-model", tmp_path / "m.pt"]
    noted = call(*flags, "-train_corpus", prose, "-valid_corpus", prose).stdout
    assert "note: 40% of the words, such as harbour., are no tokens" in noted
    clean = call(*flags, "-train_corpus", folder / "valid.tokens", "-valid_corpus", folder / "valid.tokens").stdout
    assert "are no tokens" not in clean


def test_text_is_folded_between_words(capsys):
    column = 0
    for piece in ["Once", " upon", " a", " time", ",", " there"]:
        column = lstlm.print_folded(piece, column, 10)
    assert capsys.readouterr().out == "Once upon\na time,\nthere"
    assert column == 5


def test_evaluate_looks_for_all_files_first(call, folder):
    done = call("-evaluate", "-model", folder / "m.pt", "-test_corpus", folder / "valid.tokens", folder / "nope")
    check_error(done, "nope", "-test_corpus")
    assert done.stdout == ""


def test_a_model_that_is_not_there_yet(call, folder):
    (folder / "early.state.pt").write_bytes(b"")
    check_error(call("-use", "-model", folder / "early.pt"), "early.pt", "stopped run", "-resume")
