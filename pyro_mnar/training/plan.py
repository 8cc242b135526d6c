"""How the initialisations of one fit are trained: what they share, and whether all at once or in turn."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from pyro_mnar.capture.internals import CannotCapture
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.session import Session
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.restarts import Start, Trained
from pyro_mnar.training.reweighted import Reweighted
from pyro_mnar.training.run import TrainingRun
from pyro_mnar.training.steps import Choice, Steps, Thresholds
from pyro_mnar.training.trainer import EpochTrainer, Trainer, run_epochs
from pyro_mnar.training.vectorised import VectorisedTrainer

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
        keeps_best: Whether the parameters of the best epoch are kept, or those of the last one: where a run starts near
            its end, noise would choose an epoch too early.
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

    def run(self, start: Start) -> Trained:
        """Train one initialisation."""
        run = self._run_from(start)
        try:
            with run.session.running():
                steps = Steps(run.optimisation, self.mode, self.thresholds)
        except KeyboardInterrupt:  # a capture takes a second, compiling half a minute
            return _trained(run, interrupted=True)
        interrupted = self._epochs(Trainer(run, steps), start.label)
        return _trained(run, interrupted)

    def run_all(self, starts: Sequence[Start]) -> list[Trained]:
        """Train several: at once if their step can be captured and the run is long enough for it, else in turn.

        Ctrl-C ends the training of all.
        """
        is_auto = self.mode == "auto"
        steps = self._num_steps * len(starts)  # which one capture serves
        choice = self.thresholds.before_capture(steps, self.device) if is_auto else Choice(self.mode, "")
        reason = choice.reason
        if choice.mode != "eager":
            runs = [self._run_from(start) for start in starts]
            try:
                trainer = VectorisedTrainer(runs, self.mode, self.thresholds)
            except CannotCapture as cause:
                reason = str(cause)
            else:
                log.info("starts: %d at once (%s)", len(starts), trainer.steps.mode)
                interrupted = self._epochs(trainer, f"{len(starts)} starts")
                return [_trained(run, interrupted) for run in runs]
        log.info("starts: in turn (%s)", reason or "as asked for")
        trained: list[Trained] = []
        for start in starts:
            trained.append(self.run(start))
            if trained[-1].interrupted:
                break
        return trained

    @property
    def _num_steps(self) -> int:
        return self.epochs * math.ceil(len(self.table) / self.batch_size)

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
            keeps_best=self.keeps_best,
        )

    def _epochs(self, trainer: EpochTrainer, label: str) -> bool:
        return run_epochs(trainer, self.epochs, patience=self.patience, progress=self.progress, label=label)


def _trained(run: TrainingRun, interrupted: bool) -> Trained:
    fit = run.result()
    fit.interrupted = interrupted
    return Trained(fit, interrupted)
