"""Training a language model.

Epochs, perplexities, generated text (handout, sections 2.3 and 5.4.1).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..decoding import SequenceGenerator
from .base_trainer import BaseTrainer

# What generation does unless told otherwise, and what is done differently after each epoch of
# training.
GENERATION = {
    "num_samples": 10, "prompt_length": 10, "seed": 11785, "temperature": 1.0, "beam_width": 1,
    "repeat_penalty": 1.0, "top_k": 0, "top_p": 0.0,
}  # fmt: skip
VALIDATION_PROMPT = 20
ROWS = 128  # sequences generated side by side, which bounds the memory of their keys and values


class LMTrainer(BaseTrainer):
    """Trains on batches (inputs, targets, lengths) of an LMDataset.

    Its metrics are in nats and perplexities.
    """

    def __init__(self, model, tokenizer, config, run_name, config_file, device=None):
        super().__init__(model, tokenizer, config, run_name, config_file, device)
        # YOUR CODE HERE
        # Hint: self.criterion: cross-entropy that passes over padding, with the
        # label_smoothing of config['loss'].
        raise NotImplementedError("item trainer: LMTrainer.__init__")

    # ---- Epochs

    def train(self, train_loader: DataLoader, val_loader: DataLoader, epochs: int) -> None:
        """Train `epochs` more epochs from `current_epoch`.

        After each: validation, generated text, attention maps, and the checkpoints, last and (by
        `ce_loss_char` of validation) best. Raises ValueError without optimizer or scheduler.
        """
        # YOUR CODE HERE
        # Hint: per epoch: train, validate, step a ReduceLROnPlateau, self._log_metrics,
        # self._plot_first, self._generate_and_save, save_checkpoint, best by ce_loss_char.
        raise NotImplementedError("item trainer: LMTrainer.train")

    def _train_epoch(self, dataloader: DataLoader) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Train on each batch of an epoch.

        Metrics of the whole epoch, maps of its last batch.
        """
        # YOUR CODE HERE
        # Hint: forward, criterion, backward, and each gradient_accumulation_steps batches
        # an update; self._metrics({'nats', 'targets', 'sequences'}, dataloader) makes the
        # metrics, self._maps the maps.
        raise NotImplementedError("item trainer: LMTrainer._train_epoch")

    @torch.inference_mode()
    def _validate_epoch(self, dataloader: DataLoader) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Metrics of all batches, in float32 and without label smoothing.

        Maps of the last batch.
        """
        # YOUR CODE HERE
        # Hint: as _train_epoch without updates; in eval mode.
        raise NotImplementedError("item trainer: LMTrainer._validate_epoch")

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
        """The attention maps (1, T, T) of each layer for the first sequence of a batch."""
        tokens = shifted[:1, : int(lengths[0])]
        return self.model(tokens.to(self.device), lengths[:1].to(self.device))[1]

    def _plot_first(self, maps: dict[str, Tensor], epoch: int, attn_type: str) -> None:
        """Draw the map of the first layer, if the model has one."""
        for weights in list(maps.values())[:1]:
            self._save_attention_plot(weights[0], epoch, attn_type)

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
        # YOUR CODE HERE
        # Hint: prompts of dataset.sample_prompts, self.continue_prompts, and
        # tokenizer.decode.
        raise NotImplementedError("item trainer: LMTrainer.generate")

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
                    self.model.score, self.tokenizer, self.model.max_len, self.device
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
