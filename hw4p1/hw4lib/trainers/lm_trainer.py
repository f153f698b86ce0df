"""Training a language model.

Epochs, perplexities, generated text (handout, sections 2.3 and 5.4.1).
"""

import math
import sys
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..decoding import CachedScorer, SequenceGenerator
from ..errors import Stopped, UserError
from .base_trainer import BaseTrainer, random_state, set_random_state

# What generation does unless told otherwise, and what is done differently after each epoch of
# training.
GENERATION = {
    "num_samples": 10, "prompt_length": 10, "seed": 11785, "temperature": 1.0, "beam_width": 1,
    "repeat_penalty": 1.0, "top_k": 0, "top_p": 0.0,
}  # fmt: skip
VALIDATION_PROMPT = 20
WIDTH = 8  # batches are padded to a multiple of so many positions
ROWS = 128  # sequences generated side by side, which bounds the memory of their keys and values


class LMTrainer(BaseTrainer):
    """Trains on batches (inputs, targets, lengths) of an LMDataset.

    Its metrics are in nats and perplexities.
    """

    def __init__(self, model, tokenizer, config, run_name, config_file, device=None):
        super().__init__(model, tokenizer, config, run_name, config_file, device)
        default = config["training"].get("label_smoothing", 0.0)
        smoothing = config.get("loss", {}).get("label_smoothing", default)
        self.criterion = nn.CrossEntropyLoss(
            ignore_index=tokenizer.pad_id, label_smoothing=smoothing
        )

    # ---- Epochs

    def train(self, train_loader: DataLoader, val_loader: DataLoader, epochs: int) -> None:
        """Train `epochs` more epochs from `current_epoch`.

        One that was broken off is the first of them. After each: validation, generated text,
        attention maps, and the checkpoints, last and (by `ce_loss_char`) best. Raises ValueError
        without optimizer or scheduler, or when the loss is no number any more; Stopped.
        """
        if self.optimizer is None or self.scheduler is None:
            raise UserError("the trainer has no optimizer or no scheduler; set both before train")
        for left in reversed(range(epochs)):
            epoch = self.current_epoch
            train_metrics, train_maps = self._train_epoch(train_loader)
            val_metrics, val_maps = self._validate_epoch(val_loader)
            if isinstance(self.scheduler, ReduceLROnPlateau):
                self.scheduler.step(val_metrics["ce_loss_char"])
            self._log_metrics({"train": train_metrics, "val": val_metrics}, epoch)
            self._plot_first(train_maps, epoch, "train_self")
            self._plot_first(val_maps, epoch, "val_self")
            self._generate_and_save(
                val_loader, {"prompt_length": VALIDATION_PROMPT}, f"val_epoch_{epoch}"
            )
            self.current_epoch, self.progress = epoch + 1, None
            if val_metrics["ce_loss_char"] < self.best_metric:
                self.best_metric = val_metrics["ce_loss_char"]
                self.save_checkpoint(self.best_model_path.name)
            self.save_checkpoint(self.last_model_path.name)
            if self.stop_requested and left:
                raise Stopped

    def _train_epoch(self, dataloader: DataLoader) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Train on each batch that is left of an epoch.

        Metrics of the whole epoch, maps of its last batch.
        """
        self.model.train()
        batches = self._remaining(dataloader)
        progress = self.progress
        accumulate = self.config["training"].get("gradient_accumulation_steps", 1)
        self.optimizer.zero_grad(set_to_none=True)
        with self._bar(len(dataloader), f"epoch {self.current_epoch}", progress["batches"]) as bar:
            for shifted, golden, lengths in batches:
                group_start = progress["batches"] // accumulate * accumulate
                # The last one may be smaller.
                group_size = min(accumulate, len(dataloader) - group_start)
                nats = self._backward(shifted, golden, lengths, group_size)
                count = int(lengths.sum())
                progress["batches"] += 1
                progress["nats"] += nats * count
                progress["targets"] += count
                progress["sequences"] += len(lengths)
                bar.set_postfix_str(f"loss {nats:.3f}", refresh=False)
                bar.update()
                if progress["batches"] == group_start + group_size:
                    self._update()
                    # Else all is saved soon, when the epoch is complete.
                    if progress["batches"] < len(dataloader):
                        self._save_if_due()
        self.model.eval()
        return self._metrics(progress, dataloader), self._maps(shifted, lengths)

    def _remaining(self, dataloader: DataLoader) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The batches of the epoch that `progress` is in, from where it is.

        The order is drawn from torch's global generator when the loader is started. So an epoch
        begins again from the generator's state then, passes over the batches that were done, and
        goes on from the state after them.
        """
        if self.progress is None:
            self.progress = {
                "batches": 0, "nats": 0.0, "targets": 0, "sequences": 0,
                "random_state": random_state(),
            }
            return iter(dataloader)
        if self.progress["batches"] >= len(dataloader):
            raise UserError(
                f"the checkpoint has {self.progress['batches']} batches of an epoch that has "
                f"{len(dataloader)}; train anew"
            )
        now = random_state()
        set_random_state(self.progress["random_state"])
        batches = iter(dataloader)
        for _ in range(self.progress["batches"]):
            next(batches)
        set_random_state(now)
        return batches

    def _backward(self, shifted: Tensor, golden: Tensor, lengths: Tensor, group_size: int) -> float:
        """Add the gradient of a batch's mean loss / `group_size`; returns the mean loss."""
        shifted = self._widened(shifted).to(self.device)  # (B, T)
        golden = self._widened(golden).to(self.device)  # (B, T)
        lengths = lengths.to(self.device)  # (B,)
        device_type = torch.device(self.device).type
        with torch.autocast(device_type, self.precision, enabled=self.precision != torch.float32):
            logits, _ = self.model(shifted, lengths, need_weights=False)  # (B, T, V)
        loss = self.criterion(logits.float().flatten(0, 1), golden.flatten())
        if not math.isfinite(loss.item()):
            raise UserError(
                f"the training loss in epoch {self.current_epoch} is {loss.item()}; lower "
                "optimizer.lr"
            )
        self.scaler.scale(loss / group_size).backward()
        return loss.item()

    def _widened(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T), padded to a multiple of WIDTH positions but no more than max_len.

        A library that makes a kernel for each shape of a product, and one that keeps freed memory
        for the next of the same size, both go wrong when each batch has a length of its own:
        slower, and 20 MB more for each new one.
        """
        T = tokens.shape[1]
        return F.pad(
            tokens, (0, max(0, min(-T % WIDTH, self.model.max_len - T))),
            value=self.tokenizer.pad_id,
        )

    def _update(self) -> None:
        """One step of the optimizer and of the schedule.

        Not of the schedule if an overflow in float16 made the optimizer skip its own.
        """
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if not isinstance(self.scheduler, ReduceLROnPlateau) and self.scaler.get_scale() >= scale:
            self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)

    @torch.inference_mode()
    def _validate_epoch(self, dataloader: DataLoader) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Metrics of all batches, in float32 and without label smoothing.

        Maps of the last batch.
        """
        self.model.eval()
        totals = {"nats": 0.0, "targets": 0, "sequences": 0}
        with self._bar(len(dataloader), "evaluation") as bar:
            for shifted, golden, lengths in dataloader:
                logits, _ = self.model(
                    shifted.to(self.device), lengths.to(self.device), need_weights=False
                )
                losses = F.cross_entropy(
                    logits.flatten(0, 1), golden.to(self.device).flatten(),
                    ignore_index=self.tokenizer.pad_id,
                    reduction="sum",
                )
                totals["nats"] += losses.item()
                totals["targets"] += int(lengths.sum())
                totals["sequences"] += len(lengths)
                bar.update()
        return self._metrics(totals, dataloader), self._maps(shifted, lengths)

    def _metrics(self, totals: dict, dataloader: DataLoader) -> dict[str, float]:
        """The course's losses and perplexities of summed `nats`, `targets` (with EOS), `sequences`.

        `ce_loss_char` divides by characters per token without EOS, so it takes EOS for a token of
        average length. `perplexity_char_exact` is exp(all nats / all characters), where EOS has to
        be predicted and is none.
        """
        chars_per_token = dataloader.dataset.get_avg_chars_per_token()
        per_token = totals["nats"] / totals["targets"]
        characters = (totals["targets"] - totals["sequences"]) * chars_per_token
        return {
            "ce_loss_token": per_token,
            "ce_loss_char": per_token / chars_per_token,
            "perplexity_token": perplexity(per_token),
            "perplexity_char": perplexity(per_token / chars_per_token),
            "perplexity_char_exact": perplexity(totals["nats"] / characters),
        }

    @torch.inference_mode()
    def _maps(self, shifted: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """The attention maps (1, T, T) of each layer for the first sequence of a batch.

        They are computed by themselves: asking for them in training would cost it time and memory
        for one picture.
        """
        tokens = shifted[:1, : int(lengths[0])]
        return self.model(tokens.to(self.device), lengths[:1].to(self.device))[1]

    def _plot_first(self, maps: dict[str, Tensor], epoch: int, attn_type: str) -> None:
        """Draw the map of the first layer, if the model has one."""
        for weights in list(maps.values())[:1]:
            self._save_attention_plot(weights[0], epoch, attn_type)

    def _bar(self, total: int, title: str, done: int = 0) -> tqdm:
        """A progress bar; where nobody watches, a line a minute."""
        watched = {} if sys.stderr.isatty() else {"mininterval": 60}
        return tqdm(total=total, initial=done, desc=title, unit=" batches", leave=False, **watched)

    # ---- Test data and text

    def evaluate(self, test_loader: DataLoader) -> tuple[dict[str, float], dict[str, list[dict]]]:
        """Metrics on test data, and generated texts.

        The ways to generate are those of `_get_evaluation_generation_configs`.

        A way that fails, for example as no transcript is long enough, is printed and left out.
        """
        metrics, maps = self._validate_epoch(test_loader)
        epoch = self.current_epoch
        self._log_metrics({"test": metrics}, epoch)
        self._plot_first(maps, epoch, "test_self")
        results = {}
        for name, settings in self._get_evaluation_generation_configs().items():
            texts = self._generate_and_save(test_loader, settings, f"test_epoch_{epoch}_{name}")
            if texts is not None:
                results[name] = texts
        return metrics, results

    def _get_evaluation_generation_configs(self) -> dict[str, dict]:
        """How text is generated for the test: the three ways of the course."""
        base = {**GENERATION, "num_samples": 50}
        return {
            "greedy": base,
            "beam": {**base, "beam_width": 10, "repeat_penalty": 1.2},
            "sample": {**base, "top_k": 10, "top_p": 0.95},
        }

    def _generate_and_save(
        self, dataloader: DataLoader, settings: dict, suffix: str
    ) -> list[dict] | None:
        """Generate and write texts.

        If that fails, say so and return None, as no training should end for it.
        """
        try:
            texts = self.generate(dataloader, settings)
        except (RuntimeError, ValueError) as error:
            print(f"warning: no generated text {suffix}: {error}")
            return None
        self._save_generated_text(texts, suffix)
        return texts

    def generate(self, dataloader: DataLoader, generation_config: dict | None = None) -> list[dict]:
        """Continue the beginnings of random transcripts, up to EOS or the model's max_len.

        Returns dicts of `prompt`, `original` and `generated`, what follows the prompt in the
        transcript and from the model, with special tokens, and `score`, the log-probability. Draws
        if top_k or top_p is over 0, else searches with beams if beam_width is over 1, else takes
        the best. Without a configuration: 10 beginnings of 20 tokens.
        """
        if generation_config is None:
            generation_config = {"prompt_length": VALIDATION_PROMPT}
        settings = {**GENERATION, **generation_config}
        length = settings["prompt_length"]
        prompts, originals = dataloader.dataset.sample_prompts(
            settings["num_samples"], length, settings["seed"]
        )
        sequences, scores = self.continue_prompts(prompts, settings)
        decode = self.tokenizer.decode
        return [
            {"prompt": decode(prompt), "original": decode(original[length:].tolist()),
             "generated": decode(sequence[length + 1 :].tolist()), "score": score}
            for prompt, original, sequence, score in zip(
                prompts.tolist(), originals, sequences, scores, strict=True
            )
        ]  # fmt: skip

    def continue_prompts(self, prompts: Tensor, settings: dict) -> tuple[list[Tensor], list[float]]:
        """Prompts (B, L) -> sequences, each cut after its EOS, and their log-probabilities.

        What is drawn depends on `seed` alone; torch's global generator is left as it was.
        """
        self.model.eval()
        sequences, scores = [], []
        devices = [torch.device(self.device)] if torch.device(self.device).type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(settings["seed"])
            for part in prompts.to(self.device).split(max(1, ROWS // settings["beam_width"])):
                generator = SequenceGenerator(
                    CachedScorer(self.model), self.tokenizer, self.model.max_len, self.device
                )
                rows, log_probs = self._run(generator, part, settings)
                sequences += generator.post_process_sequence(rows, self.tokenizer)
                scores += log_probs.tolist()
        return sequences, scores

    def _run(
        self, generator: SequenceGenerator, prompts: Tensor, settings: dict
    ) -> tuple[Tensor, Tensor]:
        """Sequences (B, L') and scores (B,) in the way that the settings ask for."""
        temperature, penalty = settings["temperature"], settings["repeat_penalty"]
        if settings["top_k"] > 0 or settings["top_p"] > 0:
            return generator.generate_sample(
                prompts, temperature, settings["top_k"], settings["top_p"] or 1.0
            )
        if settings["beam_width"] > 1:
            beams, scores = generator.generate_beam(
                prompts, settings["beam_width"], temperature, penalty
            )
            return beams[:, 0], scores[:, 0]
        return generator.generate_greedy(prompts, temperature, penalty)


def perplexity(nats: float) -> float:
    """exp(nats), infinite where that is too large for a number."""
    return math.exp(nats) if nats < 700 else math.inf
