#!/usr/bin/env python3
"""The command line of the speech recogniser."""

import argparse
import contextlib
import csv
import io
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # which `python -P` leaves out

from hw4lib.entry import guarded, importing
from hw4lib.errors import Stopped, UserError
from hw4lib.files import atomic_write, write_json
from hw4lib.lock import exclusive
from hw4lib.output import outlived_output
from hw4lib.reading import printable

with importing("run_asr.py"):
    import jiwer  # noqa: F401 - looked for now, as it is used after hours
    import torch
    from hw4lib.asr_flags import check_search, make_parser
    from hw4lib.asr_preparation import check_bins, check_tokenizer, prepare
    from hw4lib.asr_schema import ASR
    from hw4lib.data.normalisation import check_norm
    from hw4lib.data.recordings import recordings_of
    from hw4lib.model import DecoderOnlyTransformer, EncoderDecoderTransformer
    from hw4lib.preparation import default_device, loaded_trainer, note_missing, print_schedule
    from hw4lib.recognition import Recogniser
    from hw4lib.runs import RUNS, checkpoint_path, read_best, resume_command
    from hw4lib.speech_loaders import check_lengths, describe_data, make_loader, stats_of
    from hw4lib.trainers import ASRTrainer, LMTrainer
    from torch.utils.data import DataLoader

USAGE = """Train, evaluate and use the speech recogniser.

    python run_asr.py train                                 # what asr_config.yaml says
    python run_asr.py train --run char --set tokenization.token_type=char --decoder LM.pth
    python run_asr.py train --resume                        # go on with what was stopped
    python run_asr.py evaluate --beam-width 8 --ctc-weight 0.3
    python run_asr.py recognise talk.wav folder/            # what is said in recordings
    python run_asr.py handin                                # submission.csv, the test split's texts

Data is a folder of partitions with fbank/ and text/ of .npy files, as the course's. It is that of
--data, else `data.root` of the configuration, else speech that is made of the stories embedded in
this repository: by espeak-ng, if that is installed, else by tones, which are no speech.
"""


# ---- train


def train(args: argparse.Namespace) -> None:
    """Train a model, or go on with it."""
    with exclusive(RUNS / args.run, "name another with --run"):
        trainer, loaders, note = prepare(args)
        with trainer.stopping_on_signals():  # from the moment when a person sees that it begins
            print_plan(trainer, loaders)
            epochs = trainer.config["training"]["epochs"] - trainer.current_epoch
            try:
                trainer.train(loaders["train"], loaders["val"], epochs)
            except Stopped as stopped:
                raise Stopped(*stopped.args, *resume_command(args.run, ASR)) from None
        trainer.cleanup()
    best = trainer.best_model_path
    if not best.is_file():
        raise UserError(f"{best}: is gone; put it back, or train on with more --epochs")
    print(f"best: {trainer.best_metric:.2f} % of characters wrong on val, in {best}")
    if note:
        print(note)


def print_plan(trainer: ASRTrainer, loaders: dict[str, DataLoader]) -> None:
    """What is about to be trained, on what."""
    for name, loader in loaders.items():
        data = loader.dataset
        minutes = sum(data.feat_lengths) / 125 / 60
        texts = f"{data.total_tokens:,} tokens" if data.has_text else "no transcripts"
        print(f"{name}: {len(data):,} utterances, {minutes:,.1f} minutes, {texts}")
    print_schedule(trainer, len(loaders["train"]))


# ---- evaluate, recognise, handin


def load_best(args: argparse.Namespace) -> ASRTrainer:
    """A trainer with the best model of a run and all that it was made with; it writes nothing."""
    check_search(args)
    path = checkpoint_path(args.run, "best-metric")
    content = read_best(args.run, ASR)
    check_bins(content["config"])
    check_norm(content["config"]["data"]["norm"])
    return loaded_trainer(
        content, path, args.run, args.device, EncoderDecoderTransformer, ASRTrainer
    )


def search_settings(args: argparse.Namespace, trainer: ASRTrainer) -> dict:
    """How texts are searched for."""
    settings = {"beam_width": args.beam_width, "ctc_weight": args.ctc_weight}
    if args.lm is None:
        return settings
    content = check_tokenizer(args.lm, trainer.tokenizer)
    text = loaded_trainer(
        content, args.lm, args.run, args.device, DecoderOnlyTransformer, LMTrainer
    )
    return {**settings, "lm_model": text.model, "lm_weight": args.lm_weight}


def longest_text(trainer: ASRTrainer) -> int:
    """Tokens that a text may have: as many as the longest of the training, with SOS and EOS."""
    return max(2, min(trainer.config["trained_on"]["longest_text"], trainer.model.max_len))


def texts_of(trainer: ASRTrainer, loader: DataLoader, settings: dict) -> list[dict]:
    """What is recognised in each utterance of a partition, in the order of its files."""
    check_lengths(loader.dataset, trainer.model.max_len)
    found = trainer.recognize(loader, settings, max_length=longest_text(trainer))
    order = list(loader.sampler)  # the longest first
    by_place = dict(zip(order, found, strict=True))
    files = loader.dataset.fbank_files
    return [{"file": name, **by_place[place]} for place, name in enumerate(files)]


def load_partition(args: argparse.Namespace, trainer: ASRTrainer, name: str) -> DataLoader:
    """A partition of the data of the training, or of --data."""
    config = trainer.config
    data = {**config["data"], "root": args.data or config["data"]["root"]}
    stats = stats_of(config, trainer.best_model_path)
    return make_loader({**config, "data": data}, trainer.tokenizer, name, args.device, stats)


def evaluate(args: argparse.Namespace) -> None:
    """Error rates of the best model on the test split, or on val if that has no transcripts."""
    out = args.out or Path("evaluated") / args.run
    if RUNS.resolve() in (out.resolve(), *out.resolve().parents):
        raise UserError(f"--out {out}: that is where runs are; choose another folder")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: is there, and no folder; choose another")
    trainer = load_best(args)
    settings = search_settings(args, trainer)
    loader = load_partition(args, trainer, "test")
    if not loader.dataset.has_text:
        print(f"note: {loader.dataset.partition} has no transcripts; val is evaluated")
        loader = load_partition(args, trainer, "val")
    data = describe_data(loader)
    if data["made_of"]:
        print(printable(f"note: this is {', '.join(data['made_of'])}"))
    results = texts_of(trainer, loader, settings)
    metrics = trainer._calculate_asr_metrics(
        [result["target"] for result in results], [result["generated"] for result in results]
    )
    out.mkdir(parents=True, exist_ok=True)
    record = {
        "data": data, "trained_on": trainer.config["trained_on"],
        "search": {k: v for k, v in settings.items() if k != "lm_model"} | {
            "lm": args.lm.name if args.lm else None
        },
    }  # fmt: skip
    write_json(out / "metrics.json", {**metrics, **record})
    write_json(out / "texts.json", results)
    for result in results[:5]:
        print(printable(f"said:  {result['target']}\nheard: {result['generated']}"))
    rates = f"{metrics['cer']:.2f} % of characters and {metrics['wer']:.2f} % of words are wrong"
    print(f"{loader.dataset.partition}, {len(results):,} utterances: {rates}")
    print(f"numbers in {out / 'metrics.json'}, texts beside it")


def recognise(args: argparse.Namespace) -> None:
    """Write what is said in recordings; what is wrong with one of them keeps none of the others."""
    note_missing("soundfile", "recordings")
    files = [file for path in args.paths for file in recordings_of(path)]
    trainer = load_best(args)
    stats = stats_of(trainer.config, trainer.best_model_path)
    recogniser = Recogniser(trainer, stats, search_settings(args, trainer), longest_text(trainer))
    failed = []
    for file in files:
        try:
            text, notes = recogniser(file)
        except UserError as error:
            failed.append(error)
            if len(files) > 1:
                print(printable(f"error: {error}"), file=sys.stderr)
            continue
        for note in notes:
            print(printable(f"note: {file}: {note}"), file=sys.stderr)
        print(printable(f"{file}: {text}" if len(files) > 1 else text), flush=True)
    if failed:
        raise failed[0] if len(files) == 1 else UserError(
            f"{len(failed)} of {len(files)} recordings could not be read; see above"
        )  # fmt: skip


def handin(args: argparse.Namespace) -> None:
    """Write the texts of the test split as a CSV: `id`, in the order of its files, and text."""
    if not args.out.parent.is_dir() or args.out.is_dir():
        raise UserError(f"--out {args.out}: no file can be there; choose another")
    trainer = load_best(args)
    settings = search_settings(args, trainer)
    results = texts_of(trainer, load_partition(args, trainer, "test"), settings)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["id", "transcription"])
    table.writerows([number, result["generated"]] for number, result in enumerate(results))
    atomic_write(args.out, lambda file: file.write(text.getvalue().encode()))
    empty = sum(not result["generated"] for result in results)
    print(f"{args.out}: {len(results):,} texts" + (f", {empty} of them empty" if empty else ""))


# ---- The command line


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    commands = {run.__name__: run for run in (train, evaluate, recognise, handin)}
    args = make_parser(USAGE, commands, default_device()).parse_args(argv)
    if args.command is not train:  # which may resume a run on the device that it had
        args.device = args.device or default_device()
    return args


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status of `guarded`."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # large pages, as in run_lm.py

    def run() -> None:
        args = parse_args(argv)
        if args.device == "cuda" and not torch.cuda.is_available():
            raise UserError("--device cuda: PyTorch finds no GPU here; use cpu")
        # What recognise prints is all that it makes, so it ends when nobody reads that any more.
        lasting = contextlib.nullcontext() if args.command is recognise else outlived_output()
        with lasting:
            args.command(args)

    smaller = "make data.batch_size, --beam-width, model.d_model or the number of layers smaller"
    return guarded("run_asr.py", run, argv, smaller)


if __name__ == "__main__":
    sys.exit(main())
