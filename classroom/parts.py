"""What a student writes in each assignment: the items, where they stand, a hint for each.

The first assignment marks its items in the source (`YOUR CODE HERE: BEGIN (1a)`); those of the
second are methods that its interface names. The skeleton empties them, and the grader puts the
reference's in their place when it grades another item.
"""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Block:
    """An item of the first assignment: a function of lstlm.py that has a marked block."""

    item: str
    where: str  # the function, by its name in lstlm.py
    hint: str


@dataclass(frozen=True)
class Part:
    """An item of the second assignment: functions of one file.

    `write` are emptied, `optional` too, `given` are left as they are; what else the file defines is
    not in the skeleton.
    """

    item: str
    file: str
    write: dict[str, str]  # the name of a function -> a hint
    given: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


BLOCKS = (
    Block("2", "collate_stories", """
        Each story gives two sequences, one token apart. torch.tensor() makes a tensor of a list,
        pad_sequence() one of several; mind which number fills each.
    """),
    Block("1", "LSTMLM.forward", """
        Look the ids up in self.embedding; run self.lstm over them; set `hidden` (B, T, D).
        pack_padded_sequence() needs lengths on the CPU, and wants to know that they are not sorted;
        pad_packed_sequence() comes after the layers.
    """),
    Block("1a", "LSTMLM.attend", """
        Set `context` (B, T, D). All scores of a story at once are a (T, T) matrix; think of what a
        row of it stands for, what must not be seen from there, and what position 0 can see.
    """),
    Block("3", "compute_loss", """
        Set `mean`. Minibatches have different numbers of target tokens: a mean of their means is
        not the mean over all tokens.
    """),
    Block("4", "train", """
        One update of the weights from `loss`: the gradient of this minibatch alone, its norm at
        most 1.0 (handout, item 4). Four lines, and their order counts.
    """),
    Block("6a", "next_token_logits", """
        Change `logits` (V,) as equation 2 says. `tokens` is all of s: <bos>, the prompt, and what
        was generated so far.
    """),
    Block("6", "generate_next_token", """
        Set `token`, an id: the best one if `greedy`, else one drawn from the softmax with
        torch.multinomial() and `generator`.
    """),
    Block("5", "use", """
        Set `probs` (V,): what the scores mean as probabilities.
    """),
    Block("7", "evaluate", """
        Set `nats` and `perplexity`. loaded.model is the model, corpus.stories are the stories,
        args.B is the size of a minibatch; compute_loss() is yours.
    """),
)

PARTS = (
    Part("linear", "mytorch/nn/linear.py", {
        "Linear.forward": "flatten the leading dimensions to rows, and restore them afterwards",
        "Linear.backward": "equations 8 to 10 over rows; dLdW, dLdb and dLdA are kept, in place of "
        "those before",
    }, ("Linear.__init__", "Linear.init_weights")),
    Part("softmax", "mytorch/nn/activation.py", {
        "Softmax.forward": "exp() of a large number is inf: what can be taken from all scores "
        "without changing the result?",
        "Softmax.backward": "equations 12 and 13, for each slice along `dim`",
    }, ("Softmax.__init__",)),
    Part("attention", "mytorch/nn/scaled_dot_product_attention.py", {
        "ScaledDotProductAttention.forward": "equation 14; where the mask is True, self.eps is "
        "taken from the score",
        "ScaledDotProductAttention.backward": "equations 15 to 19; let the shapes be your guide",
    }, ("ScaledDotProductAttention.__init__",)),
    Part("multi_head", "mytorch/nn/multi_head_attention.py", {
        "MultiHeadAttention.forward": "project, split, attend, concatenate, project",
        "MultiHeadAttention.backward": "the same way back, by the `backward` of each part",
        "MultiHeadAttention._merge_masks": "a key is ignored if either mask says so; either may "
        "be None",
        "MultiHeadAttention._split_heads": "neighbouring features belong to the same head",
        "MultiHeadAttention._concat_heads": "undo what _split_heads does",
    }, ("MultiHeadAttention.__init__", "MultiHeadAttention.init_weights")),
    Part("dataset", "hw4lib/data/lm_dataset.py", {
        "LMDataset.__init__": "set text_dir, text_files, transcripts_shifted, transcripts_golden, "
        "total_chars, total_tokens, text_max_len, avg_chars_per_token and length (README); "
        "load_transcript(path) reads a file",
        "LMDataset.__len__": "how many transcripts there are",
        "LMDataset.__getitem__": "both as LongTensor",
        "LMDataset.collate_fn": "pad with self.pad_token; lengths is a tensor",
    }, ("LMDataset.get_avg_chars_per_token", "LMDataset.sample_prompts", "LMDataset._draw")),
    Part("masks", "hw4lib/model/masks.py", {
        "PadMask": "compare positions with lengths; True is padding",
        "CausalMask": "True is the future: what stands right of the diagonal",
    }),
    Part("positions", "hw4lib/model/positional_encoding.py", {
        "PositionalEncoding.create_pe_table": "register_buffer('pe', ...) of shape "
        "(1, max_len, d_model)",
        "PositionalEncoding.forward": "add the first rows; a sequence that is too long is a "
        "ValueError (`start` is 0 for you)",
    }, ("PositionalEncoding.__init__",)),
    Part("sublayers", "hw4lib/model/sublayers.py", {
        "SelfAttentionLayer.__init__": "the attributes mha (nn.MultiheadAttention, batch first), "
        "norm, dropout",
        "SelfAttentionLayer.forward": "pre-norm, and what came in is added at the end; weights are "
        "the mean over heads",
        "FeedForwardLayer.__init__": "the attributes ffn (an nn.Sequential of four), norm, dropout",
        "FeedForwardLayer.forward": "as in the layer above, with ffn in the place of attention",
    }),
    Part("decoder_layer", "hw4lib/model/decoder_layers.py", {
        "SelfAttentionDecoderLayer.__init__": "the attributes self_attn and ffn",
        "SelfAttentionDecoderLayer.forward": "both sublayers, masks passed on untouched",
    }),
    Part("transformer", "hw4lib/model/transformers.py", {
        "DecoderOnlyTransformer.__init__": "target_embedding, positional_encoding, dropout, "
        "dec_layers, norm, final_linear (README); with weight_tying two of them share a matrix",
        "DecoderOnlyTransformer.forward": "both masks go to every layer; maps have the keys "
        "layer1_dec_self, ... (you may ignore need_weights)",
        "DecoderOnlyTransformer.score": "forward gives scores after every position; which is asked "
        "for?",
    }),
    Part("greedy", "hw4lib/decoding/sequence_generator.py", {
        "SequenceGenerator.generate_greedy": "pseudocode 1 of the handout, line by line; "
        "self._check(x, temperature, repeat_penalty) refuses bad values",
    }, (
        "SequenceGenerator.__init__", "SequenceGenerator._apply_repeat_penalty",
        "SequenceGenerator._filter_logits", "SequenceGenerator._check",
        "SequenceGenerator.post_process_sequence",
    ), ("SequenceGenerator.generate_sample", "SequenceGenerator.generate_beam")),
    Part("trainer", "hw4lib/trainers/lm_trainer.py", {
        "LMTrainer.__init__": "", "LMTrainer.train": "", "LMTrainer._train_epoch": "",
        "LMTrainer._validate_epoch": "", "LMTrainer.generate": "",
    }, (
        "LMTrainer.evaluate", "LMTrainer._get_evaluation_generation_configs",
        "LMTrainer._generate_and_save", "LMTrainer._metrics", "LMTrainer._maps",
        "LMTrainer._plot_first", "LMTrainer.continue_prompts", "LMTrainer._run", "perplexity",
    )),
)

# The second assignment's frame of a training is one of its own, in handout/hw4p1/: that of the
# reference is more than a student need read, and has answers in it.
OWN = "hw4lib/trainers"

# What of the given code differs in the skeleton: where the sample and the list of packages are.
REPLACED = {
    "hw4lib/data/npy_files.py": {
        'parents[3] / "hw04" / "data" / "sample"': 'parents[2] / "sample"',
    },
    "hw4lib/entry.py": {
        'parents[2] / "requirements-dev.txt"': 'parents[1] / "requirements.txt"',
    },
}
