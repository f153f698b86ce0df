"""What the grader runs beside the items: whether a file can be imported, what a model is worth."""

from pathlib import Path

from checks.drivers_hw04 import on_command_line


def is_imported(program, given: dict) -> dict:
    """1: this is reached once the student's file has been imported."""
    return {"imported": 1}


def evaluate_model(program, given: dict) -> dict:
    """The perplexity of the model file on a corpus, by the reference, and its share of <unk>."""
    Path("corpus").write_text(given["corpus"])
    path = str(Path(program.__file__).parent / "model.pt")
    flags = ("-evaluate", "-model", path, "-test_corpus", "corpus", "-precision", "fp32")
    (record,) = on_command_line(program, *flags)
    loaded = program.load_to_evaluate(program.parse_args(["-evaluate", "-model", path]))
    ahead = int(loaded.model.bidirectional)
    return {"ppl": record["ppl"], "unknown": record["unk_share"], "sees ahead": ahead}


DRIVERS = {each.__name__: each for each in (is_imported, evaluate_model)}
