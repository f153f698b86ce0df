"""Training a language model.

Epochs, perplexities, generated text (handout, sections 2.3 and 5.4.1).
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ..decoding import SequenceGenerator, StoppableScorer
from ..model import DecoderOnlyTransformer
from ..model.sublayers import LONG
from .base_trainer import BaseTrainer, Batch
from .measures import perplexity
from .parts import FLOATS, row_groups
from .run_folder import decoration

# What generation does unless told otherwise, and what is done differently after each epoch of
# training.
GENERATION = {
    "num_samples": 10, "prompt_length": 10, "seed": 11785, "temperature": 1.0, "beam_width": 1,
    "repeat_penalty": 1.0, "top_k": 0, "top_p": 0.0, "max_new_tokens": None,  # as many as fit
}  # fmt: skip
VALIDATION_PROMPT = 20
WIDTH = 8  # batches are padded to a multiple of so many positions
ROWS = 128  # sequences generated side by side
SHOWN = 512  # positions of an attention map, whose picture has about as many pixels


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

    def _example(self) -> list[Tensor]:
        """A full batch, on the meta device."""
        if not isinstance(self.model, DecoderOnlyTransformer):
            raise NotImplementedError(f"no summary is known for a {type(self.model).__name__}")
        B, T = self.config.get("data", {}).get("batch_size", 8), self.model.max_len
        tokens = torch.zeros(B, T, dtype=torch.long, device="meta")
        return [tokens, torch.full((B,), T, dtype=torch.long, device="meta")]

    # ---- Epochs

    def _losses(self, batch: Batch) -> Iterator[tuple[Tensor, dict[str, float]]]:
        """The mean loss of a batch's targets; summed are nats, targets and sequences."""
        all_targets = int(batch[2].sum())
        for shifted, golden, lengths in self._parts(batch):
            shifted = self._widened(shifted).to(self.device)  # (B, T)
            golden = self._widened(golden).to(self.device)  # (B, T)
            with self._reduced_precision():
                logits, _ = self.model(shifted, lengths.to(self.device), need_weights=False)
            mean = self.criterion(logits.float().flatten(0, 1), golden.flatten())  # (B, T, V)
            targets = int(lengths.sum())
            yield mean * (targets / all_targets), {
                "nats": mean.item() * targets, "targets": targets, "sequences": len(lengths),
            }

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        """A batch, or groups of its rows, if all would take too much memory at once."""
        shifted, golden, lengths = batch
        if len(lengths) * self._floats(int(lengths.max())) <= FLOATS:
            yield batch
            return
        for rows, T in row_groups(lengths, self._floats, FLOATS):
            yield shifted[rows, :T], golden[rows, :T], lengths[rows]

    def _floats(self, T: int) -> int:
        """How many numbers the largest tensor has for a sequence of T tokens.

        It is that of a layer's attention, or the logits.
        """
        heads = self.model.dec_layers[0].self_attn.mha.num_heads
        return T * max(heads * min(T, LONG), self.model.num_classes)

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

    def _validate_epoch(self, dataloader: DataLoader) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Metrics of all batches, in float32 and without label smoothing.

        Maps of the last batch.
        """
        self.model.eval()
        sums, batch = self._sum_over(dataloader, self._measure)
        return self._metrics(sums, dataloader), self._maps(batch)

    @torch.inference_mode()
    def _measure(self, batch: Batch) -> dict[str, float]:
        """Nats, targets and sequences of a batch."""
        nats = 0.0
        for shifted, golden, lengths in self._parts(batch):
            logits, _ = self.model(
                shifted.to(self.device), lengths.to(self.device), need_weights=False
            )
            nats += F.cross_entropy(
                logits.flatten(0, 1), golden.to(self.device).flatten(),
                ignore_index=self.tokenizer.pad_id, reduction="sum",
            ).item()
        lengths = batch[2]
        return {"nats": nats, "targets": int(lengths.sum()), "sequences": len(lengths)}

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

    def _maps(self, batch: Batch) -> dict[str, Tensor]:
        """The attention maps (1, T, T) of each layer for the first SHOWN tokens of a batch.

        They are computed by themselves: asking for them in training would cost it time and memory
        for one picture.
        """
        shifted, _, lengths = batch
        with decoration("attention maps"), torch.inference_mode():
            first = lengths[:1].clamp(max=SHOWN)
            tokens = shifted[:1, : int(first)]
            return self.model(tokens.to(self.device), first.to(self.device))[1]
        return {}

    def _show_epoch(
        self, epoch: int, train_maps: dict[str, Tensor], shown: dict[str, Tensor],
        val_loader: DataLoader,
    ) -> None:
        """A picture of the first layer's attention on train and on val, and generated text."""
        self._plot_first(train_maps, epoch, "train_self")
        self._plot_first(shown, epoch, "val_self")
        with decoration(f"generated text of epoch {epoch + 1}"):
            settings = {"prompt_length": VALIDATION_PROMPT}
            self._generate_and_save(val_loader, settings, f"val_epoch_{epoch}")

    def _plot_first(self, maps: dict[str, Tensor], epoch: int, attn_type: str) -> None:
        """Draw the map of the first layer, if the model has one."""
        for weights in list(maps.values())[:1]:
            with decoration(f"picture {attn_type} of epoch {self.current_epoch}"):
                self._save_attention_plot(weights[0], epoch, attn_type)

    # ---- Test data and text

    def evaluate(self, test_loader: DataLoader) -> tuple[dict[str, float], dict[str, list[dict]]]:
        """Metrics on test data, and generated texts.

        The ways to generate are those of `_get_evaluation_generation_configs`.
        """
        metrics, maps = self._validate_epoch(test_loader)
        self._record_metrics({"test": metrics}, self.current_epoch)
        self.show_evaluation(metrics, maps)
        return metrics, self.generate_all(test_loader)

    def show_evaluation(self, metrics: dict[str, float], maps: dict[str, Tensor]) -> None:
        """Print metrics on test data, and draw the first layer's attention."""
        with decoration("numbers"):
            self._show_metrics({"test": metrics}, self.current_epoch - 1)
        self._plot_first(maps, self.current_epoch, "test_self")

    def generate_all(self, test_loader: DataLoader) -> dict[str, list[dict]]:
        """Generate and write texts in each way of `_get_evaluation_generation_configs`.

        A way that fails, for example as no transcript is long enough, is printed and left out.
        """
        results = {}
        for name, settings in self._get_evaluation_generation_configs().items():
            suffix = f"test_epoch_{self.current_epoch}_{name}"
            texts = self._generate_and_save(test_loader, settings, suffix)
            if texts is not None:
                results[name] = texts
        return results

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

        If no text can be generated, say so and return None.
        """
        try:
            texts = self.generate(dataloader, settings)
        except (RuntimeError, ValueError) as error:
            print(f"warning: no generated text for text_{suffix}.json: {error}")
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
        length = self.model.max_len
        if settings["max_new_tokens"]:
            length = min(length, prompts.shape[1] + settings["max_new_tokens"])
        with torch.random.fork_rng(devices):
            torch.manual_seed(settings["seed"])
            for part in prompts.to(self.device).split(self._side_by_side(settings["beam_width"])):
                generator = SequenceGenerator(
                    StoppableScorer(self.model, self._stop_if_asked), self.tokenizer, length,
                    self.device,
                )
                rows, log_probs = self._run(generator, part, settings)
                sequences += generator.post_process_sequence(rows, self.tokenizer)
                scores += log_probs.tolist()
        return sequences, scores

    def _side_by_side(self, beam_width: int) -> int:
        """How many prompts are continued at once, which bounds the memory of keys and values."""
        model = self.model
        width = model.final_linear.in_features
        floats = 2 * model.num_layers * model.max_len * width  # of a sequence
        return max(1, min(ROWS, FLOATS // floats) // beam_width)

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
