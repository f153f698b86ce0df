"""Simple layers, loaders and trainers in the place of a student's, for the second assignment."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """For SelfAttentionLayer: doubles, and adds how many masks it was given."""

    def __init__(self, d_model: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        self.made_with = [d_model, num_heads, dropout]

    def forward(self, x: Tensor, key_padding_mask=None, attn_mask=None) -> tuple[Tensor, Tensor]:
        for share, mask in ((0.25, key_padding_mask), (0.5, attn_mask)):
            if mask is not None:
                x = x + share * mask.double().sum()
        return 2 * x, x.sum(-1)


class FeedForward(nn.Module):
    """For FeedForwardLayer: squares."""

    def __init__(self, d_model: int, d_ff: int, dropout: float = 0.0):
        super().__init__()
        self.made_with = [d_model, d_ff, dropout]

    def forward(self, x: Tensor) -> Tensor:
        return x**2


class Layer(nn.Module):
    """For SelfAttentionDecoderLayer: adds the mean of what a position may see, times a gain."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: float = 0.1):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor, key_padding_mask=None, attn_mask=None) -> tuple[Tensor, Tensor]:
        B, T = x.shape[:2]
        seen = x.new_ones(B, T, T)
        if attn_mask is not None:
            seen = seen * ~attn_mask
        if key_padding_mask is not None:
            seen = seen * ~key_padding_mask[:, None]
        weights = seen / seen.sum(-1, keepdim=True)
        return x + self.gain * (weights @ x), weights

    def causal(self, x: Tensor, cache=None) -> Tensor:
        """What `forward` gives with the causal mask; the reference calls it to score."""
        counts = torch.arange(1, x.shape[1] + 1)[:, None]
        return x + self.gain * x.cumsum(1) / counts


class Positions(nn.Module):
    """For PositionalEncoding: adds a tenth of the position."""

    def __init__(self, d_model: int, max_len: int):
        super().__init__()
        self.max_len = max_len

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        return x + 0.1 * torch.arange(start, start + x.shape[1])[:, None]


class OneToken(nn.Module):
    """A model with the interface of DecoderOnlyTransformer that sees one token.

    `trained` says whether it was in training mode when it was last called for a gradient.
    """

    max_len, num_layers = 64, 1
    trained = False

    def __init__(self, table: np.ndarray, bias: np.ndarray):
        super().__init__()
        self.table = nn.Parameter(torch.tensor(table))  # (V, V)
        self.bias = nn.Parameter(torch.tensor(bias))  # (V,)
        self.num_classes = len(bias)
        # The reference reckons with what its layers would need.
        heads = SimpleNamespace(num_heads=1)
        self.dec_layers = [SimpleNamespace(self_attn=SimpleNamespace(mha=heads))]

    def forward(self, padded_targets: Tensor, target_lengths=None, need_weights: bool = True):
        """Logits (B, T, V) and a map of nothing."""
        if torch.is_grad_enabled():
            self.trained = self.training
        B, T = padded_targets.shape
        return self.table[padded_targets] + self.bias, {"layer1_dec_self": torch.zeros(B, T, T)}

    def score(self, batch_prompts: Tensor) -> Tensor:
        """Logits (B, V) after the last tokens."""
        return (self.table[batch_prompts[:, -1]] + self.bias).detach()


class Loader(list):
    """Batches in the place of a DataLoader, with the dataset's numbers."""

    def __init__(self, batches: list, prompts: dict | None = None):
        super().__init__([torch.tensor(rows) for rows in batch] for batch in batches)
        self.dataset = self
        self.prompts = prompts

    def get_avg_chars_per_token(self) -> float:
        return 2.0

    def sample_prompts(self, num_samples: int, prompt_length: int, seed=None):
        """The prompts of the case, if they are asked for as the case says."""
        asked = [num_samples, prompt_length, seed]
        if asked != self.prompts["asked"]:
            raise ValueError(f"sample_prompts got {asked}, expected {self.prompts['asked']}")
        return torch.tensor(self.prompts["ids"]), [torch.tensor(x) for x in self.prompts["texts"]]


class Continue:
    """In the place of continue_prompts: the sequences and scores of the case."""

    def __init__(self, continued: dict):
        self.continued = continued

    def __call__(self, prompts: Tensor, settings: dict) -> tuple[list[Tensor], list[float]]:
        return [torch.tensor(x) for x in self.continued["ids"]], self.continued["scores"]


class Schedule:
    """A schedule that counts its steps."""

    steps = 0

    def step(self, *_) -> None:
        self.steps += 1


def start(self, model, tokenizer, config, run_name, config_file, device=None) -> None:
    """In the place of BaseTrainer.__init__: no files."""
    self.model, self.tokenizer, self.config, self.device = model, tokenizer, config, "cpu"
    self.optimizer = self.scheduler = self.progress = self.stop_requested = None
    self.precision = torch.float32
    self.scaler = torch.amp.GradScaler("cpu", enabled=False)
    self.current_epoch, self.best_metric, self.training_history = 0, float("inf"), []
    self.best_model_path, self.last_model_path = Name("best-metric"), Name("last-epoch")
    self.use_wandb = self.in_training = False
    self.unsaved, self.gradient_clip = {}, 0.0
    self.logged, self.saved, self.validated = [], {"best": [], "last": []}, 0


class Name:
    """The path of a checkpoint, of which only the name counts."""

    def __init__(self, which: str):
        self.name = f"checkpoint-{which}-model.pth"

    def __str__(self) -> str:
        return self.name


def log(self, metrics: dict, step: int) -> None:
    """In the place of _log_metrics."""
    self.logged.append(step)


def save(self, filename) -> None:
    """In the place of save_checkpoint."""
    which = "best" if "best" in str(filename) else "last"
    self.saved[which].append(self.validated)


def nothing(self, *_, **__) -> None:
    """In the place of what writes pictures and texts."""


BASE = {
    "__init__": start, "_log_metrics": log, "save_checkpoint": save,
    "_save_attention_plot": nothing, "_save_generated_text": nothing,
    # Of the reference's frame, which logs in two steps.
    "_record_metrics": log, "_show_metrics": nothing, "_save_if_due": nothing,
}
