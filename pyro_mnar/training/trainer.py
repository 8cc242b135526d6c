"""Epochs: passes over the table, until there were enough, none got better, or Ctrl-C."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Int
from torch import Tensor

from pyro_mnar.training.progress import progress_of
from pyro_mnar.training.run import TrainingRun
from pyro_mnar.training.stepper import Stepper, losses_of


@runtime_checkable
class EpochTrainer(Protocol):
    """Trains one run, or several at once, an epoch at a time."""

    @property
    def column(self) -> str:
        """What the number of an epoch is called."""
        ...

    @property
    def epochs_done(self) -> int:
        """Epochs that were finished."""
        ...

    @property
    def epochs_since_best(self) -> int:
        """Epochs since the monitored bound was best."""
        ...

    def epoch(self) -> float:
        """One pass over the table; returns the estimate of the bound per row, in nats."""
        ...

    def finish(self) -> None:
        """Put the best parameters back."""
        ...

    def state(self) -> dict[str, Any]:
        """All that the epochs to come depend on: numbers, words and copies of tensors."""
        ...


class Trainer:
    """Trains one run.

    Args:
        run: What is trained.
        steps: What takes its steps, on ``run.optimisation``.
    """

    def __init__(self, run: TrainingRun, steps: Stepper) -> None:
        self.run, self.steps, self.column = run, steps, run.column

    @property
    def epochs_done(self) -> int:
        """Epochs that were finished."""
        return len(self.run.history)

    @property
    def epochs_since_best(self) -> int:
        """Epochs since the monitored bound was best."""
        return self.run.epochs_since_best

    def epoch(self) -> float:
        """One pass over the table; returns the estimate of the bound per row, in nats."""
        return self.epoch_on(self.run.shuffled())

    def epoch_on(self, rows: Int[Tensor, "batches size"]) -> float:
        """One pass in a given order."""
        start = time.perf_counter()
        with self.run.session.running():
            losses = losses_of(self.steps, rows).tolist()
        for number, loss in enumerate(losses):
            if not math.isfinite(loss):
                self.run.fail(rows[number], number, loss)
        self._capture_held_out()
        bound = -sum(losses) / len(rows)
        self.run.record(bound, start)
        return bound

    def finish(self) -> None:
        """Put the best parameters back, or the last ones if no epoch was finished."""
        self.steps.synchronise()
        self.run.finish()

    def state(self) -> dict[str, Any]:
        """Of run and steps; to be put into either when both are made anew."""
        return {"run": self.run.state(), "steps": self.steps.state()}

    def _capture_held_out(self) -> None:
        """Evaluate held-out rows by a graph as long as steps are captured."""
        held_out = self.run.held_out
        if held_out is not None and self.steps.mode == "eager":
            held_out.captured = None  # what cannot be trusted in a step cannot be trusted here
        elif not self.run.history:
            self.run.capture_held_out()


def run_epochs(
    trainer: EpochTrainer,
    epochs: int,
    *,
    patience: int | None = None,
    progress: bool = True,
    label: str = "",
    keep: Callable[[], None] | None = None,
) -> bool:
    """Train for so many epochs in all, or until none got better; whether Ctrl-C ended it early.

    Args:
        trainer: What trains; has its best parameters in the end.
        epochs: The most passes over the table.
        patience: Stop when the monitored bound has not improved for so many epochs.
        progress: Show a bar, or in a log a line a tenth.
        label: What the bar calls the run.
        keep: Called after every epoch, to keep what was reached.
    """
    bar = progress_of(epochs, label, shown=progress, done=trainer.epochs_done)
    interrupted = False
    try:
        while not is_over(trainer.epochs_done, trainer.epochs_since_best, epochs, patience):
            value = trainer.epoch()
            if keep is not None:
                keep()
            bar.set_postfix_str(f"{trainer.column} {value:.3f} nats/row")
            bar.update()
    except KeyboardInterrupt:
        interrupted = True
        bar.set_postfix_str("interrupted")
    finally:
        bar.close()
        trainer.finish()
    return interrupted


def is_over(done: int, since_best: int, epochs: int, patience: int | None) -> bool:
    """Whether a run has had its epochs, or so many without a better one as patience allows."""
    return done >= epochs or (patience is not None and since_best >= patience)
