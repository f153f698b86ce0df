"""Training in stages: some layers at first, on a part of the data, then all."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from ..errors import UserError
from .asr_trainer import ASRTrainer

COPIED = ("partition", "text_max_len", "feat_max_len", "get_avg_chars_per_token")


class ProgressiveTrainer(ASRTrainer):
    """An ASRTrainer whose `progressive_train` goes through stages before `train`.

    A stage is a dict: `name`, `epochs`; `encoder_active_layers` and `decoder_active_layers`, the
    indices of its layers; `encoder_freeze` and `decoder_freeze`, whether each of these is kept as
    it is; `dropout`, `label_smoothing`, and `data_subset`, the share of the training data.
    Checkpoints have all layers in every stage.
    """

    def __init__(self, model, tokenizer, config, run_name, config_file, device=None):
        super().__init__(model, tokenizer, config, run_name, config_file, device)
        self.current_stage = 0
        self.all_encoder_layers = list(model.enc_layers)
        self.all_decoder_layers = list(model.dec_layers)
        self.dropouts = {part: part.p for part in model.modules() if isinstance(part, nn.Dropout)}
        self.attention_dropouts = {
            part: part.dropout for part in model.modules()
            if isinstance(part, nn.MultiheadAttention)
        }

    def configure_stage(self, stage: dict) -> None:
        """Have the layers, dropout and label smoothing of a stage; the other layers wait."""
        halves = []
        for half, layers in (
            ("encoder", self.all_encoder_layers), ("decoder", self.all_decoder_layers)
        ):
            active, frozen = stage[f"{half}_active_layers"], stage[f"{half}_freeze"]
            if len(active) != len(frozen):
                what = f"{len(active)} {half}_active_layers, {len(frozen)} of {half}_freeze"
                raise UserError(f"stage {stage['name']}: {what}; give one for each layer")
            if not all(0 <= index < len(layers) for index in active):
                what = f"{half}_active_layers {active}"
                raise UserError(f"stage {stage['name']}: {what}; there are {len(layers)}")
            for index, freeze in zip(active, frozen, strict=True):
                layers[index].requires_grad_(not freeze)
            halves.append([layers[index] for index in active])
        self._have_layers(*halves)
        for part in self.dropouts:
            part.p = stage["dropout"]
        for part in self.attention_dropouts:
            part.dropout = stage["dropout"]
        self.ce_criterion = self._cross_entropy(stage["label_smoothing"])
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        counts = f"{len(halves[0])} encoder and {len(halves[1])} decoder layers"
        print(f"stage {stage['name']}: {counts}, {trained:,} parameters learn")

    def _have_layers(self, encoder: list[nn.Module], decoder: list[nn.Module]) -> None:
        """Let the model have these layers and no others."""
        model = self.model
        model.enc_layers, model.dec_layers = nn.ModuleList(encoder), nn.ModuleList(decoder)
        model.num_encoder_layers, model.num_decoder_layers = len(encoder), len(decoder)

    def progressive_train(
        self, train_loader: DataLoader, val_loader: DataLoader, stages: list[dict]
    ) -> None:
        """Train stage by stage, each on a random part of the training data."""
        for self.current_stage, stage in enumerate(stages):
            self.configure_stage(stage)
            loader = self.get_subset_dataloader(train_loader, stage["data_subset"])
            super().train(loader, val_loader, stage["epochs"])

    def transition_to_full_training(self) -> None:
        """Have all layers learn, with the configuration's dropout and label smoothing."""
        self._have_layers(self.all_encoder_layers, self.all_decoder_layers)
        self.model.requires_grad_(True)
        for part, p in self.dropouts.items():
            part.p = p
        for part, p in self.attention_dropouts.items():
            part.dropout = p
        self.ce_criterion = self._cross_entropy(self.config["loss"].get("label_smoothing", 0.0))
        self.best_metric = float("inf")
        print("all layers learn from here on")

    def train(self, train_loader: DataLoader, val_loader: DataLoader, epochs: int) -> None:
        """Train the whole model."""
        self.transition_to_full_training()
        super().train(train_loader, val_loader, epochs)

    def get_subset_dataloader(self, dataloader: DataLoader, fraction: float) -> DataLoader:
        """A loader, in random order, of so large a share of a loader's utterances, drawn anew."""
        dataset = dataloader.dataset
        count = max(1, int(round(fraction * len(dataset), 9)))
        subset = Subset(dataset, torch.randperm(len(dataset))[:count].tolist())
        for name in COPIED:
            setattr(subset, name, getattr(dataset, name))
        return DataLoader(
            subset, batch_size=dataloader.batch_size, shuffle=True,
            num_workers=dataloader.num_workers, collate_fn=dataset.collate_fn,
            pin_memory=dataloader.pin_memory,
        )

    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint with all layers, those too that a stage has not."""
        with self._whole():
            super().save_checkpoint(filename)

    def load_content(self, content: dict, path) -> None:
        with self._whole():
            super().load_content(content, path)

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """The block in which the model has all of its layers."""
        active = list(self.model.enc_layers), list(self.model.dec_layers)
        self._have_layers(self.all_encoder_layers, self.all_decoder_layers)
        try:
            yield
        finally:
            self._have_layers(*active)
