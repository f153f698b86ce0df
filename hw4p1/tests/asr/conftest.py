"""What the tests of speech recognition share."""

from types import SimpleNamespace

import pytest
import torch
import yaml
from hw4lib.data import ASRDataset
from hw4lib.model import EncoderDecoderTransformer
from hw4lib.trainers import ASRTrainer
from tests.asr.small import BINS, FRAMES, TEXTS, data_config, features_of, write_partition
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

SIZES = {
    "input_dim": BINS, "time_reduction": 2, "reduction_method": "lstm", "num_encoder_layers": 2,
    "num_encoder_heads": 2, "d_ff_encoder": 12, "num_decoder_layers": 2, "num_decoder_heads": 2,
    "d_ff_decoder": 12, "d_model": 8, "dropout": 0.0, "max_len": 80,
}  # fmt: skip


@pytest.fixture
def asr_lab(tmp_path, monkeypatch, tokenizers):
    """Utterances in a folder of their own: `asr_lab.loader(...)`, `asr_lab.trainer(...)`."""
    monkeypatch.chdir(tmp_path)
    tokenizer = tokenizers["char"]
    root = tmp_path / "speech"
    write_partition(root, "train", TEXTS, features_of(FRAMES))
    write_partition(root, "val", TEXTS[:3], features_of(FRAMES[:3], seed=4))
    write_partition(root, "test", None, features_of([40, 30], seed=5))

    def loader(batch_size=2, partition="train", shuffle=False, **changed):
        dataset = ASRDataset(
            partition, data_config(root, norm="cepstral", **changed), tokenizer,
            partition == "train",
        )
        return DataLoader(dataset, batch_size, shuffle, collate_fn=dataset.collate_fn)

    def trainer(
        run="run", dtype=torch.float64, cls=ASRTrainer, loss=None, training=None, plots=False,
        device="cpu", **model,
    ):
        config = {
            "data": data_config(root), "training": training or {},
            "loss": loss or {"label_smoothing": 0.0, "ctc_weight": 0.5},
        }  # fmt: skip
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        torch.manual_seed(1)
        net = EncoderDecoderTransformer(**{**SIZES, **model}, num_classes=tokenizer.vocab_size)
        made = cls(net.to(dtype), tokenizer, config, run, tmp_path / "config.yaml", device)
        made.precision = torch.float32  # no autocast, so that results can be compared
        if not plots:  # which take most of the time
            made._save_attention_plot = lambda weights, epoch, attn_type: None
        made.optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        made.scheduler = LambdaLR(made.optimizer, lambda step: 1 / (1 + step))
        return made

    return SimpleNamespace(loader=loader, trainer=trainer, path=tmp_path, root=root)
