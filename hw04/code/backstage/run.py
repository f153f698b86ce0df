"""One training: the order of its minibatches, their segments, and what comes between them."""

import contextlib
import math
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from backstage.bookkeeping import Untrained
from backstage.errors import UserError
from backstage.minibatches import hide_rare, prefetch, segments, shuffled_batches
from backstage.optimizer import highest_rate, learning_rate, make_optimizer
from backstage.processes import rank_and_world_size, sum_over_processes
from backstage.run_state import carried_state, resume
from backstage.saving import Saving
from backstage.state import State

LOW_PEAK = 0.9  # a run whose highest learning rate is a smaller share of -lr says so
SKIPS = 5  # steps in a row without a finite loss and gradient end a training


class Run(Saving):
    """One training of a model on `stories`, with looks at its loss on the `valid` ones.

        with run:
            for inputs, targets, lengths, state, share in run.segments():
                ...  # a gradient step
                run.add(loss)
        run.finish()
    """

    def __init__(
        self, args: Namespace, new: Untrained, stories: list[list[int]], valid: list[list[int]],
        compute_loss: Callable, collate: Callable,
    ):
        super().__init__(args, new, valid, compute_loss)
        self.stories = stories
        self.collate = collate
        self.model = self.bare_model  # what `train` calls
        if rank_and_world_size()[1] > 1:
            self.model = DistributedDataParallel(self.bare_model)
        self.optimizer = make_optimizer(self.bare_model, args)
        self.last_of_epoch = -(-len(stories) // args.B)  # minibatches
        self.steps = args.E * self.last_of_epoch
        self.highest_lr = highest_rate(self.steps, args.lr, args.schedule)
        self.counts = torch.bincount(
            torch.tensor([token for story in stories for token in story[1:]]),
            minlength=len(self.words),
        )  # (V,) of the targets
        if not args.resume:
            self.start()

    def start(self) -> None:
        """What is done once: look at what is there, begin the log, set the bias."""
        self.check_files()
        self.begin_log(steps=self.steps, highest_lr=self.highest_lr)
        # The bias says how frequent each word is, so that training need not begin with that.
        share = (self.counts + 0.5) / (self.counts + 0.5).sum()
        self.bare_model.output.bias.data.copy_(share.log())

    def tell(self) -> None:
        """Print what is trained on what."""
        targets = sum(len(story) - 1 for story in self.stories)
        valid = sum(len(story) - 1 for story in self.valid)
        parameters = sum(p.numel() for p in self.bare_model.parameters())
        kind = "stretches" if self.args.stories == "stream" else "stories"
        precision = self.facts["precision"].removeprefix("torch.")
        print(
            f"{len(self.stories):,} {kind}, {targets:,} target tokens; valid {valid:,}; "
            f"{parameters:,} parameters on {self.bare_model.output.weight.device} in {precision}"
        )
        if self.highest_lr < LOW_PEAK * self.args.lr:
            peak = f"{self.highest_lr:.3g} of -lr {self.args.lr:g}"
            print(f"note: {self.steps} steps: the learning rate comes to {peak}, as it falls early")

    def __enter__(self) -> "Run":
        if self.args.resume:
            resume(self)
        slow = {} if sys.stderr.isatty() else {"mininterval": 60}
        total = self.args.E * sum(len(story) - 1 for story in self.stories)
        self.bar = tqdm(
            total=total, initial=self.seen, unit=" tokens", unit_scale=True,
            disable=not self.first, **slow,
        )
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.bar)
            stack.enter_context(self.signal.awaited())
            self.entered = stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self.entered.close()

    def segments(self) -> Iterator[tuple[Tensor, Tensor, Tensor, State | None, float]]:
        """The segments of all minibatches of the epochs that are left, each for a gradient step.

        Yields inputs, targets, lengths, the state that the minibatch carries from one segment to
        the next (None if it has but one), and the segment's share of its tokens. Ends early after
        `-patience` epochs without a better valid loss.
        """
        if any(sum_over_processes(self.lost_model)):
            self.best = math.inf
            self.report()
        while self.epoch <= self.args.E:
            self.report_if_due()
            for batch, parts in self.minibatches():
                self.begin_step(parts)
                yield from self.shares(parts)
                self.end_step(batch)
                self.save_state_if_due()
                self.report_if_due()
            self.report()
            patience = self.args.patience
            if patience and self.epoch - self.best_epoch >= patience:
                why = f"no better valid loss for {patience} epochs (-patience)"
                tqdm.write(f"stopped early: {why}")
                break
            self.epoch += 1
            self.done = 0

    def minibatches(self) -> Iterator[tuple[list[int], list[tuple]]]:
        """The numbers of the stories of each minibatch that is left of this epoch, its segments."""
        # A generator of its own, so that the order of any epoch is known anew.
        generator = torch.Generator().manual_seed(self.args.seed * 10_007 + self.epoch)
        shown = hide_rare(self.counts, generator)
        batches = shuffled_batches(self.stories, self.args.B, generator)

        def build(batch: list[int]) -> tuple[list[int], list[tuple]]:
            stories = [[shown[token] for token in self.stories[number]] for number in batch]
            return batch, list(segments(stories, self.args.bptt, self.collate))

        yield from prefetch(build, batches[self.done :])

    def shares(self, parts: list[tuple]) -> Iterator[tuple]:
        """This process's stories of each segment, and their share of the tokens of the first one.

        A token weighs the same in each segment, so the last one of a lone long story counts little.
        Of several processes each has a share of the stories, and DistributedDataParallel means
        their gradients. What is left of a minibatch is left out when the optimizer refuses a step.
        """
        rank, processes = rank_and_world_size()
        device = self.bare_model.output.weight.device
        state = self.begin_state(parts)
        for inputs, targets, lengths in parts[self.part :]:
            mine = slice(rank, None, processes)
            weight = processes
            if rank >= len(inputs):  # none of its stories reaches so far, but it must take part
                mine = slice(1)
                weight = 0
                state = None
            lengths = lengths[mine]
            share = weight * int(lengths.sum()) / self.first_tokens
            yield inputs[mine].to(device), targets[mine].to(device), lengths, state, share
            if self.optimizer.refused:
                return
            self.part += 1
            if self.part < len(parts):
                self.save_state_if_due(state, len(inputs))

    def begin_state(self, parts: list[tuple]) -> State | None:
        """The state that a minibatch carries: an empty one, or where a stopped run left it."""
        if not self.part:
            return State() if len(parts) > 1 else None
        rank, processes = rank_and_world_size()
        state = carried_state(self, parts)
        if rank >= len(parts[self.part - 1][0]):  # none of its stories reached so far
            return None
        return state.take(slice(rank, None, processes))

    def begin_step(self, parts: list[tuple]) -> None:
        """Before the segments of a minibatch: its learning rate, its tokens."""
        if not self.part:  # else it was begun by the run that was stopped
            self.step += 1
            self.step_nats = 0.0
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.steps, group["peak"], self.args.schedule)
        self.optimizer.refused = False
        self.first_tokens = int(parts[0][2].sum())
        self.step_tokens = sum(int(lengths.sum()) for _, _, lengths in parts)

    def add(self, loss: Tensor) -> None:
        """Count the loss of a segment, weighed by its share."""
        processes = rank_and_world_size()[1]
        self.step_nats += loss.item() * self.first_tokens / processes

    def end_step(self, batch: list[int]) -> None:
        """After the segments of a minibatch of stories: count and show."""
        nats = sum_over_processes(self.step_nats)[0]
        self.part = 0
        self.carried = {}
        self.done += 1
        self.seen += self.step_tokens
        if math.isfinite(nats) and not self.optimizer.refused:
            self.nats += nats
            self.tokens += self.step_tokens
            self.in_a_row = 0
        else:
            self.skip(batch)
        loss = nats / self.step_tokens
        self.bar.set_postfix_str(f"epoch {self.epoch}, loss {loss:.3f}", refresh=False)
        self.bar.update(self.step_tokens)

    def report_if_due(self) -> None:
        """Report within an epoch every `-valid_every` steps, if that was not done yet."""
        due = self.step % self.args.valid_every == 0 and self.reported < self.step
        if due and not self.part and self.done < self.last_of_epoch:
            self.report()

    def skip(self, batch: list[int]) -> None:
        """Count a step that was not done, with these stories; too many in a row are a UserError."""
        self.skipped += 1
        self.in_a_row += 1
        what = "loss or gradient is no finite number"
        count = f"step skipped ({self.skipped} so far)"
        tqdm.write(f"step {self.step}: {what}, {count}", file=sys.stderr)
        if self.in_a_row == SKIPS:
            numbers = ", ".join(str(number + 1) for number in sorted(batch))
            kept = f"; {self.state_file} is from before" if self.state_file.exists() else ""
            raise UserError(
                f"-lr {self.args.lr}: {what} in {SKIPS} steps in a row, the last with stories "
                f"{numbers} of {self.args.train_corpus}{kept}; give a smaller -lr, or look at the "
                "stories"
            )
