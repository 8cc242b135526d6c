"""Several initialisations trained as one batched computation: the captured step, mapped over their parameters.

Each member has its own parameters, moments, rows and random numbers, from its own seed, so that it is trained as it
would be alone; only tensors that nobody trains (buffers) are shared.  A step of eight small members costs far less than
eight steps, since small tensors take as long as somewhat larger ones.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from pyro_mnar.capture.gradient import capture, mapped
from pyro_mnar.capture.internals import CannotCapture
from pyro_mnar.capture.tracing import flat
from pyro_mnar.infer.session import Session
from pyro_mnar.tables.batch import shuffled
from pyro_mnar.training.adam import State, interpreted
from pyro_mnar.training.steps import CapturedSteps, Steps, best_mode, by_python, write
from pyro_mnar.training.trainer import Trainer

log = logging.getLogger(__name__)


class Together:
    """Trains several members at once, as :class:`~pyro_mnar.training.trainer.Trainer` trains one.

    Args:
        trainers: The members, on the same table and for as many steps.
        mode: ``"graph"``, ``"inductor"``, or ``"auto"``, which chooses one of them.
        batch_size: The most rows of a minibatch.

    Attributes:
        mode: What was chosen.

    Raises:
        CannotCapture: If the step cannot be captured, or not be mapped over members; says why.
    """

    def __init__(self, trainers: Sequence[Trainer], mode: str, batch_size: int) -> None:
        self.trainers, self.column, self.done = trainers, trainers[0].column, 0
        members, sessions = [t.steps for t in trainers], [t.session for t in trainers]
        size = shuffled(len(members[0].batch), batch_size, torch.Generator()).shape[1]
        self.steps: StepsTogether | None = StepsTogether(members, sessions, size)
        if mode == "auto":
            mode, _ = best_mode(len(members[0].rates), members[0].batch.device, self.steps.captured)
        if mode == "inductor":
            self.steps.compile(size)
        self.mode = mode
        self._capture_held_out(trainers[0])

    @property
    def epochs_since_best(self) -> int:
        """Of the member that improved last."""
        return min(trainer.epochs_since_best for trainer in self.trainers)

    def epoch(self, batch_size: int) -> float:
        """One pass over the table by every member; returns the best bound per row, in nats."""
        rows = torch.stack([trainer.shuffled(batch_size) for trainer in self.trainers], dim=1)
        if self.steps is not None:
            try:
                self._epoch_together(self.steps, rows)
            except CannotCapture as cause:
                log.warning("restarts: in turn from epoch %d on (%s)", len(self.trainers[0].history) + 1, cause)
                self.steps.give_up(self.done)
                self.steps = None
        if self.steps is None:
            for trainer, own in zip(self.trainers, rows.unbind(1), strict=True):
                trainer.epoch_of(own, batch_size)
        return max(trainer.history[-1][self.column] for trainer in self.trainers)

    def finish(self) -> None:
        """Put every member's best parameters back."""
        if self.steps is not None:
            self.steps.synchronise()
        for trainer in self.trainers:
            trainer.finish()

    def _capture_held_out(self, first: Trainer) -> None:
        """One graph for all, since parameters are its inputs."""
        if first.held_out is None:
            return
        with first.session.running():
            first.held_out.capture(first.parameters, first.steps.buffers)
        for trainer in self.trainers[1:]:
            assert trainer.held_out is not None
            trainer.held_out.captured = first.held_out.captured

    def _epoch_together(self, steps: StepsTogether, rows: Int[Tensor, "batches members size"]) -> None:
        start, totals = time.perf_counter(), [0.0] * len(self.trainers)
        for number, losses in enumerate(steps.run(rows, self.done)):
            self.done += 1
            for member, loss in enumerate(losses.tolist()):
                if not math.isfinite(loss):
                    steps.synchronise()
                    self.trainers[member].fail(rows[number, member], number, loss)
                totals[member] -= loss
        steps.synchronise()
        for trainer, total in zip(self.trainers, totals, strict=True):
            trainer.record(total / len(rows), start)


class StepsTogether(CapturedSteps):
    """Captured steps of several members; every input but constants and Adam's pair has the members first.

    Args:
        members: Their steps, of which losses, parameters and rates are taken.
        sessions: Their random streams.
        size: Rows of a minibatch.

    Raises:
        CannotCapture: As for :class:`Together`.
    """

    def __init__(self, members: Sequence[Steps], sessions: Sequence[Session], size: int) -> None:
        self.members, self.sessions = members, sessions
        first, *others = members
        with sessions[0].running():
            example = first.batch.take(torch.arange(size, device=first.batch.device))
            captured = capture(first.loss, first.parameters, example, first.buffers)
        for other in others:
            shapes = ([tensor.shape for tensor in steps.parameters] for steps in (first, other))
            buffers = zip(first.buffers, other.buffers, strict=True)
            if len({tuple(own) for own in shapes}) > 1 or not all(torch.equal(a, b) for a, b in buffers):
                raise CannotCapture("members differ in more than the values of their parameters")
        super().__init__(captured, first)
        inputs = self.example(size)
        self.captured = mapped(captured, [inputs[0], *inputs[4:]])
        self.step = interpreted(self.captured)

    def synchronise(self) -> None:
        """Let the members' own parameters be what was trained."""
        for member, theta in zip(self.members, self.state.parameters, strict=True):
            write(member.parameters, theta)

    def give_up(self, done: int) -> None:
        """Let every member go on by Python."""
        for number, member in enumerate(self.members):
            member.by_python_from(State(*(tensor[number] for tensor in self.state)), done)

    def _first_state(self) -> State:
        theta = torch.stack([flat(member.parameters) for member in self.members])
        return State(theta, torch.zeros_like(theta), torch.zeros_like(theta))

    def _rows(self, size: int) -> Int[Tensor, "1 members size"]:
        return super()._rows(size)[:, None].expand(-1, len(self.members), -1)

    def _noise(self, steps: int) -> tuple[Tensor, Tensor]:
        """Each member's from its own session, the numbers that it would draw alone."""
        drawn = []
        for session in self.sessions:
            with session.running():
                drawn.append(super()._noise(steps))
        normal, uniform = zip(*drawn, strict=True)
        return torch.stack(normal, dim=1), torch.stack(uniform, dim=1)

    def _by_python(self, rows: Tensor, normal: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        self.synchronise()
        results = []
        for number, (member, session) in enumerate(zip(self.members, self.sessions, strict=True)):
            with session.running():
                batch = self.batch.take(rows[number])
                results.append(by_python(self.captured, member, batch, normal[number], uniform[number]))
        losses, gradients = zip(*results, strict=True)
        return torch.stack(losses), torch.stack(gradients)
