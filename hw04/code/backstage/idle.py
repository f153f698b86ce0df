"""Flags that do nothing: those of another mode, and those that another flag makes idle."""

from argparse import ArgumentParser, Namespace

TRAIN = ("train",)
MEASURED = ("train", "evaluate")
GENERATE = ("use", "prompt")
# The modes that look at a flag. One that is not here counts in all of them.
MODES_OF = {
    "E": TRAIN, "lr": TRAIN, "emb_lr": TRAIN, "schedule": TRAIN, "weight_decay": TRAIN,
    "bptt": TRAIN, "resume": TRAIN, "patience": TRAIN, "valid_every": TRAIN, "dropout": TRAIN,
    "locked": TRAIN, "preset": TRAIN, "embeddings_file": TRAIN, "glove_only": TRAIN,
    "B": MEASURED, "train_corpus": MEASURED, "valid_corpus": MEASURED, "stories": MEASURED,
    "test_corpus": ("evaluate",),
    "greedy": GENERATE, "fpenalty": GENERATE, "temperature": GENERATE, "top_k": GENERATE,
    "top_p": GENERATE, "min_p": GENERATE, "seed": ("train", *GENERATE),
    "max_tokens": ("prompt",), "samples": ("prompt",), "continue_": ("prompt",),
}
DRAWING = ("temperature", "top_k", "top_p", "min_p", "seed")  # what greedy choice never asks
CANCELLED = (  # a flag, another one that makes it idle, and what that one does
    ("finetune", "tie", "trains all word vectors"),
    ("finetune", "EDim", "learns all word vectors"),
    ("train_corpus", "test_corpus", "says what is measured"),
    ("valid_corpus", "test_corpus", "says what is measured"),
)
NEEDED = (("locked", "dropout"),)  # a flag, and the one without which it is idle


def idle_notes(parser: ArgumentParser, args: Namespace) -> list[str]:
    """A line for each flag that was given and does nothing."""
    mode = args.run.__name__ if args.run else ""
    given = {
        name: f"-{name.rstrip('_')}" if value is True else f"-{name} {value}"
        for name, value in vars(args).items() if value != parser.get_default(name)
    }
    notes = []
    for name in [name for name in given if mode not in MODES_OF.get(name, (mode,))]:
        modes = " and ".join(f"-{one}" for one in MODES_OF[name])
        notes.append(f"{given.pop(name)} does nothing here; it is for {modes}")
    for name, other, what in CANCELLED:
        if name in given and other in given:
            notes.append(f"{given[name]} does nothing, as -{other} {what}")
    for name, other in NEEDED:
        if name in given and other not in given:
            notes.append(f"{given[name]} does nothing without -{other}")
    if vars(args).get("greedy") or vars(args).get("temperature") == 0:
        notes += idle_in_greedy_choice(mode, given)
    return [f"note: {note}" for note in notes]


def idle_in_greedy_choice(mode: str, given: dict[str, str]) -> list[str]:
    """The same for flags that the choice of the most probable token leaves without a say."""
    greedy = "greedy" if "greedy" in given else "temperature"
    greedy = given.pop(greedy, "-greedy")
    notes = []
    for name in DRAWING:
        if name in given:
            shown = ", only the probabilities shown" if mode == "use" and name != "seed" else ""
            notes.append(f"{given[name]} with {greedy} changes no token{shown}")
    if "samples" in given:
        notes.append(f"{given['samples']} with {greedy}: all of them are the same text")
    return notes
