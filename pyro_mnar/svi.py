"""Fit a model and a guide to a table by stochastic variational inference."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor, nn
from tqdm import tqdm

from pyro_mnar.batch import Batch, RowSource, shuffled
from pyro_mnar.elbo import ImportanceWeightedELBO
from pyro_mnar.fitted import Fit
from pyro_mnar.isolation import Session
from pyro_mnar.noise import CannotCapture
from pyro_mnar.parameters import module_parameters, trainable_parameters
from pyro_mnar.restarts import Start, Trained, best_of
from pyro_mnar.steps import MODES, Steps, best_mode
from pyro_mnar.table import Table
from pyro_mnar.together import Together

DEFAULT_STEPS = 3_000
LEAST_EPOCHS = 30

log = logging.getLogger(__name__)


class TrainingError(ValueError):
    """The objective stopped being a number.

    Attributes:
        fit: What was fitted before, with the last good parameters.
    """

    def __init__(self, message: str, fit: Fit) -> None:
        super().__init__(message)
        self.fit = fit


def fit(
    model: Callable[[Batch], Any],
    guide: Callable[[Batch], Any],
    table: Table,
    *,
    epochs: int | None = None,
    batch_size: int = 128,
    num_particles: int = 5,
    learning_rate: float = 2e-2,
    seed: int = 0,
    device: torch.device | str | None = None,
    estimator: str = "pathwise",
    held_out: float | Table = 0.0,
    patience: int | None = None,
    restarts: int = 1,
    progress: bool = True,
    compile: str = "auto",  # noqa: A002  (the word that torch has for it)
) -> Fit:
    """Train by SVI: Adam on minibatches of the importance-weighted bound, with a learning rate that falls to zero.

    Ctrl-C ends training early and returns what was fitted so far.

    Args:
        model: Any callable of a :class:`~pyro_mnar.Batch`.
        guide: Its guide; latents that it leaves out are proposed from the model.
        table: The rows to fit.
        epochs: Passes over the table; by default enough for 3,000 steps, and at least 30.
        batch_size: Rows of a minibatch.
        num_particles: K.
        learning_rate: Adam's, at the start.
        seed: Of minibatches, noise and held-out rows; the caller's generators stay as they are.
        device: Where to train; by default where the parameters are.
        estimator: As for :class:`~pyro_mnar.ImportanceWeightedELBO`.
        held_out: A share of the rows to hold out, or a table of other rows, whose bound is reported every epoch.
        patience: Stop when the monitored bound (held-out if there is one, else the training bound's running mean) has
            not improved for so many epochs.
        restarts: R, initialisations to train: the model as given, and R - 1 copies with parameters drawn anew; where
            steps are captured, all at once, as one batched computation.  The best by the bound (held-out if rows are)
            is kept; all are in ``Fit.members``, their bounds in ``Fit.restarts``.
        progress: Show a bar.
        compile: How steps are run: ``"eager"``, by Python; ``"graph"``, captured once as a list of tensor operations;
            ``"inductor"``, captured and compiled; ``"auto"``, what pays for the number of steps ahead.  A model that
            cannot be captured is run by Python; the log (``logging``, logger ``pyro_mnar``) says why.

    Returns:
        The trained model and guide (the same objects), with the best parameters by the monitored bound, and the
        history.

    Raises:
        ValueError: If an argument is out of range, the table's floating type is not the model's, or a model to restart
            is a function whose parameters cannot be copied.
        TrainingError: (a ValueError) If the objective is not finite: names epoch, batch and site, and keeps the last
            good fit.
    """
    if not isinstance(table, Table):
        raise TypeError(f"table: expected a Table, such as Table.from_frame makes, got {type(table).__name__}")
    _check_arguments(epochs, batch_size, learning_rate, patience, restarts, compile)
    objective = ImportanceWeightedELBO(num_particles, estimator)
    table, validation = _split(table, held_out, seed)
    epochs = epochs or max(LEAST_EPOCHS, math.ceil(DEFAULT_STEPS * batch_size / len(table)))
    device = torch.device(device) if device is not None else Fit(model, guide, table.schema).device
    for module in (model, guide):
        if isinstance(module, nn.Module):
            module.to(device)
    training = Training(
        objective, table, validation, epochs, batch_size, learning_rate, device, patience, progress, compile
    )
    if restarts == 1:
        return training.run(Start(model, guide, seed)).fit
    return best_of(restarts, training.run_all, model, guide, table, validation or table, seed)


@dataclass(frozen=True)
class Training:
    """What all initialisations of one fit share; arguments as for :func:`fit`, with ``validation`` the held-out
    rows.
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

    def run(self, start: Start) -> Trained:
        """Train one initialisation."""
        trainer = self._trainer(start)
        interrupted = self._train(trainer, start.label)
        return Trained(trainer.result(), interrupted)

    def run_all(self, starts: Sequence[Start]) -> list[Trained]:
        """Train several: at once if their step can be captured and the run is long enough for it, else in turn.

        Ctrl-C ends the training of all.
        """
        mode, reason = (self.mode, "") if self.mode != "auto" else best_mode(self._steps(), self.device)
        if mode != "eager":
            trainers = [self._trainer(start) for start in starts]
            try:
                together = Together(trainers, mode, self.batch_size)
            except CannotCapture as cause:
                reason = str(cause)
            else:
                log.info("restarts: %d at once (%s)", len(starts), mode)
                interrupted = self._train(together, f"{len(starts)} starts")
                return [Trained(trainer.result(), interrupted) for trainer in trainers]
        log.info("restarts: in turn (%s)", reason or "as asked for")
        trained: list[Trained] = []
        for start in starts:
            trained.append(self.run(start))
            if trained[-1].interrupted:
                break
        return trained

    def _steps(self) -> int:
        return self.epochs * math.ceil(len(self.table) / self.batch_size)

    def _trainer(self, start: Start) -> Trainer:
        fitted = Fit(start.model, start.guide, self.table.schema)
        validation = None if self.validation is None else self.validation.source(self.device)
        session = Session(start.seed, self.device, start.store)
        trainer = Trainer(fitted, self.objective, self.table.source(self.device), validation, session)
        trainer.check()
        trainer.prepare(self.learning_rate, self._steps(), self.mode)
        return trainer

    def _train(self, trainer: Trainer | Together, label: str) -> bool:
        """Run the epochs; whether Ctrl-C ended them early."""
        bar = tqdm(total=self.epochs, unit="epoch", desc=label or None, disable=None if self.progress else True)
        interrupted = False
        try:
            for _ in range(self.epochs):
                value = trainer.epoch(self.batch_size)
                bar.set_postfix_str(f"{trainer.column} {value:.3f} nats/row")
                bar.update()
                if self.patience is not None and trainer.epochs_since_best >= self.patience:
                    break
        except KeyboardInterrupt:
            interrupted = True
            bar.set_postfix_str("interrupted")
        finally:
            bar.close()
            trainer.finish()
        return interrupted


class Trainer:
    """State of one training run: steps, random stream, best parameters, history."""

    def __init__(
        self,
        fit: Fit,
        objective: ImportanceWeightedELBO,
        batch: RowSource,
        validation: RowSource | None,
        session: Session,
    ) -> None:
        self.fit, self.objective, self.batch, self.validation = fit, objective, batch, validation
        self.session = session
        self.history: list[dict[str, float]] = []
        self.best, self.epochs_since_best, self.monitored = -math.inf, 0, math.nan
        self.snapshot: list[Tensor] | None = None
        self.last_good: list[Tensor] = []

    def check(self) -> None:
        """Run the pair once under Pyro's validation, so that a wrong shape fails now and by name."""
        parameters = module_parameters(self.fit.model, self.fit.guide)
        if parameters and parameters[0].dtype != self.batch.dtype:
            raise ValueError(
                f"expected the table's type to be the model's, {parameters[0].dtype}, got {self.batch.dtype}: make"
                f" the table with dtype={parameters[0].dtype}"
            )
        few = self.batch.take(torch.arange(min(len(self.batch), 8), device=self.batch.device))
        with self.session.running(validate=self.batch.device.type != "meta"):
            is_bound = self.objective.is_bound(self.fit.model, self.fit.guide, few)
        weight = getattr(self.fit.model, "mechanism_weight", 1.0)
        uses_mask_twice = self.fit.schema.auxiliary_source == "mask"
        self.column = "bound" if is_bound and weight == 1.0 and not uses_mask_twice else "objective"

    def prepare(self, learning_rate: float, steps: int, mode: str) -> None:
        """Make the optimiser."""
        with self.session.running():
            self.parameters = trainable_parameters(self.fit.model, self.fit.guide)
        if not self.parameters:
            raise ValueError("model and guide have no parameters to train")
        self.last_good = _copies(self.parameters)
        progress = torch.arange(steps, dtype=torch.float64) / steps
        rates = learning_rate * 0.5 * (1 + torch.cos(math.pi * progress))  # a cosine from the given rate to zero
        buffers = [b for m in (self.fit.model, self.fit.guide) if isinstance(m, nn.Module) for b in m.buffers()]
        self.steps = Steps(self._loss, self.parameters, self.batch, rates, mode, buffers)

    def shuffled(self, batch_size: int) -> Int[Tensor, "batches size"]:
        """Rows of the minibatches of one pass."""
        return shuffled(len(self.batch), batch_size, self.session.generator).to(self.batch.device)

    def epoch(self, batch_size: int) -> float:
        """One pass over the table; returns the estimate of the bound per row, in nats."""
        return self.epoch_of(self.shuffled(batch_size), batch_size)

    def epoch_of(self, rows: Int[Tensor, "batches size"], batch_size: int) -> float:
        """One pass in a given order."""
        start, losses = time.perf_counter(), []
        with self.session.running():
            for loss in self.steps.run(rows):
                losses.append(loss)
                if not math.isfinite(loss):
                    break
        if not math.isfinite(losses[-1]):
            self.fail(rows[len(losses) - 1], len(losses) - 1, losses[-1])
        return self.record(-sum(losses) / len(rows), start, batch_size)

    def record(self, value: float, start: float, batch_size: int) -> float:
        """Note a finished epoch that began at a time, and keep the parameters if they are the best so far."""
        row = {"epoch": len(self.history) + 1, self.column: value}
        if self.validation is not None:
            with self.session.running():
                row[f"held_out_{self.column}"] = self._held_out(batch_size)
        row["seconds"] = time.perf_counter() - start
        self.history.append(row)
        self._monitor(row)
        return value

    def fail(self, rows: Int[Tensor, " size"], number: int, loss: float) -> NoReturn:
        """Name the site, and put the last good parameters back."""
        self.steps.synchronise()
        with self.session.running():
            site = next(self._sites_not_finite(self.batch.take(rows)), "none when run again")
        self._restore(self.snapshot or self.last_good)
        raise TrainingError(
            f"epoch {len(self.history) + 1}, batch {number}: the objective is {-loss}; offending site: {site}",
            self.result(),
        )

    def finish(self) -> None:
        """Put the best parameters back, or the last ones if no epoch was finished."""
        self.steps.synchronise()
        if self.snapshot is not None:
            self._restore(self.snapshot)

    def result(self) -> Fit:
        """The fit, with history and store."""
        self.fit.history = pd.DataFrame(self.history)
        self.fit.store = self.session.store
        return self.fit

    def _loss(self, batch: Batch) -> Tensor:
        return self.objective.differentiable_loss(self.fit.model, self.fit.guide, batch) / batch.size

    def _held_out(self, batch_size: int) -> float:
        assert self.validation is not None
        losses = [
            self.objective.loss(self.fit.model, self.fit.guide, batch) / batch.size * len(batch)
            for batch in self.validation.minibatches(batch_size)
        ]
        return -sum(losses) / len(self.validation)

    def _monitor(self, row: dict[str, float]) -> None:
        """Keep the parameters if the held-out bound, or the running mean of the training bound, is the best so far."""
        if self.validation is not None:
            self.monitored = row[f"held_out_{self.column}"]
        else:
            value = row[self.column]
            self.monitored = value if math.isnan(self.monitored) else 0.8 * self.monitored + 0.2 * value
        self.epochs_since_best += 1
        if self.monitored > self.best:
            self.best, self.epochs_since_best = self.monitored, 0
            self.snapshot = _copies(self.parameters)

    def _restore(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.parameters, values, strict=True):
                parameter.copy_(value)

    def _sites_not_finite(self, batch: Batch) -> Iterator[str]:
        run = self.objective.particles(self.fit.model, self.fit.guide, batch)
        for trace in (run.guide_trace, run.model_trace):
            for name, site in trace.nodes.items():
                if site["type"] != "sample" or not isinstance(site["value"], Tensor):
                    continue
                if not site["value"].isfinite().all():
                    yield f"{name!r}, whose value is not finite"
                elif not site["fn"].log_prob(site["value"]).isfinite().all():
                    yield f"{name!r}, whose log-probability is not finite"


def _split(table: Table, held_out: float | Table, seed: int) -> tuple[Table, Table | None]:
    if isinstance(held_out, Table):
        if held_out.schema != table.schema or held_out.dtype != table.dtype:
            raise ValueError("held_out: expected the table's own schema and type; make it with table.new_rows(frame)")
        return table, held_out
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out: expected a share from 0 to below 1, or a Table, got {held_out}")
    count = round(held_out * len(table))
    if count == 0:
        return table, None
    if count == len(table):
        raise ValueError(f"held_out: expected a share that leaves rows to train on, got {held_out} of {count} rows")
    order = np.random.default_rng(seed).permutation(len(table))
    return table.take(np.sort(order[count:])), table.take(np.sort(order[:count]))


def _check_arguments(
    epochs: int | None, batch_size: int, learning_rate: float, patience: int | None, restarts: int, mode: str
) -> None:
    counts = {"epochs": epochs, "batch_size": batch_size, "patience": patience, "restarts": restarts}
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    if not learning_rate > 0:
        raise ValueError(f"learning_rate: expected more than 0, got {learning_rate}")
    if mode not in MODES:
        raise ValueError(f"compile: expected one of {list(MODES)}, got {mode!r}")


def _copies(parameters: list[Tensor]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]
