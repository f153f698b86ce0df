"""Training a recogniser: the joint loss by its definition, error rates, exact resume, stages."""

import json
import math
import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hw4lib.data import ASRDataset
from hw4lib.model import DecoderOnlyTransformer
from hw4lib.trainers import ASRTrainer, LMTrainer, ProgressiveTrainer, Stopped
from hw4lib.trainers.checkpoint import read_checkpoint
from hw4lib.trainers.ctc_room import frames_needed, without_room
from hw4lib.trainers.measures import error_rates
from tests.asr.small import TEXTS, data_config, features_of, write_partition
from torch.nn import functional as F
from torch.testing import assert_close

pytestmark = pytest.mark.filterwarnings("ignore:.*optimizer.step:UserWarning")


def losses_of(model, dataset) -> list[tuple[float, float, int]]:
    """Cross-entropy, CTC per target and targets of each utterance, taken by itself."""
    found = []
    for feats, shifted, golden in dataset:
        logits, _, ctc = model(
            feats.T[None].double(), shifted[None], torch.tensor([feats.shape[1]]),
            torch.tensor([len(shifted)]),
        )
        ce = F.cross_entropy(logits[0], golden, reduction="sum")
        ctc = F.ctc_loss(
            ctc["log_probs"], golden[None], ctc["lengths"], torch.tensor([len(golden)]),
            reduction="sum", zero_infinity=True,
        )
        found.append((float(ce), float(ctc) / len(golden), len(golden)))
    return found


# ---- The loss


@torch.no_grad()
def test_training_reports_the_losses_before_each_step(asr_lab):
    trainer, loader = asr_lab.trainer(), asr_lab.loader(2)
    trainer.optimizer.step = lambda *args, **kwargs: None
    losses = losses_of(trainer.model.eval(), loader.dataset)
    with torch.enable_grad():
        metrics, maps = trainer._train_epoch(loader)
    targets = sum(n for *_, n in losses)
    ce = sum(nats for nats, *_ in losses) / targets
    ctc = 0.0
    for start in range(0, 5, 2):
        batch = losses[start : start + 2]
        ctc += sum(c for _, c, _ in batch) / len(batch) * sum(n for *_, n in batch) / targets
    assert list(metrics) == [
        "ce_loss", "ctc_loss", "joint_loss", "perplexity_token", "perplexity_char",
    ]
    assert metrics["ce_loss"] == pytest.approx(ce, rel=1e-5)
    assert metrics["ctc_loss"] == pytest.approx(ctc, rel=1e-5)
    assert metrics["joint_loss"] == pytest.approx(ce + 0.5 * ctc, rel=1e-5)
    assert metrics["perplexity_token"] == pytest.approx(math.exp(ce), rel=1e-5)
    assert metrics["perplexity_char"] == pytest.approx(math.exp(ce), rel=1e-5)  # of characters
    assert maps["layer1_dec_cross"].shape[0] == 1


@pytest.mark.parametrize("floats", [2**27, 1])
def test_the_gradient_is_that_of_the_joint_loss(asr_lab, monkeypatch, floats):
    """Whether a batch is computed whole, or each utterance by itself."""
    monkeypatch.setattr(sys.modules["hw4lib.trainers.asr_trainer"], "FLOATS", floats)
    trainer, loader = asr_lab.trainer(), asr_lab.loader(5)
    batch = next(iter(loader))
    assert len(list(trainer._parts(batch))) == (1 if floats > 1 else 5)
    trainer.model.train()
    loss, sums = trainer._backward(batch, 1)
    found = [p.grad.clone() for p in trainer.model.parameters()]
    trainer.model.zero_grad()
    feats, shifted, golden, feat_lengths, lengths = batch
    logits, _, ctc = trainer.model(feats.double(), shifted, feat_lengths, lengths)
    expected = F.cross_entropy(logits.flatten(0, 1), golden.flatten(), ignore_index=0)
    expected = expected + 0.5 * F.ctc_loss(ctc["log_probs"], golden, ctc["lengths"], lengths)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert sums["sequences"] == 5 and sums["targets"] == int(lengths.sum())
    for one, parameter in zip(found, trainer.model.parameters(), strict=True):
        assert_close(one, parameter.grad, rtol=1e-4, atol=1e-6)


def test_the_blank_of_ctc_is_the_padding_token_and_its_lengths_are_the_encoders(asr_lab):
    trainer, loader = asr_lab.trainer(), asr_lab.loader(3)
    assert trainer.ctc_criterion.blank == 0 and trainer.ctc_criterion.zero_infinity
    seen = []
    trainer.ctc_criterion = lambda *args: seen.append(args) or torch.tensor(1.0)
    batch = next(iter(loader))
    list(trainer._losses(batch))
    log_probs, golden, frames, lengths = seen[0]
    assert frames.tolist() == [T // 2 for T in batch[3].tolist()]
    assert golden.equal(batch[2]) and lengths.equal(batch[4])  # not SOS
    assert log_probs.shape[1] == 3


def test_without_ctc(asr_lab):
    trainer = asr_lab.trainer(loss={"label_smoothing": 0.25})
    assert trainer.ctc_criterion is None and trainer.ctc_weight == 0
    assert trainer.ce_criterion.label_smoothing == 0.25
    assert trainer.ce_criterion.ignore_index == 0
    metrics, _ = trainer._train_epoch(asr_lab.loader())
    assert metrics["ctc_loss"] == 0 and metrics["joint_loss"] == metrics["ce_loss"]


def test_padding_of_a_batch_changes_no_gradient(asr_lab):
    trainer = asr_lab.trainer()
    feats, shifted, golden, feat_lengths, lengths = next(iter(asr_lab.loader(3)))
    grads = []
    for extra in (0, 5):
        trainer.model.train().zero_grad()
        wider = F.pad(feats, (0, 0, 0, extra), value=9.0)
        longer = [F.pad(tokens, (0, extra)) for tokens in (shifted, golden)]
        trainer._backward((wider, *longer, feat_lengths, lengths), 1)
        grads.append([p.grad.clone() for p in trainer.model.parameters()])
    for one, other in zip(*grads, strict=True):
        assert_close(one, other, rtol=1e-5, atol=1e-8)


# ---- Too short for CTC


def test_frames_that_ctc_needs():
    assert [frames_needed(row) for row in ([4], [7, 4], [7, 7, 4], [7, 7, 7, 8, 8, 4])] == [
        1, 2, 4, 9,
    ]


def test_utterances_without_room_are_counted_and_named(tmp_path, tokenizers, asr_lab, capsys):
    texts, frames = ["ABC", "AAB", "ABCD", "AB"], [8, 8, 8, 20]
    write_partition(tmp_path / "tight", "train", texts, features_of(frames))
    config = data_config(tmp_path / "tight", norm="none")
    data = ASRDataset("train", config, tokenizers["char"], True)
    trainer = asr_lab.trainer()
    note = without_room(data, trainer.model.source_embedding)
    assert "note: 2 of 4 utterances of train" in note and "(u1.npy: 4 for 5)" in note
    losses = losses_of(trainer.model, data)
    assert [ctc == 0 for _, ctc, _ in losses] == [False, True, True, False]
    assert without_room(asr_lab.loader().dataset, trainer.model.source_embedding) == ""
    loader = torch.utils.data.DataLoader(data, 2, collate_fn=data.collate_fn)
    capsys.readouterr()
    trainer.train(loader, asr_lab.loader(partition="val"), 1)
    assert "note: 2 of 4 utterances of train" in capsys.readouterr().out


def test_an_utterance_of_which_no_frame_is_left_is_named(tmp_path, tokenizers, asr_lab):
    write_partition(tmp_path / "tight", "train", ["A", "B"], features_of([8, 1]))
    config = data_config(tmp_path / "tight", norm="none")
    data = ASRDataset("train", config, tokenizers["char"], True)
    with pytest.raises(ValueError, match=r"u1\.npy: 1 frames, of which the model's reduction"):
        without_room(data, asr_lab.trainer().model.source_embedding)


# ---- Error rates


def distance(one, other) -> int:
    """Levenshtein's distance by its recurrence."""
    table = np.zeros((len(one) + 1, len(other) + 1), int)
    table[:, 0], table[0] = range(len(one) + 1), range(len(other) + 1)
    for i, a in enumerate(one, 1):
        for j, b in enumerate(other, 1):
            best = min(table[i - 1, j], table[i, j - 1]) + 1
            table[i, j] = min(best, table[i - 1, j - 1] + (a != b))
    return int(table[-1, -1])


def test_error_rates_are_distances_over_all_texts():
    references = ["THE CAT SAT", "A DOG", "OH", "NEVER  MIND"]
    hypotheses = ["THE BAT SAT DOWN", "", " OH", "NEVER MIND"]
    pairs = list(zip(references, hypotheses, strict=True))
    characters = sum(distance(a, b) for a, b in pairs)
    words = sum(distance(a.split(), b.split()) for a, b in pairs)
    rates = error_rates(references, hypotheses)
    assert rates["cer"] == pytest.approx(100 * characters / sum(map(len, references)))
    assert rates["wer"] == pytest.approx(100 * words / sum(len(a.split()) for a in references))
    assert rates["word_dist"] == pytest.approx(characters / 4)
    assert list(rates) == ["word_dist", "wer", "cer"]
    ratios = [distance(a, b) / len(a) for a, b in pairs]
    assert rates["cer"] != pytest.approx(100 * sum(ratios) / 4)  # no mean of ratios


def test_error_rates_divide_by_the_reference():
    assert error_rates(["ABCD"], ["AB"])["cer"] == 50
    assert error_rates(["AB"], ["ABCD"])["cer"] == 100
    assert error_rates(["A"], ["ABCD"])["cer"] == 300


def test_error_rates_of_nothing():
    assert error_rates(["AB", ""], ["", "C"])["cer"] == pytest.approx(150)
    assert error_rates([""], [""]) == {"word_dist": 0, "wer": 0, "cer": 0}
    assert error_rates([""], ["AB"])["cer"] == 200
    assert error_rates([], []) == {"word_dist": 0, "wer": 0, "cer": 0}


def test_metrics_of_one_text(asr_lab):
    metrics = asr_lab.trainer()._calculate_asr_metrics
    assert metrics("ABCD", "ABXD")["cer"] == 25
    assert metrics("AB", "ABCD")["cer"] == 100 and metrics("ABCD", "AB")["cer"] == 50


# ---- Recognition


def test_recognition_in_the_loaders_order(asr_lab):
    trainer = asr_lab.trainer()
    found = trainer.recognize(asr_lab.loader(2), max_length=7)
    assert [result["target"] for result in found] == TEXTS
    assert all(list(result) == ["target", "generated", "score"] for result in found)
    alone = trainer.recognize(asr_lab.loader(1), max_length=7)
    for one, other in zip(found, alone, strict=True):
        assert one["generated"] == other["generated"]
        assert one["score"] == pytest.approx(other["score"], rel=1e-6)
    assert len(trainer.recognize(asr_lab.loader(2), {"num_batches": 2}, max_length=5)) == 4
    texts = trainer.recognize(asr_lab.loader(2, "test"), max_length=7)
    assert [list(result) for result in texts] == [["generated", "score"]] * 2


def greedy(model, feats, max_length) -> list[int]:
    """The best token at each step, without any cache."""
    x_enc, mask, *_ = model.encode(feats, torch.tensor([feats.shape[1]]))
    x = torch.tensor([[3]])
    while x.shape[1] < max_length and x[0, -1] != 4:
        x = torch.cat([x, model.score(x, x_enc, mask).argmax(1)[:, None]], 1)
    return x[0].tolist()


@torch.no_grad()
def test_greedy_recognition_is_the_best_token_at_each_step(asr_lab, tokenizers):
    trainer, data = asr_lab.trainer(), asr_lab.loader().dataset
    torch.manual_seed(0)
    for parameter in trainer.model.parameters():
        parameter.normal_(std=0.3)
    found = trainer.recognize(asr_lab.loader(3), max_length=9)
    for result, (feats, *_) in zip(found, data, strict=True):
        ids = greedy(trainer.model, feats.T[None].double(), 9)
        text = tokenizers["char"].decode(ids, skip_special_tokens=True)
        assert result["generated"] == text


def test_recognition_needs_a_length(asr_lab):
    trainer = asr_lab.trainer()
    with pytest.raises(ValueError, match="max_length is not known"):
        trainer.recognize(asr_lab.loader())
    trainer.text_max_len = 4
    assert all(len(r["generated"]) <= 3 for r in trainer.recognize(asr_lab.loader()))


def test_recognition_with_beams_ctc_and_a_language_model(asr_lab, tokenizers):
    trainer = asr_lab.trainer()
    torch.manual_seed(3)
    text = DecoderOnlyTransformer(1, 8, 2, 8, 0.0, 20, tokenizers["char"].vocab_size).double()
    ways = [
        {"beam_width": 3}, {"beam_width": 3, "ctc_weight": 0.4}, {"ctc_weight": 0.4},
        {"beam_width": 2, "lm_model": text, "lm_weight": 0.5},
        {"beam_width": 2, "lm_model": text, "lm_weight": None},
    ]  # fmt: skip
    for way in ways:
        found = trainer.recognize(asr_lab.loader(2), way, max_length=8)
        assert len(found) == 5 and all(math.isfinite(r["score"]) for r in found)
    assert not text.training
    with pytest.raises(ValueError, match="the language model takes 20 tokens, and texts have up"):
        trainer.recognize(asr_lab.loader(2), ways[3], max_length=21)


def test_evaluate_gives_a_table_of_each_way(asr_lab, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=dict))
    trainer = asr_lab.trainer()
    configs = trainer._get_evaluation_recognition_configs("model", 0.5)
    assert {name: c["beam_width"] for name, c in configs.items()} == {
        "greedy": 1, "beam_10": 10, "beam_20": 20,
    }
    assert all(c["num_batches"] is None and c["lm_weight"] == 0.5 for c in configs.values())
    recognize = trainer.recognize

    def failing(loader, settings, name, max_length):
        if name == "beam_20":
            raise ValueError("no")
        return recognize(loader, settings, name, max_length)

    trainer.recognize = failing
    tables = trainer.evaluate(asr_lab.loader(2, "test"), max_length=5)
    assert list(tables) == ["greedy", "beam_10"] and "beam_20" in capsys.readouterr().out
    assert list(tables["greedy"]["id"]) == [0, 1] and len(tables["greedy"]["transcription"]) == 2
    written = asr_lab.path / "expts" / "run" / "text" / "text_test_greedy_results.json"
    assert [r["generated"] for r in json.loads(written.read_text())] == list(
        tables["greedy"]["transcription"]
    )


# ---- Epochs


def test_an_epoch_and_what_is_written(asr_lab):
    trainer = asr_lab.trainer(plots=True)
    trainer.train(asr_lab.loader(2, shuffle=True), asr_lab.loader(2, "val"), 1)
    assert trainer.text_max_len == 15
    (entry,) = trainer.training_history
    assert set(entry["val"]) == {"word_dist", "wer", "cer"}
    assert trainer.best_metric == entry["val"]["cer"]
    root = asr_lab.path / "expts" / "run"
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert files == {
        "config.yaml", "model_arch.txt", "checkpoints/checkpoint-best-metric-model.pth",
        "checkpoints/checkpoint-last-epoch-model.pth", "text/text_val_epoch_0.json",
        "attn/decoder_self_attention_epoch0.png", "attn/decoder_cross_attention_epoch0.png",
    }
    assert "EncoderDecoderTransformer" in (root / "model_arch.txt").read_text()
    texts = json.loads((root / "text" / "text_val_epoch_0.json").read_text())
    assert [text["target"] for text in texts] == TEXTS[:3]


@pytest.mark.thorough
def test_utterances_are_learned_by_heart(asr_lab):
    trainer = asr_lab.trainer(dtype=torch.float32, d_model=32, d_ff_encoder=64, d_ff_decoder=64)
    trainer.optimizer = torch.optim.AdamW(trainer.model.parameters(), 0.004)
    trainer.scheduler = torch.optim.lr_scheduler.LambdaLR(trainer.optimizer, lambda step: 1.0)
    loader = asr_lab.loader(5)
    for _ in range(150):
        trainer._train_epoch(loader)
        trainer.progress = None
    metrics, _ = trainer._validate_epoch(loader)
    assert metrics["cer"] == 0


def stop_after(trainer, batches: int) -> None:
    """Ask the trainer to stop when it has trained on so many batches."""
    update, count = trainer._update, iter(range(1, 1000))

    def counting():
        update()
        trainer.stop_requested = next(count) == batches

    trainer._update = counting


@pytest.mark.parametrize("stop", [2, 3, 4])  # of twice 3: middle and end of an epoch, the next
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(asr_lab, stop):
    """With masks of SpecAugment, dropout and dropped layers, which are all drawn."""
    options = {"dropout": 0.2, "layer_drop_rate": 0.3, "dtype": torch.float32}

    def start(run):
        trainer = asr_lab.trainer(run, **options)
        torch.manual_seed(3)
        random.seed(3)
        loader = asr_lab.loader(2, shuffle=True, specaug=True)
        return trainer, loader, asr_lab.loader(2, "val")

    whole, *loaders = start("whole")
    whole.train(*loaders, 2)
    broken, *loaders = start("broken")
    stop_after(broken, stop)
    with pytest.raises(Stopped):
        broken.train(*loaders, 2)
    resumed, *loaders = start("broken")
    torch.manual_seed(99)
    resumed.load_checkpoint(resumed.last_model_path.name)
    resumed.train(*loaders, 2 - resumed.current_epoch)
    for one, other in zip(
        whole.model.parameters(), resumed.model.parameters(), strict=True
    ):
        assert torch.equal(one, other)
    assert whole.training_history == resumed.training_history
    assert whole.best_metric == resumed.best_metric


def test_a_validation_that_was_stopped_goes_on(asr_lab):
    whole, broken = asr_lab.trainer("whole"), asr_lab.trainer("broken")
    loaders = asr_lab.loader(2), asr_lab.loader(1, "val")
    whole.train(*loaders, 1)
    recognised, count = broken._recognised, iter(range(10))

    def stopping(*args):
        broken.stop_requested = next(count) == 1
        return recognised(*args)

    broken._recognised = stopping
    with pytest.raises(Stopped):
        broken.train(*loaders, 1)
    content = read_checkpoint(broken.last_model_path)
    assert len(content["progress"]["validation"]["results"]) == 2
    resumed = asr_lab.trainer("broken")
    calls, recognised_again = [], resumed._recognised
    resumed._recognised = lambda *args: calls.append(1) or recognised_again(*args)
    resumed.load_checkpoint(resumed.last_model_path.name)
    resumed.train(*loaders, 1)
    assert len(calls) == 1 and resumed.training_history == whole.training_history


@pytest.mark.parametrize(("change", "value"), [
    ("results", [{"target": 3, "generated": "A"}] * 3), ("results", []), ("batches", -1),
    ("results", [{"target": "A"}] * 3), ("ctc_nats", -1.0),
])  # fmt: skip
def test_progress_that_is_none_is_refused(asr_lab, change, value):
    trainer = asr_lab.trainer()
    trainer.train(asr_lab.loader(2), asr_lab.loader(1, "val"), 1)
    content = read_checkpoint(trainer.last_model_path)
    state = content["random_state"]
    text = {"target": "A", "generated": "B", "score": 0.5}
    validation = {"batches": 2, "random_state": state, "results": [text] * 2}
    progress = {
        "batches": 3, "random_state": state, "nats": 3.0, "ctc_nats": 2.0, "targets": 20,
        "sequences": 5, "validation": validation,
    }  # fmt: skip
    path = asr_lab.path / "changed.pth"
    torch.save({**content, "progress": progress}, path)
    read_checkpoint(path)
    place = progress if change == "ctc_nats" else validation
    place[change] = value
    torch.save({**content, "progress": progress}, path)
    with pytest.raises(ValueError, match="a damaged one"):
        read_checkpoint(path)


def test_reduced_precision_is_used_where_it_was_chosen(asr_lab):
    trainer, seen = asr_lab.trainer(dtype=torch.float32, reduction_method="conv"), []
    trainer.model.final_linear.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    trainer.precision = torch.bfloat16
    trainer.model.train()
    loss, _ = trainer._backward(next(iter(asr_lab.loader())), 1)
    trainer._validate_epoch(asr_lab.loader(2, "val"))
    assert seen[0] == torch.bfloat16 and set(seen[1:]) == {torch.float32}
    assert math.isfinite(loss)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here")
@pytest.mark.parametrize("ctc_weight", [0.0, 0.4])
def test_a_gpu_gives_the_same(asr_lab, ctc_weight):
    found = []
    for device in ("cpu", "cuda"):
        trainer = asr_lab.trainer(f"on-{device}", device=device, reduction_method="conv")
        batch = next(iter(asr_lab.loader(3)))
        trainer.model.train()
        loss, _ = trainer._backward(batch, 1)
        way = {"beam_width": 3, "ctc_weight": ctc_weight}
        results = trainer.recognize([batch], way, max_length=6)
        found.append((loss, results))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert one["generated"] == other["generated"]
        assert one["score"] == pytest.approx(other["score"], rel=1e-4)


def test_a_trainer_of_text_refuses_a_recogniser(asr_lab):
    made = asr_lab.trainer()
    with pytest.raises(NotImplementedError, match="EncoderDecoderTransformer"):
        LMTrainer(made.model, made.tokenizer, made.config, "x", asr_lab.path / "config.yaml", "cpu")


# ---- Stages

STAGE = {
    "name": "small", "epochs": 1, "encoder_active_layers": [1], "decoder_active_layers": [0, 1],
    "encoder_freeze": [False], "decoder_freeze": [True, False], "dropout": 0.25,
    "label_smoothing": 0.1, "data_subset": 0.6,
}  # fmt: skip


def test_a_stage_has_its_layers_and_their_freeze(asr_lab, capsys):
    trainer = asr_lab.trainer(cls=ProgressiveTrainer, loss={"label_smoothing": 0.3})
    model = trainer.model
    all_encoder, all_decoder = list(model.enc_layers), list(model.dec_layers)
    trainer.configure_stage(STAGE)
    assert list(model.enc_layers) == all_encoder[1:] and list(model.dec_layers) == all_decoder
    assert (model.num_encoder_layers, model.num_decoder_layers) == (1, 2)
    assert not any(p.requires_grad for p in all_decoder[0].parameters())
    assert all(p.requires_grad for p in all_decoder[1].parameters())
    assert model.dropout.p == all_decoder[1].self_attn.mha.dropout == 0.25
    assert trainer.ce_criterion.label_smoothing == 0.1
    assert "stage small: 1 encoder and 2 decoder layers" in capsys.readouterr().out
    trainer.best_metric = 5.0
    trainer.transition_to_full_training()
    assert list(model.enc_layers) == all_encoder and model.num_encoder_layers == 2
    assert all(p.requires_grad for p in model.parameters())
    assert model.dropout.p == all_decoder[1].self_attn.mha.dropout == 0.0
    assert trainer.ce_criterion.label_smoothing == 0.3 and trainer.best_metric == math.inf


def test_frozen_and_waiting_layers_stay_as_they_are(asr_lab):
    trainer = asr_lab.trainer(cls=ProgressiveTrainer)
    trainer.optimizer.param_groups[0]["weight_decay"] = 0.1
    kept = [trainer.all_encoder_layers[0], trainer.all_decoder_layers[0]]
    before = [p.clone() for layer in kept for p in layer.parameters()]
    moved = trainer.all_encoder_layers[1].ffn.ffn[0].weight.clone()
    trainer.progressive_train(asr_lab.loader(2), asr_lab.loader(2, "val"), [STAGE])
    after = [p for layer in kept for p in layer.parameters()]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert not torch.equal(moved, trainer.all_encoder_layers[1].ffn.ffn[0].weight)
    weights = read_checkpoint(trainer.last_model_path)["model_state_dict"]
    assert "enc_layers.1.ffn.norm.weight" in weights  # all layers are in a stage's checkpoint
    assert len(trainer.model.enc_layers) == 1
    trainer.load_checkpoint(trainer.last_model_path.name)
    trainer.train(asr_lab.loader(2), asr_lab.loader(2, "val"), 1)
    assert len(trainer.model.enc_layers) == 2 and len(trainer.training_history) == 2


def test_a_part_of_the_data(asr_lab):
    trainer, loader = asr_lab.trainer(cls=ProgressiveTrainer), asr_lab.loader(2)
    part = trainer.get_subset_dataloader(loader, 0.6)
    assert len(part.dataset) == 3 and part.batch_size == 2
    data = loader.dataset
    assert part.dataset.partition == "train" and part.dataset.text_max_len == data.text_max_len
    assert part.dataset.get_avg_chars_per_token() == data.get_avg_chars_per_token()
    assert sum(len(batch[0]) for batch in part) == 3


@pytest.mark.parametrize(("changed", "message"), [
    ({"encoder_freeze": []}, "stage small: 1 encoder_active_layers, 0 of encoder_freeze"),
    ({"decoder_active_layers": [0, 2]}, r"decoder_active_layers \[0, 2\]; there are 2"),
])  # fmt: skip
def test_what_a_stage_refuses(asr_lab, changed, message):
    trainer = asr_lab.trainer(cls=ProgressiveTrainer)
    with pytest.raises(ValueError, match=message):
        trainer.configure_stage({**STAGE, **changed})


def test_trainers_are_one_family():
    assert issubclass(ProgressiveTrainer, ASRTrainer)
