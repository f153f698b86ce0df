"""Training a speech recogniser: cross-entropy and CTC, error rates, recognised texts."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ..data.asr_dataset import Batch
from ..decoding import CTCPrefixScorer, FusedScorer, SequenceGenerator, SpeechScorer
from ..errors import UserError
from .base_trainer import BaseTrainer
from .ctc_room import without_room
from .measures import error_rates, perplexity
from .parts import FLOATS, row_groups
from .run_folder import decoration

RECOGNITION = {  # what recognition does unless told otherwise
    "num_batches": None, "beam_width": 1, "temperature": 1.0, "repeat_penalty": 1.0,
    "lm_model": None, "lm_weight": 0.0, "ctc_weight": 0.0,
}  # fmt: skip
WIDTH = 64  # features are padded to a multiple of so many frames, as LMTrainer pads tokens
SHOWN = 2000  # frames of the utterance whose attention is drawn


class ASRTrainer(BaseTrainer):
    """Trains on batches of an ASRDataset.

    The loss is cross-entropy per token plus `loss.ctc_weight` times CTC, whose blank is the padding
    token. The best model is that of the lowest character error rate (CER) on all of val, decoded
    greedily.
    """

    best_by = "cer"

    def __init__(self, model, tokenizer, config, run_name, config_file, device=None):
        super().__init__(model, tokenizer, config, run_name, config_file, device)
        loss = config.get("loss", {})
        self.ce_criterion = self._cross_entropy(loss.get("label_smoothing", 0.0))
        self.ctc_weight = loss.get("ctc_weight", 0.0)
        self.ctc_criterion = None
        if self.ctc_weight > 0:
            self.ctc_criterion = nn.CTCLoss(blank=tokenizer.pad_id, zero_infinity=True)
        self.text_max_len: int | None = None

    def _cross_entropy(self, smoothing: float) -> nn.CrossEntropyLoss:
        return nn.CrossEntropyLoss(ignore_index=self.tokenizer.pad_id, label_smoothing=smoothing)

    def _example(self) -> list[Tensor]:
        """An utterance of 100 frames with a transcript of 10 tokens, or what the model takes."""
        T, L = min(100, self.model.max_len), min(10, self.model.max_len)
        feats = self._features(torch.zeros(1, T, self.config["data"]["num_feats"]))
        return [feats, torch.zeros(1, L).long(), torch.tensor([T]), torch.tensor([L])]

    # ---- Epochs

    def train(self, train_loader: DataLoader, val_loader: DataLoader, epochs: int) -> None:
        """Train as BaseTrainer does; first say which utterances CTC can do nothing with."""
        datasets = [loader.dataset for loader in (train_loader, val_loader)]
        self.text_max_len = max(dataset.text_max_len for dataset in datasets)
        if self.ctc_criterion and hasattr(train_loader.dataset, "feat_lengths"):
            note = without_room(train_loader.dataset, self.model.source_embedding)
            if note:
                print(note)
        super().train(train_loader, val_loader, epochs)

    def _losses(self, batch: Batch) -> Iterator[tuple[Tensor, dict[str, float]]]:
        """The joint loss of a batch; summed are nats of both losses, targets and sequences.

        CTC's mean divides each utterance's loss by its targets; times the batch's targets it is
        comparable to the nats of cross-entropy.
        """
        all_targets, all_sequences = int(batch[4].sum()), len(batch[4])
        for part in self._parts(batch):
            golden, targets, sequences = part[2], int(part[4].sum()), len(part[4])
            logits, ctc = self._heard(part)
            mean = self.ce_criterion(logits.float().flatten(0, 1), golden.to(self.device).flatten())
            loss = mean * (targets / all_targets)
            sums = {"nats": mean.item() * targets, "ctc_nats": 0.0}
            if self.ctc_criterion:
                by_ctc = self._ctc_loss(ctc, golden, part[4]) * (sequences / all_sequences)
                loss = loss + self.ctc_weight * by_ctc
                sums["ctc_nats"] = by_ctc.item() * all_targets
            yield loss, sums | {"targets": targets, "sequences": sequences}

    def _heard(self, part: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, L, V) and the CTC head's output for (a part of) a batch."""
        shifted, _, feat_lengths, lengths = (item.to(self.device) for item in part[1:])
        with self._reduced_precision():
            logits, _, ctc = self.model(
                self._widened(self._features(part[0])), shifted, feat_lengths, lengths,
                need_weights=False,
            )
        return logits, ctc

    def _ctc_loss(self, ctc: dict[str, Tensor], golden: Tensor, lengths: Tensor) -> Tensor:
        """The mean over utterances of CTC per target, EOS among these."""
        return self.ctc_criterion(
            ctc["log_probs"], golden.to(self.device), ctc["lengths"], lengths.to(self.device)
        )

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        """A batch, or groups of its rows, if all would take too much memory at once."""
        feats, shifted, golden, feat_lengths, lengths = batch
        if len(feats) * self._floats(feats.shape[1]) <= FLOATS:
            yield batch
            return
        for rows, T in row_groups(feat_lengths, self._floats, FLOATS):
            L = int(lengths[rows].max())
            yield (
                feats[rows, :T], shifted[rows, :L], golden[rows, :L], feat_lengths[rows],
                lengths[rows],
            )

    def _floats(self, T: int) -> int:
        """How many numbers the largest tensor has for an utterance of T frames.

        It is that of the convolutions, of the CTC head, or of a feed-forward network.
        """
        model, embedding = self.model, self.model.source_embedding
        frames = int(embedding.calculate_downsampled_length(torch.tensor(T)))
        width = max(model.num_classes, 4 * embedding.embedding_dim)
        if embedding.cnn is None:
            return frames * width
        bins = self.config["data"]["num_feats"]
        return max(frames * width, T // embedding.cnn.time_stride1 * embedding.embedding_dim * bins)

    def _features(self, feats: Tensor) -> Tensor:
        """Features where the model is and of its type."""
        return feats.to(self.model.final_linear.weight)

    def _widened(self, feats: Tensor) -> Tensor:
        """Features (B, T, F), padded to a multiple of WIDTH frames but no more than max_len."""
        T = feats.shape[1]
        return F.pad(feats, (0, 0, 0, max(0, min(-T % WIDTH, self.model.max_len - T))))

    def _validate_epoch(self, dataloader: DataLoader) -> tuple[dict[str, float], list[dict]]:
        """Error rates of greedy texts of all batches, and these texts."""
        self.model.eval()
        longest = self.text_max_len or dataloader.dataset.text_max_len
        sums, _ = self._sum_over(
            dataloader, lambda batch: {"results": self._recognised(batch, RECOGNITION, longest)}
        )
        results = sums["results"]
        return self._calculate_asr_metrics(
            [result["target"] for result in results], [result["generated"] for result in results]
        ), results

    def _metrics(self, sums: dict[str, float], dataloader: DataLoader) -> dict[str, float]:
        """Losses per target, of a pass over training data."""
        ce, ctc = sums["nats"] / sums["targets"], sums["ctc_nats"] / sums["targets"]
        chars = dataloader.dataset.get_avg_chars_per_token()
        return {
            "ce_loss": ce, "ctc_loss": ctc, "joint_loss": ce + self.ctc_weight * ctc,
            "perplexity_token": perplexity(ce), "perplexity_char": perplexity(ce / chars),
        }

    def _calculate_asr_metrics(
        self, references: str | list[str], hypotheses: str | list[str]
    ) -> dict[str, float]:
        """`word_dist`, `wer` and `cer` of texts, or of one."""
        lists = [[texts] if isinstance(texts, str) else texts for texts in (references, hypotheses)]
        return error_rates(*lists)

    def _maps(self, batch: Batch) -> dict[str, Tensor]:
        """The attention maps of a batch's first utterance, computed by themselves."""
        with decoration("attention maps"), torch.inference_mode():
            feats, shifted, _, feat_lengths, lengths = (item[:1] for item in batch)
            T = feat_lengths.clamp(max=SHOWN)
            tokens = shifted[:, : int(lengths)].to(self.device)
            feats = self._features(feats[:, : int(T)])
            return self.model(feats, tokens, T.to(self.device), lengths.to(self.device))[1]
        return {}

    def _show_epoch(
        self, epoch: int, train_maps: dict[str, Tensor], shown: list[dict], val_loader: DataLoader
    ) -> None:
        """Pictures of the first self-attention and the last cross-attention, and val's texts."""
        own = [name for name in train_maps if "dec_self" in name][:1]
        cross = [name for name in train_maps if "dec_cross" in name][-1:]
        for names, attn_type in ((own, "decoder_self"), (cross, "decoder_cross")):
            for name in names:
                with decoration(f"picture {attn_type} of epoch {epoch + 1}"):
                    self._save_attention_plot(train_maps[name][0], epoch, attn_type)
        with decoration(f"texts of epoch {epoch + 1}"):
            self._save_generated_text(shown, f"val_epoch_{epoch}")

    # ---- Recognition

    def recognize(
        self, dataloader: DataLoader, recognition_config: dict | None = None,
        config_name: str | None = None, max_length: int | None = None,
    ) -> list[dict]:
        """A dict for each utterance in the loader's order: `generated`, `score`.

        First comes `target`, if there are transcripts. Without a configuration all batches are
        decoded greedily; its keys are those of RECOGNITION. `max_length` counts SOS; without it, it
        is that of the longest transcript of `train`. `ctc_weight` is a share: over 0, beams are
        ranked by CTC too. ValueError if no length is known.
        """
        settings = {**RECOGNITION, **(recognition_config or {})}
        longest = max_length or self.text_max_len
        if not longest:
            raise UserError("max_length is not known before train; give it")
        self._prepare_language_model(settings, longest)
        self.model.eval()
        total = min(settings["num_batches"] or len(dataloader), len(dataloader))
        results = []
        with self._bar(total, config_name or "recognition") as bar:
            for _, batch in zip(range(total), dataloader, strict=False):
                results += self._recognised(batch, settings, longest)
                bar.update()
        return results

    def _prepare_language_model(self, settings: dict, longest: int) -> None:
        """Have the model of fusion ready. UserError if it takes fewer tokens than are asked for."""
        text = settings["lm_model"]
        if text is None:
            return
        text.to(self.device).eval()
        if text.max_len < longest:
            what = f"the language model takes {text.max_len} tokens, and texts have up to {longest}"
            raise UserError(f"{what}; train one with longer texts, or give max_length")

    @torch.inference_mode()
    def _recognised(self, batch: Batch, settings: dict, max_length: int) -> list[dict]:
        """The best text of each utterance of a batch."""
        feats, _, golden, feat_lengths, _ = batch
        sequences, scores = self._search(
            self._features(feats), feat_lengths.to(self.device), settings, max_length
        )
        texts = [{"target": text} for text in self._texts(golden)] if golden is not None else []
        found = [
            {"generated": text, "score": score}
            for text, score in zip(self._texts(sequences), scores.tolist(), strict=True)
        ]
        return [a | b for a, b in zip(texts or [{}] * len(found), found, strict=True)]

    def _search(
        self, feats: Tensor, lengths: Tensor, settings: dict, max_length: int
    ) -> tuple[Tensor, Tensor]:
        """Sequences (B, L) and scores (B,) in the way that the settings ask for."""
        x_enc, pad_mask, _, ctc = self.model.encode(feats, lengths, need_weights=False)
        score_fn = SpeechScorer(self.model, x_enc, pad_mask, max_length)
        if settings["lm_model"] is not None:
            score_fn = FusedScorer(score_fn, settings["lm_model"], settings["lm_weight"] or 0.0)
        rescore = None
        if settings["ctc_weight"] > 0:
            blank, eos = self.tokenizer.pad_id, self.tokenizer.eos_id
            rescore = CTCPrefixScorer(
                ctc["log_probs"], ctc["lengths"], settings["ctc_weight"], blank, eos
            )
        generator = SequenceGenerator(
            score_fn, self.tokenizer, max_length, self.device, rescore=rescore
        )
        prompts = torch.full((len(feats), 1), self.tokenizer.sos_id, device=feats.device)
        width, penalties = settings["beam_width"], (
            settings["temperature"], settings["repeat_penalty"],
        )  # fmt: skip
        if width > 1 or rescore:
            beams, scores = generator.generate_beam(prompts, width, *penalties)
            return beams[:, 0], scores[:, 0]
        return generator.generate_greedy(prompts, *penalties)

    def _texts(self, sequences: Tensor) -> list[str]:
        """Ids (B, L) -> texts without special tokens, each up to its EOS."""
        cut = SequenceGenerator.post_process_sequence(sequences, self.tokenizer)
        return [self.tokenizer.decode(row.tolist(), skip_special_tokens=True) for row in cut]

    # ---- Test data

    def evaluate(self, dataloader: DataLoader, max_length: int | None = None) -> dict:
        """A pandas.DataFrame (`id`, `transcription`) for each way to decode.

        The ways are those of `_get_evaluation_recognition_configs`; one that fails is told and left
        out. The texts are written to `text_test_{name}_results.json` too.
        """
        import pandas as pd

        frames = {}
        for name, settings in self._get_evaluation_recognition_configs().items():
            with decoration(f"texts in the way {name}"):
                results = self.recognize(dataloader, settings, name, max_length)
                texts = [result["generated"] for result in results]
                frames[name] = pd.DataFrame({"id": range(len(texts)), "transcription": texts})
                self._save_generated_text(results, f"test_{name}_results")
        return frames

    def _get_evaluation_recognition_configs(
        self, lm_model: nn.Module | None = None, lm_weight: float = 0.0
    ) -> dict[str, dict]:
        """How test data is decoded: the three ways of the course."""
        base = {**RECOGNITION, "lm_model": lm_model, "lm_weight": lm_weight}
        return {
            "greedy": base, "beam_10": {**base, "beam_width": 10},
            "beam_20": {**base, "beam_width": 20},
        }


