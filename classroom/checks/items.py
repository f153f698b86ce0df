"""The items of each assignment: their titles, and what exceptions usually mean in them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """An item as it is shown, with the exceptions that usual mistakes raise in it."""

    title: str
    causes: tuple[tuple[str, str], ...] = ()


COMMON = (
    ("cannot access local variable", "the block has to set the name that the line after it uses"),
    ("referenced before assignment", "the block has to set the name that the line after it uses"),
    ("cannot be multiplied", "two shapes do not fit: write the shape of each tensor beside it"),
    ("must match the size of tensor", "two shapes do not fit: write the shape of each beside it"),
    ("shapes", "two shapes do not fit: write the shape of each array beside it"),
    ("core dimension", "two shapes do not fit: write the shape of each array beside it"),
    ("index out of range in self", "an id that is not in the vocabulary: padding of -100, say"),
    ("more than the memory", "it makes a tensor that is far larger than what it was given"),
    ("Forbidden", "this is what you are asked to write yourself"),
    ("EOFError", "nobody can answer input() here"),
    ("SystemExit", "a function that is called is not to end the program (sys.exit)"),
    ("NoneType", "nothing is returned: is the return statement, or the last line, missing?"),
)
TIME_FIRST = "without batch_first=True pack_padded_sequence() takes the first dimension for time"

HW04 = {
    "1": Item("1 forward pass", (
        ("sorted in decreasing order", "stories come in any order of lengths; "
         "pack_padded_sequence() has an argument for that"),
        ("split_sizes to sum", TIME_FIRST), ("to be equal to batch_size", TIME_FIRST),
        ("on the CPU", "pack_padded_sequence() wants lengths on the CPU"),
        ("PackedSequence", "self.lstm gives a packed result for a packed batch: turn it back"),
        ("'tuple' object", "self.lstm gives two things: outputs, and the final states"),
        ("element 0 of tensors does not require grad", "no gradient comes through: detach(), "
         ".data, or torch.no_grad()"),
    )),
    "1a": Item("1a dot-product attention (*)"),
    "2": Item("2 minibatches", (
        ("expected sequence of length", "rows of different lengths are no tensor: pad them first"),
        ("out of bounds for dimension 1", "rows are too short: T is the largest length"),
    )),
    "3": Item("3 mean loss", (
        ("does not require grad", "nothing is learned here: no backward()"),
    )),
    "4": Item("4 gradient step", (
        ("backward through the graph a second time", "backward() is called twice for one loss"),
    )),
    "5": Item("5 probabilities", (
        ("not enough values to unpack", "no probability is above 0: are they logarithms?"),
    )),
    "6": Item("6 next token", (
        ("probability tensor contains", "torch.multinomial() wants probabilities, not scores: the "
         "softmax comes first"),
        ("invalid multinomial distribution", "torch.multinomial() wants probabilities, not scores: "
         "the softmax comes first"),
    )),
    "6a": Item("6a frequency penalty (*)", (
        ("no finite numbers", "the penalty comes after the softmax: it belongs to the logits"),
    )),
    "7": Item("7 perplexity"),
}

FLATTEN = "W is (out, in), so it is transposed; of more dimensions flatten the leading ones to rows"
NOT_KEPT = "backward uses what forward has not kept, or a layer whose forward was not called"

HW4P1 = {
    "linear": Item("Linear", (
        ("matmul", FLATTEN), ("not aligned", FLATTEN), ("has no attribute", NOT_KEPT),
    )),
    "softmax": Item("Softmax", (("has no attribute", NOT_KEPT),)),
    "attention": Item("ScaledDotProductAttention", (
        ("has no attribute", NOT_KEPT),
        ("axes don't match", "more leading dimensions than expected: swapaxes(-1, -2)"),
        ("too many values to unpack", "more leading dimensions than expected: count from the end"),
        ("not enough values to unpack", "fewer leading dimensions than expected: count from the "
         "end"),
    )),
    "multi_head": Item("MultiHeadAttention", (
        ("NoneType", "a mask is None: both are optional"), ("has no attribute", NOT_KEPT),
    )),
    "dataset": Item("LMDataset"),
    "masks": Item("CausalMask and PadMask"),
    "positions": Item("PositionalEncoding", (
        ("must match the size", "x is (B, T, d): the table's first T rows are added, of x.size(1)"),
        ("not a buffer", "self.register_buffer('pe', ...) makes one"),
    )),
    "sublayers": Item("SelfAttentionLayer and FeedForwardLayer", (
        ("Missing key(s)", "an attribute is missing or has another name: mha or ffn, norm, "
         "dropout"),
        ("Unexpected key(s)", "there is a layer too many, or one with another name"),
        ("Error(s) in loading", "a layer has another name or size than the README says"),
    )),
    "decoder_layer": Item("SelfAttentionDecoderLayer"),
    "transformer": Item("DecoderOnlyTransformer", (
        ("Error(s) in loading", "an attribute is missing or has another name than the README says"),
    )),
    "greedy": Item("generate_greedy"),
    "trainer": Item("LMTrainer"),
}

EXERCISES = {
    "ex1": Item("exercise 1 feed-forward model"), "ex2": Item("exercise 2 tuning"),
    "ex3": Item("exercise 3 fine-tuning"), "ex4": Item("exercise 4 other attention"),
    "ex5": Item("exercise 5 word pieces"), "ex6": Item("exercise 6 GRU and RNN"),
    "ex7": Item("exercise 7 both directions"), "ex8": Item("exercise 8 positions"),
    "ex9": Item("exercise 9 tied vectors"),
}

ASSIGNMENTS = {"hw04": HW04 | EXERCISES, "hw4p1": HW4P1}


def causes(assignment: str, item: str) -> tuple[tuple[str, str], ...]:
    """What exceptions usually mean in an item."""
    return ASSIGNMENTS[assignment][item].causes + COMMON
