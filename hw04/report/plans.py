"""The trainings of the report: a named list of settings, each with the flags of a program."""

import sys

if __name__ == "__main__":
    print("plans.py: error: no program; experiments.py uses it", file=sys.stderr)
    sys.exit(2)

from dataclasses import dataclass, replace

CORPORA = {  # of each text: train, valid, test
    "tiny": {
        "train": "tiny.train.tokens.4M",
        "valid": "tiny.valid.tokens.200K",
        "test": "tiny.test.tokens.4M",
    },
    "wiki": {part: f"wiki.{part}.tokens" for part in ("train", "valid", "test")},
}
CUT = (3000, 300)  # stories of the training and the valid corpus in the small setting
ROW_CUT = (4000, 300)  # the same of the rows that are compared at their best rates


@dataclass(frozen=True)
class Plan:
    """One training: a program and its flags, seeds, and how many stories of the corpora it gets.

    `stories` are those of the training and of the valid corpus (0: all). In the flags GLOVE stands
    for the file of word vectors, BASE for the model of the run "base", or of "full, base" in its
    group, with the same seed.
    """

    group: str
    name: str
    flags: str
    minutes: int  # on one core, as planned; a GPU needs a hundredth
    seeds: tuple[int, ...] = (0,)
    stories: tuple[int, int] = (0, 0)
    program: str = "lstlm"  # of runner.PROGRAMS
    backward: bool = False  # each story from its end
    text: str = "tiny"  # whose corpora, of CORPORA

    def stem(self, seed: int) -> str:
        """The name, without its ending, of the files of the run with this seed."""
        return f"{self.name.replace(',', '').replace(' ', '-')}.{seed}"

    def at(self, rate: float) -> "Plan":
        """The plan with this learning rate, which its name has too."""
        return replace(self, name=f"{self.name}, lr {rate:g}", flags=f"{self.flags} -lr {rate:g}")


def small(
    name: str, flags: str = "", seeds: tuple[int, ...] = (0,), minutes: int = 6,
    shape: str = "-H 2 -N 256", epochs: int = 1, vectors: str = "-EDim 100", batch: int = 8,
) -> Plan:
    """A run of the small setting: 3,000 stories, 0.58 M tokens, once; a few minutes a change."""
    flags = f"{shape} -VSize 4000 -E {epochs} {vectors} -B {batch} {flags}"
    return Plan("small", name, " ".join(flags.split()), minutes, seeds, CUT)


def full(
    name: str, flags: str = "", seeds: tuple[int, ...] = (0,), shape: str = "-H 2 -N 512",
    vectors: str = "-EDim 100", **more,
) -> Plan:
    """A run of the handout's setting, for two epochs of all stories, with a change."""
    flags = f"{shape} -E 2 {vectors} {flags}".strip()
    return Plan("full", f"full, {name}", flags, 60, seeds, **more)


def feed_forward(name: str, flags: str, shape: str, seeds: tuple[int, ...] = (0,)) -> Plan:
    """A feed-forward model with the vectors of BASE, in the handout's setting."""
    return full(name, f"-lstm BASE {flags}", seeds, shape, vectors="", program="fflm")


def long(name: str, flags: str) -> Plan:
    """The strong preset with a change."""
    return Plan("long", f"long, {name}", f"-tie -EDim 512 -E 8 {flags}", 190)


def stream(B: int) -> str:
    """Flags for the protocol of published figures on WikiText-2.

    Its 1,020 stretches make few steps of large B.
    """
    return f"-VSize 40000 -cased -stories stream -B {B} -bptt 256"


def tried(added: str) -> Plan:
    """Four epochs of the small setting with dropout and tied vectors, and with an extension."""
    name = f"4 epochs, tie, dropout, {added}"
    flags = f"-tie -dropout 0.2 -with {added}"
    plan = small(name, flags, vectors="-EDim 256", epochs=4, minutes=20)
    return replace(plan, program="literature")


def row(
    name: str, flags: str, vectors: str = "-EDim 100", epochs: int = 2, kind: str = "untied",
    train: int = ROW_CUT[0], **more,
) -> Plan:
    """A row of the comparison at best rates: 4,000 stories, 0.78 M tokens, twice.

    Its learning rate is searched by `rates.py`, so it is in no flag.
    """
    flags = f"{flags} -VSize 4000 -E {epochs} {vectors} -B 8"
    minutes = 5 * epochs * train // (2 * ROW_CUT[0])
    cut = train, ROW_CUT[1]
    return Plan("rates", f"{kind}, {name}", flags, minutes, (0, 1, 2), cut, **more)


def tied_row(name: str, flags: str, **more) -> Plan:
    """A row whose word vectors, of size 256, are the output layer too.

    So what is compared is the layers between, which have 1.05 M parameters in each such row.
    """
    return row(name, f"{flags} -tie", "-EDim 256", kind="tied", **more)


def cells() -> list[Plan]:
    """What the strong preset is made of, beside the rows `untied, lstm` and `tied, lstm`.

    With vectors tied or not, a share of 0.3 dropped or not, and twice as many epochs or not.
    """
    plans = []
    for flags, name, epochs in (
        ("-dropout 0.3", "dropout", 2), ("", "4 epochs", 4),
        ("-dropout 0.3", "dropout, 4 epochs", 4),
    ):
        plans.append(row(f"lstm, {name}", f"-H 2 -N 256 {flags}".strip(), epochs=epochs))
        plans.append(tied_row(f"lstm, {name}", f"-H 2 -N 256 {flags}".strip(), epochs=epochs))
    return plans


ADDED = ("weight-drop", "smoothing", "averaging", "mogrifier")  # of extensions/literature.py
GLOVE = "-embeddings_file GLOVE"
TIED = "-tie -EDim 512 -dropout 0.2 -B 16 -lr 0.003"
PLANS = [
    Plan("main", "handout", "-H 2 -N 512 -E 1 -EDim 100", 70),
    Plan("main", "handout, 5 epochs", "-H 2 -N 512 -E 5 -EDim 100", 110, (0, 1)),
    Plan("main", "handout, 5 epochs, lr 0.008", "-H 2 -N 512 -E 5 -EDim 100 -lr 0.008", 120),
    Plan("main", "attention, 5 epochs", "-H 2 -N 512 -E 5 -EDim 100 -a", 90, (0, 1)),
    Plan("main", "tied, 1 epoch", "-tie -EDim 256 -B 8 -lr 0.003 -E 1 -valid_every 500", 60),
    Plan("main", "tied, 5 epochs", f"{TIED} -E 5", 120),
    Plan("main", "strong", "-preset strong", 190, (0, 1)),
    long("dropout 0.2", "-dropout 0.2"),
    long("dropout 0.4", "-dropout 0.4"),
    long("dropout 0.3, cosine", "-dropout 0.3 -schedule cosine"),
    long("dropout 0.3, attention", "-dropout 0.3 -a"),
    full("base", seeds=(0, 1)),
    feed_forward("feed-forward", "-K 5", "-H 1 -N 832", (0, 1)),
    feed_forward("feed-forward, 3", "-K 3", "-H 1 -N 832"),
    feed_forward("feed-forward, 8", "-K 8", "-H 1 -N 832"),
    feed_forward("feed-forward, 2 layers", "-K 5", "-H 2 -N 780"),
    # What tuning.py found in the small setting, with as many parameters as base.
    feed_forward("feed-forward, tuned", "-K 3 -B 16 -lr 0.0068", "-H 2 -N 792", (1,)),
    full("attention", "-a", seeds=(0, 1)),
    full("attention, N 704", "-a", shape="-H 2 -N 704"),  # as many parameters as base
    full("bilinear", "-a bilinear", seeds=(0, 1)),
    full("additive", "-a additive"),
    full("gru", "-cell gru", seeds=(0, 1)),
    full("rnn", "-cell rnn", seeds=(0, 1)),
    full("tie", "-tie", vectors="-EDim 512", seeds=(0, 1)),
    full("tie, 256", "-tie", vectors="-EDim 256"),
    full("tie, glove", "-tie", vectors=GLOVE),
    full("tie, lr 0.008", "-tie -lr 0.008", vectors="-EDim 512"),
    full("tie, no bias", "-tie", vectors="-EDim 512", program="unbiased"),
    full("glove", vectors=GLOVE, seeds=(0, 1)),
    full("glove fine-tuned", "-finetune", vectors=GLOVE, seeds=(0, 1)),
    full("glove fine-tuned slowly", "-finetune -emb_lr 0.001", vectors=GLOVE),
    full("positions", "-positions", seeds=(0, 1)),
    full("pieces", "-tokenizer bpe", seeds=(0, 1)),
    full("bidirectional", "-bidirectional"),
    full("backward", backward=True),
    full("dropout", "-dropout 0.2"),
    full("weight decay", "-weight_decay 0.01"),
    full("cosine", "-schedule cosine"),
    full("batch 16", "-B 16"),
    full("batch 64", "-B 64"),
    full("lr 0.002", "-lr 0.002"),
    full("lr 0.008", "-lr 0.008"),
    full("1 layer", shape="-H 1 -N 512"),
    full("3 layers", shape="-H 3 -N 512"),
    full("N 256", shape="-H 2 -N 256"),
    full("N 768", shape="-H 2 -N 768"),
    full("EDim 50", vectors="-EDim 50"),
    full("EDim 300", vectors="-EDim 300"),
    Plan("wiki", "wikitext", "-H 2 -N 512 -EDim 100 -E 5", 70, text="wiki"),
    Plan("wiki", "wikitext, tied", f"{TIED} -E 5", 80, text="wiki"),
    Plan("wiki", "wikitext, strong", "-preset strong", 120, text="wiki"),
    Plan(
        "wiki", "wikitext, stream", "-tie -EDim 256 -dropout 0.2 -VSize 40000 -cased "
        "-stories stream -E 4 -B 8 -bptt 128", 120, text="wiki",
    ),
    Plan(
        "wiki", "wikitext, handout, stream", f"-H 2 -N 512 -EDim 100 -E 4 {stream(8)}", 120,
        text="wiki",
    ),
    Plan("wiki", "wikitext, strong, stream", f"-preset strong -E 4 {stream(4)}", 170, text="wiki"),
    small("base", seeds=(0, 1, 2)),
    small("float32", "-precision fp32"),
    Plan("small", "feed-forward", "-lstm BASE -K 5 -H 1 -N 512 -E 1 -B 8", 6, (0, 1), CUT, "fflm"),
    small("batch 16", batch=16),
    small("batch 32", batch=32),
    small("lr 0.002", "-lr 0.002"),
    small("lr 0.008", "-lr 0.008"),
    small("lr 0.016", "-lr 0.016"),
    small("tie", "-tie", vectors="-EDim 256", seeds=(0, 1)),
    small("tie, glove", "-tie", vectors=GLOVE),
    replace(small("tie, no bias", "-tie", vectors="-EDim 256"), program="unbiased"),
    small("tie, lr 0.008", "-tie -lr 0.008", vectors="-EDim 256"),
    small("attention", "-a", seeds=(0, 1)),
    small("attention, N 360", "-a", shape="-H 2 -N 360", seeds=(0, 1)),  # as large as base
    small("bilinear", "-a bilinear", seeds=(0, 1)),
    small("additive", "-a additive", seeds=(0, 1), minutes=20),
    small("additive, N 360", "-a additive", shape="-H 2 -N 360", seeds=(0, 1), minutes=20),
    small("gru", "-cell gru", seeds=(0, 1)),
    small("rnn", "-cell rnn", seeds=(0, 1)),
    small("glove", vectors=GLOVE, seeds=(0, 1)),
    small("glove fine-tuned", "-finetune", vectors=GLOVE, seeds=(0, 1)),
    small("glove fine-tuned slowly", "-finetune -emb_lr 0.001", vectors=GLOVE),
    small("positions", "-positions", seeds=(0, 1)),
    small("pieces", "-tokenizer bpe", seeds=(0, 1)),
    small("bidirectional", "-bidirectional", seeds=(0, 1)),
    replace(small("backward", seeds=(0, 1)), backward=True),
    small("cosine", "-schedule cosine"),
    small("dropout", "-dropout 0.2"),
    small("locked dropout", "-dropout 0.2 -locked"),
    small("weight decay", "-weight_decay 0.01"),
    small("1 layer", shape="-H 1 -N 256"),
    small("3 layers", shape="-H 3 -N 256"),
    small("N 128", shape="-H 2 -N 128"),
    small("N 384", shape="-H 2 -N 384", minutes=9),
    small("EDim 50", vectors="-EDim 50"),
    small("EDim 200", vectors="-EDim 200"),
    small("12 epochs", epochs=12, minutes=20),  # which -patience ends
    small("4 epochs", epochs=4, minutes=20),
    small("4 epochs, dropout", "-dropout 0.2", epochs=4, minutes=20),
    small("4 epochs, tie, dropout", "-tie -dropout 0.2", vectors="-EDim 256", epochs=4, minutes=20),
    *map(tried, ADDED),
]
ROWS = [  # in the order of their importance
    tied_row("lstm", "-H 2 -N 256"),
    row("lstm", "-H 2 -N 256"),
    tied_row("transformer", "-H 2 -N 512", program="transformer"),
    tied_row("attention", "-H 2 -N 680 -a"),  # its layers have half of N, and the last 128
    tied_row("gru", "-H 2 -N 336 -cell gru"),
    tied_row("minGRU", "-with mingru -H 2 -N 512", program="modern"),
    tied_row("mLSTM", "-with mlstm -H 2 -N 384", program="modern"),
    row("pieces", "-H 2 -N 256 -tokenizer bpe"),
    row("positions", "-H 2 -N 256 -positions"),
    row("glove fine-tuned", "-H 2 -N 256 -finetune", GLOVE),
    row("glove", "-H 2 -N 256", GLOVE),
    tied_row("additive", "-H 2 -N 664 -a additive"),
    tied_row("bilinear", "-H 2 -N 672 -a bilinear"),
    tied_row("rnn", "-H 2 -N 768 -cell rnn"),
    row("backward", "-H 2 -N 256", backward=True),
    row("bidirectional", "-H 2 -N 256 -bidirectional"),
    *cells(),
    *(  # how the loss falls with the number of stories
        tied_row(f"lstm, {count} stories", "-H 2 -N 256", train=count)
        for count in (1000, 2000, 8000, 16000)
    ),
]
GROUPS = tuple(dict.fromkeys(plan.group for plan in PLANS))  # each a folder of results/
