"""How the initialisations of one fit are trained: what they share, and whether all at once or in turn."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from pyro_mnar.capture.internals import CannotCapture
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.session import Session, threads
from pyro_mnar.tables.table import Table
from pyro_mnar.training.checkpoint import Stage
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.restarts import Start, Trained
from pyro_mnar.training.reweighted import Reweighted
from pyro_mnar.training.run import TrainingRun
from pyro_mnar.training.schedule import steps_per_epoch
from pyro_mnar.training.stepper import CLIP
from pyro_mnar.training.steps import Choice, Steps, Thresholds, check_mode
from pyro_mnar.training.trainer import EpochTrainer, Trainer, is_over, run_epochs
from pyro_mnar.training.vectorised import VectorisedTrainer

# Rows × particles × columns of a step.  On a machine of two cores and a load of eight, a step of 6,400 took 12 ms with
# one thread and 551 with two, one of 128,000 took 48 and 525, one of 1,280,000 took 195 and 882.
CELLS_FOR_THREADS = 250_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingPlan:
    """What all initialisations of one fit share.

    Attributes:
        objective: The bound.
        table: The rows to fit.
        validation: The rows that are held out, if there are any.
        epochs: Passes over the table.
        batch_size: The most rows of a minibatch.
        learning_rate: Adam's, at the start.
        device: Where to train; the pair is there already.
        patience: Stop when the monitored bound has not improved for so many epochs.
        progress: Show a bar.
        mode: How steps are run: ``"eager"``, ``"graph"``, ``"inductor"`` or ``"auto"``.
        thresholds: What ``"auto"`` goes by.
        keeps_best: Whether the parameters of the best epoch are kept, or those of the last one: a bootstrap fit starts
            so near its end that noise would choose an epoch too early.
        stage: Where to keep what was reached, and to go on from, if anywhere.
        clip: How many times as long as usual a gradient may be; None for no limit.
    """

    objective: ImportanceWeightedELBO
    table: Table
    validation: Table | None
    epochs: int
    batch_size: int
    learning_rate: float
    device: torch.device
    patience: int | None = None
    progress: bool = True
    mode: str = "auto"
    thresholds: Thresholds = field(default_factory=Thresholds)
    keeps_best: bool = True
    stage: Stage | None = None
    clip: float | None = CLIP

    def enough_threads(self) -> contextlib.AbstractContextManager[None]:
        """One thread for small steps, and those that are set for others.

        A second thread waits for work longer than it computes, and on a busy machine for as long as others take its
        core.
        """
        cells = min(self.batch_size, len(self.table)) * self.objective.num_particles * self.table.schema.num_columns
        is_small = self.device.type == "cpu" and cells < CELLS_FOR_THREADS
        return threads(1) if is_small else contextlib.nullcontext()

    def run(self, start: Start) -> Trained:
        """Train one initialisation."""
        return self._train(start, 0)

    def run_all(self, starts: Sequence[Start]) -> list[Trained]:
        """Train several: at once if their step can be captured and the run is long enough for it, else in turn.

        Ctrl-C ends the training of all.
        """
        reason = "as before the interruption"
        if self.stage is None or not self.stage.is_begun:
            is_auto = self.mode == "auto"
            steps = self._num_steps * len(starts)  # which one capture serves
            choice = self.thresholds.before_capture(steps, self.device) if is_auto else Choice(self.mode, "")
            reason = choice.reason
            if choice.mode != "eager":
                try:
                    return self._train_together(starts)
                except CannotCapture as cause:
                    reason = str(cause)
        elif self.stage.together is not None:
            return self._resume_together(starts, self.stage.together)
        log.info("starts: in turn (%s)", reason or "as asked for")
        trained: list[Trained] = []
        for number, start in enumerate(starts):
            trained.append(self._train(start, number))
            if trained[-1].interrupted:
                break
        return trained

    def _train(self, start: Start, number: int) -> Trained:
        """Train one initialisation, which is so many among those that are trained in turn."""
        run, saved = self._run_from(start), None if self.stage is None else self.stage.member(number)
        if saved is not None:
            run.put(saved["run"])
            if self._is_over([run]):
                run.finish()
                return _trained(run, interrupted=False)
        try:
            with run.session.running():
                if saved is None:
                    steps = Steps(run.optimisation, self.mode, self.thresholds)
                else:
                    steps = Steps.resumed(run.optimisation, saved["steps"], self.thresholds)
            if saved is not None and saved["run"]["held_out_captured"]:
                run.capture_held_out()
        except KeyboardInterrupt:  # a capture takes a second, compiling half a minute
            return _trained(run, interrupted=True)
        trainer = Trainer(run, steps)
        stage = self.stage
        keep = None if stage is None else lambda: stage.keep_member(number, trainer.state())
        return _trained(run, self._epochs(trainer, start.label, keep))

    def _train_together(self, starts: Sequence[Start]) -> list[Trained]:
        """Train several at once; CannotCapture if that is not to be."""
        runs = [self._run_from(start) for start in starts]
        trainer = VectorisedTrainer(runs, self.mode, self.thresholds)
        log.info("starts: %d at once (%s)", len(starts), trainer.steps.mode)
        return self._together(trainer)

    def _resume_together(self, starts: Sequence[Start], saved: Mapping[str, Any]) -> list[Trained]:
        runs = [self._run_from(start) for start in starts]
        for run, state in zip(runs, saved["runs"], strict=True):
            run.put(state)
        if self._is_over(runs):
            for run in runs:
                run.finish()
            return [_trained(run, interrupted=False) for run in runs]
        mode = saved["mode"]
        try:
            trainer = VectorisedTrainer(runs, mode, self.thresholds, saved)
        except CannotCapture as cause:
            log.warning("starts: not at once any more (%s)", cause)
            check_mode("eager", mode)
            raise
        return self._together(trainer)

    def _together(self, trainer: VectorisedTrainer) -> list[Trained]:
        stage = self.stage
        keep = None if stage is None else lambda: stage.keep_together(trainer.state())
        interrupted = self._epochs(trainer, f"{len(trainer.runs)} starts", keep)
        return [_trained(run, interrupted) for run in trainer.runs]

    def _is_over(self, runs: Sequence[TrainingRun]) -> bool:
        since_best = min(run.epochs_since_best for run in runs)
        return is_over(len(runs[0].history), since_best, self.epochs, self.patience)

    @property
    def _num_steps(self) -> int:
        return self.epochs * steps_per_epoch(len(self.table), self.batch_size)

    def _run_from(self, start: Start) -> TrainingRun:
        source = self.table.source(self.device)
        return TrainingRun(
            Fit(start.model, start.guide, self.table.schema),
            self.objective,
            source if start.weight is None else Reweighted(source, start.weight.to(self.device)),
            None if self.validation is None else self.validation.source(self.device),
            Session(start.seed, self.device, start.store),
            learning_rate=self.learning_rate,
            num_steps=self._num_steps,
            batch_size=self.batch_size,
            clip=self.clip,
            keeps_best=self.keeps_best,
        )

    def _epochs(self, trainer: EpochTrainer, label: str, keep: Callable[[], None] | None) -> bool:
        interrupted = run_epochs(
            trainer, self.epochs, patience=self.patience, progress=self.progress, label=label, keep=keep
        )
        if self.stage is not None:
            self.stage.flush()
        return interrupted


def _trained(run: TrainingRun, interrupted: bool) -> Trained:
    fit = run.result()
    fit.interrupted = interrupted
    return Trained(fit, interrupted)
