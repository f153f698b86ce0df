"""What the configuration of run_asr.py has that of run_lm.py has not."""

from . import config
from .config import SHIPPED, Schema

LIMITS = {  # least and most, of settings that run_lm.py has not
    **{f"model.{name}": (1, 10**6) for name in (
        "input_dim", "time_reduction", "num_encoder_heads", "num_decoder_heads", "d_ff_encoder",
        "d_ff_decoder",
    )},
    "model.num_encoder_layers": (1, 1000), "model.num_decoder_layers": (1, 1000),
    "data.num_feats": (1, 10**6), "loss.ctc_weight": (0, 10**6),
    **{f"data.specaug_conf.{name}": (0, 10**6) for name in (
        "freq_mask_width_range", "num_freq_mask", "time_mask_width_range", "num_time_mask",
    )},
}  # fmt: skip
# What a checkpoint says of the data; of this kind are the values there.
TRAINED_ON = {
    "folder": "", "made_of": [], "utterances": 0, "frames": 0, "characters": 0, "tokens": 0,
    "longest_text": 0, "mean": [], "std": [], "decoder": "", "sha256": "", "val_sha256": "",
    "tokenizer_sha256": "",
}
NOT_HERE = ("model.d_ff", "model.num_layers", "model.num_heads")
ASR = Schema(
    "run_asr.py", "asr", SHIPPED.with_name("asr_config.yaml"),
    {key: limit for key, limit in config.LIMITS.items() if key not in NOT_HERE} | LIMITS,
    TRAINED_ON,
)
