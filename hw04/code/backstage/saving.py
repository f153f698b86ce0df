"""The files of a training: what is there before it, its state, its end."""

import contextlib
import math
import shlex
import shutil
import signal
import time
from pathlib import Path

from torch import distributed as dist

from backstage.bookkeeping import Bookkeeping
from backstage.checkpoint import is_finished, mark_finished
from backstage.errors import Stopped, UserError
from backstage.files import atomic_write, digest_if_there, refuse_unfinished, side_file
from backstage.measures import safe_exp
from backstage.processes import rank_and_world_size, sum_over_processes
from backstage.run_state import state_of
from backstage.sealed import seal, unseal
from backstage.signals import StopSignal
from backstage.state import State
from backstage.trained_on import describe_model

SAVE_STEPS = 500  # a run that is killed loses no more work than that,
SAVE_SECONDS = 300  # nor than that


class Saving(Bookkeeping):
    """The bookkeeping of a training, and its state, saved now and then and when a signal comes."""

    def __init__(self, *args):
        super().__init__(*args)
        self.saved = time.perf_counter()
        self.signal = StopSignal()
        self.state_file = side_file(self.args.model, ".state.pt")
        self.state_before = side_file(self.args.model, ".state.prev.pt")
        # What a minibatch that is not done yet carries from segment to segment, for the state file.
        self.carried: dict = {}
        self.lost_model = False  # whether a resumed run found its best model gone

    def check_files(self) -> None:
        """Before a new run: replace no unfinished one, look for room, keep an earlier model."""
        refuse_unfinished(self.args.model)
        self.check_room()
        if self.first and self.args.model.exists():
            keep_earlier(self.args.model)

    def check_room(self) -> None:
        """Raise UserError if the disk has too little room for the checkpoints."""
        # The state has three numbers for each parameter; it is there twice, and once more while it
        # is written.
        need = 44 * sum(p.numel() for p in self.bare_model.parameters())
        folder = self.args.model.resolve().parent
        free = shutil.disk_usage(folder).free
        if free < need:
            raise UserError(
                f"{folder}: {free / 1e6:,.0f} MB free, but the checkpoints of this run need "
                f"{need / 1e6:,.0f} MB; make room, or name another place with -model"
            )

    def report(self) -> None:
        """As Bookkeeping has it; a signal leaves off, and the resumed run reports again."""
        try:
            super().report()
        except Stopped:
            self.save_state()
            self.check_saved()
            raise

    def valid_nats(self) -> tuple[float, int]:
        """As Bookkeeping has it; a signal does not wait for it.

        Of several processes each leaves off at its own signal, which all get from torchrun, and
        then they agree to stop: those that got none when they have done their share.
        """
        nats = 0.0
        count = 0
        with contextlib.suppress(Stopped), self.signal.stopping_at_once():
            nats, count = super().valid_nats()
        if any(sum_over_processes(self.signal.number)):
            raise Stopped(self.signal.number or signal.SIGTERM)
        return nats, count

    def save_state_if_due(self, state: State | None = None, stories: int = 0) -> None:
        """Save the state now and then, if all is well, and when a signal came; then stop.

        Within a minibatch `state` is what it carries of this process's share of so many stories.
        """
        overdue = time.perf_counter() - self.saved > SAVE_SECONDS
        due = overdue or (self.step % SAVE_STEPS == 0 and not self.part)
        due = due and self.first and not self.in_a_row
        signals, due = sum_over_processes(self.signal.number, due)  # to any of the processes
        if not due and not signals:
            return
        self.carried = {}
        if self.part:
            nats = sum_over_processes(*self.nats_by_process())
            self.carried = {**gathered(state, stories).to_dict(), "nats": nats}
        self.save_state()
        if signals:
            self.check_saved()
            raise Stopped(self.signal.number or signal.SIGTERM)

    def nats_by_process(self) -> list[float]:
        """Of the minibatch that is not done yet: this process's nats, zeros for those of others."""
        rank, processes = rank_and_world_size()
        return [self.step_nats if number == rank else 0.0 for number in range(processes)]

    def save_state(self) -> None:
        """Write the state file, if that can be."""
        if self.first:
            with self.surviving(self.state_file):
                content = seal(state_of(self))
                atomic_write(
                    self.state_file, lambda file: file.write(content), keep=self.state_before
                )
        self.saved = time.perf_counter()

    def check_saved(self) -> None:
        """Before the run stops: raise OSError if the state could not be written."""
        sum_over_processes(0)  # none leaves before the file is there
        error = self.failed.get(self.state_file)
        if error:
            raise OSError(f"{self.state_file}: stopped, but not saved ({error.strerror})")

    def finish(self) -> None:
        """The end of a training that was not stopped: remove its state, tell the best loss."""
        error = self.failed.get(self.args.model)
        if error:
            how = "go on from the last state with -resume"
            if not self.state_file.exists():
                how = "train again"
            why = f"the best model could not be saved ({error.strerror}); make room, and {how}"
            raise OSError(f"{self.args.model}: {why}")
        if self.first:
            if self.best < math.inf:
                self.finish_model()
            self.state_file.unlink(missing_ok=True)
            self.state_before.unlink(missing_ok=True)
            if self.best == math.inf:
                why = "the valid loss was never a number, and nothing was saved; lower it"
                raise UserError(f"-lr {self.args.lr}: {why}")
        perplexity = f"perplexity {safe_exp(self.best):.2f}"
        print(f"best valid loss {self.best:.4f} nats ({perplexity}), model in {self.args.model}")
        if self.args.sample_note:
            print(self.args.sample_note)

    def finish_model(self) -> None:
        """Have the best model say that its run has ended, if it is still there."""
        model = self.args.model
        if digest_if_there(model) != self.model_digest:
            why = "the best model was there, but something has removed or replaced it"
            raise OSError(f"{model}: {why} while the training ran")
        mark_finished(model)


def keep_earlier(model: Path) -> None:
    """Keep the model that is there as X.prev.pt, unless it is worth less than what is kept there.

    That is so if its run was killed and the kept one is of a run that has ended. What is replaced,
    and how to have it back, is said.
    """
    kept = side_file(model, ".prev.pt")
    if kept.exists() and is_finished(kept) and not is_finished(model):
        print(f"the model that is in {model} is of a run that was killed; {kept} stays as it is")
        return
    earlier = f", in place of the one there, {what_is_in(kept)}" if kept.exists() else ""
    print(
        f"note: this training will replace {model}, {what_is_in(model)}, with its first save; "
        f"-model PATH makes another one instead"
    )
    atomic_write(kept, lambda file: file.write(model.read_bytes()))
    back = shlex.join(["mv", str(kept), str(model)])
    print(f"the model that is in {model} is kept in {kept}{earlier}; to have it back: {back}")


def what_is_in(model: Path) -> str:
    """A few words on a model file, damaged or not."""
    try:
        return describe_model(unseal(model.read_bytes())["facts"])
    except Exception:  # damaged, or none of ours
        return "damaged or no model of this program"


def gathered(state: State | None, stories: int) -> State:
    """The state of all stories in the first process, of which each has a share of the rows."""
    rank, processes = rank_and_world_size()
    if processes == 1:
        return state
    shares = [None] * processes if rank == 0 else None
    dist.gather_object(state.to("cpu").to_dict() if state else None, shares)
    if rank:
        return State()
    states = [State.from_dict(share) for share in shares if share]
    order = [number for first in range(processes) for number in range(first, stories, processes)]
    return State.joined(states).take(sorted(range(stories), key=order.__getitem__))
