"""Fit a model and a guide to a table by stochastic variational inference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from pyro_mnar.capture.tracing import MODES
from pyro_mnar.devices import check_holds_numbers, device_of
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.parameters import module_parameters
from pyro_mnar.infer.session import Session
from pyro_mnar.memory import COPIES_OF_A_STEP, check_room
from pyro_mnar.messages import check_boolean, is_real, positive_number, seed_of, shown, whole_number
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.table import Table
from pyro_mnar.training.bootstrap import SHARE_OF_RATE, bootstrap_epochs, bootstrapped, refuse_posterior
from pyro_mnar.training.call import settings_of
from pyro_mnar.training.checkpoint import Checkpoint, refuse_place
from pyro_mnar.training.data_start import AT_RANDOM, FROM_DATA, begin
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.particle_gain import particle_gain, say
from pyro_mnar.training.plan import TrainingPlan
from pyro_mnar.training.restarts import Start, best_of
from pyro_mnar.training.run import TrainingError
from pyro_mnar.training.schedule import LEAST_EPOCHS, default_epochs, default_rate, steps_per_epoch
from pyro_mnar.training.stepper import CLIP
from pyro_mnar.training.warm_start import continued, take_over

COPIES_OF_PARAMETERS = 4  # themselves, two moments, the best so far
BYTES_OF_A_MEMBER = 10_000  # states of random numbers and Python's own objects, at least

__all__ = ["TrainingError", "fit"]


def fit(
    model: Callable[[Batch], Any],
    guide: Callable[[Batch], Any],
    table: Table,
    *,
    epochs: int | None = None,
    batch_size: int = 128,
    num_particles: int = 5,
    learning_rate: float | None = None,
    clip: float | None = CLIP,
    seed: int = 0,
    device: torch.device | str | None = None,
    estimator: str = "pathwise",
    held_out: float | Table = 0.0,
    patience: int | None = None,
    restarts: int = 1,
    bootstrap: int = 0,
    start: Fit | Literal["data", "random"] | None = None,
    checkpoint: str | PathLike[str] | None = None,
    every: int | None = None,
    resume: bool = False,
    progress: bool = True,
    compile: str = "auto",  # noqa: A002  (the word that torch has for it)
) -> Fit:
    """Train by SVI: Adam on minibatches of the importance-weighted bound, with a learning rate that falls to zero.

    Ctrl-C ends training early and returns what was fitted so far; ``Fit.interrupted`` says so, and imputing warns.

    Args:
        model: Any callable of a :class:`~pyro_mnar.Batch`.
        guide: Its guide; latents that it leaves out are proposed from the model.
        table: The rows to fit.
        epochs: Passes over the table; by default enough for 40 steps where model and guide start from the data, else
            for 3,000 steps, and at least 30.
        batch_size: Rows of a minibatch.
        num_particles: K.  What more would add to the bound stands in ``Fit.particle_gain`` after training, and the log
            warns where it is large: few particles pull mechanisms towards ignorable ones.
        learning_rate: Adam's, at the start; by default 0.02, and from the data 0.0001 for 150 steps and fewer, 0.02 for
            3,000, in between by their logarithms.
        clip: A minibatch's gradient is made no longer than so many times the root mean square of those before it, so
            that a row far from all others does not hold the steps after it back (docs/how_to.md); None for no limit.
        seed: Of minibatches, noise and held-out rows; the caller's generators stay as they are.
        device: Where to train; by default where the parameters are.
        estimator: As for :class:`~pyro_mnar.ImportanceWeightedELBO`.
        held_out: A share of the rows to hold out, or a table of other rows, whose bound is reported every epoch.
        patience: Stop when the monitored bound (held-out if there is one, else the training bound's running mean) has
            not improved for so many epochs.
        restarts: R, initialisations to train: the model as given, and R - 1 copies with parameters drawn at random;
            where steps are captured, all at once, as one batched computation.  The best by the bound (held-out if rows
            are) is kept; all are in ``Fit.members``, their bounds in ``Fit.restarts``.
        bootstrap: M, fits to bootstrap weights of the rows beside the one to the rows as they are, so that
            :func:`~pyro_mnar.impute` makes each draw with parameters of its own and intervals of pooled results have
            the right width.  Each starts from the fit and takes a quarter of its epochs; where steps are captured, all
            are trained at once, as one batched computation.  They are in ``Fit.bootstrap``
            (:mod:`pyro_mnar.training.bootstrap`).
        start: Where parameters start. None: where EM on the linear-Gaussian self-masked model ends
            (:mod:`pyro_mnar.models.data_start`), if the data say so of all parameters and both objects are as they were
            made; else where they are. It is said of columns of numbers, mechanisms without networks and the guides
            ``ZeroImpute`` and ``MeanField`` (docs/models/gina.md). ``"data"``: there, whatever the parameters were, or
            an error. ``"random"``: where they are. A fit of the same schema: its parameters are put into model and
            guide before training (the same objects, or others made alike), and the history goes on; Adam starts anew,
            at ``learning_rate``; refuses ``restarts``. Of several ``restarts`` the first starts from the data; these
            and ``bootstrap`` take the steps and the rate of a random start.
        checkpoint: A file to keep what training has reached, for ``resume``; the one before it is kept beside it
            (docs/saving.md).
        every: Epochs between two checkpoints; by default there is one as soon as ten seconds have passed.  What was
            trained since is lost with the process; Ctrl-C loses no finished epoch.
        resume: Go on from ``checkpoint`` if it is there, to the numbers that training without an interruption gives;
            model and guide are made as for the first call, and get their parameters from the file.
        progress: Show a bar.
        compile: How steps are run: ``"eager"``, by Python; ``"graph"``, captured once as a list of tensor operations;
            ``"inductor"``, captured and compiled; ``"auto"``, what pays for the number of steps ahead.  A model that
            cannot be captured is run by Python; the log (``logging``, logger ``pyro_mnar``) says why.

    Returns:
        The trained model and guide (the same objects), with the best parameters by the monitored bound, and the
        history.

    Raises:
        TypeError: If model or guide is a class or cannot be called, ``table`` is no Table, or ``start`` or
            ``checkpoint`` is of another type than named above.
        ValueError: If model or guide was made for another table, the two do not fit each other, an argument is out of
            range, values lie outside a likelihood's support, the table's floating type is not the model's, or a model
            to restart is a function whose parameters cannot be copied; if ``start="data"`` and the data do not say
            where that is; if ``checkpoint`` is there and is not to be gone on from, cannot be read, or was made by
            another call, which names the setting.
        OSError: If ``checkpoint`` cannot be written.
        TrainingError: (a ValueError) If the objective is not finite: names epoch, batch and site, and keeps the last
            good fit.
    """
    if not isinstance(table, Table):
        raise TypeError(f"table: expected a Table, such as Table.from_frame makes, got {type(table).__name__}")
    check_boolean("resume", resume)
    check_boolean("progress", progress)
    _check_arguments(epochs, batch_size, learning_rate, patience, restarts, every, compile)
    if clip is not None:
        clip = positive_number("clip", clip)
    if whole_number("bootstrap", bootstrap, 0) == 1:
        raise ValueError(f"bootstrap: expected 0 or at least 2, got {bootstrap}")
    if checkpoint is None and (resume or every is not None):
        given = "resume=True" if resume else f"every={every}"
        raise ValueError(f"checkpoint: expected a file beside {given}, got none")
    if checkpoint is not None:
        refuse_place(checkpoint, resume=resume)
    word = start if isinstance(start, str) else None
    if not (start is None or word in (FROM_DATA, AT_RANDOM) or isinstance(start, Fit)):
        raise TypeError(
            f"start: expected a Fit, such as Fit.load(path) gives, {FROM_DATA!r} or {AT_RANDOM!r}, got {shown(start)}"
        )
    seed_of(seed)
    objective = ImportanceWeightedELBO(num_particles, estimator)
    table, validation = _split(table, held_out, seed)
    untrained = Fit(model, guide, table.schema)  # refuses what is no pair for this table
    device = device_of(device) if device is not None else untrained.device
    per_epoch = steps_per_epoch(len(table), batch_size)
    steps = (epochs or LEAST_EPOCHS) * per_epoch
    _check_memory(untrained, table, steps, min(batch_size, len(table)), num_particles, restarts, bootstrap, device)
    for module in (model, guide):
        if isinstance(module, nn.Module):
            module.to(device)
    if isinstance(start, Fit) and restarts > 1:
        raise ValueError(f"start: expected no restarts, which draw parameters anew, got restarts={restarts}")
    from_data = not isinstance(start, Fit) and begin(model, guide, table, device, word)
    start = start if isinstance(start, Fit) else None
    is_near = from_data and restarts == 1 and not bootstrap
    epochs = epochs or default_epochs(len(table), batch_size, is_near=is_near)
    learning_rate = learning_rate or default_rate(epochs * per_epoch, is_near=is_near)
    kept = None
    if checkpoint is not None:
        numbers = {
            "batch_size": int(batch_size),
            "num_particles": objective.num_particles,
            "clip": None if clip is None else float(clip),
            "seed": int(seed),
            "device": str(device),
            "estimator": estimator,
            "patience": None if patience is None else int(patience),
            "restarts": int(restarts),
            "bootstrap": int(bootstrap),
            "compile": compile,
        }
        settings = settings_of(model, guide, table, validation, start, **numbers)
        # Last, since these may follow from the others.
        settings |= {"from the data": from_data, "epochs": int(epochs), "learning_rate": float(learning_rate)}
        kept = Checkpoint(checkpoint, every, settings, (model, guide), resume=resume)
    check_holds_numbers(device)
    plan = TrainingPlan(
        objective,
        table,
        validation,
        epochs,
        batch_size,
        learning_rate,
        device,
        patience,
        progress,
        compile,
        stage=None if kept is None else kept.stage("point"),
        clip=clip,
    )
    if bootstrap:
        refuse_posterior(guide, table, device, seed)
    with plan.enough_threads():
        if start is not None:
            before = start.history
            point, interrupted = plan.run(Start(model, guide, seed, take_over(start, model, guide, table)))
            point.history = continued(before, point.history)
        elif restarts == 1:
            point, interrupted = plan.run(Start(model, guide, seed))
        else:
            point, interrupted = best_of(restarts, plan.run_all, model, guide, table, validation or table, seed)
        point.table, point.num_rows, point.from_data = table, len(table), is_near
        if len(point.history) and not interrupted:
            point.particle_gain = particle_gain(
                point.model,
                point.guide,
                table.source(device),
                Session(seed, device, point.store),
                num_particles=num_particles,
                row_steps=len(point.history) * len(table),
            )
            say(point.particle_gain)
        if bootstrap and not interrupted:
            shorter = replace(
                plan,
                validation=None,
                epochs=bootstrap_epochs(epochs, per_epoch),
                learning_rate=SHARE_OF_RATE * learning_rate,
                patience=None,
                keeps_best=False,
                stage=None if kept is None else kept.stage("bootstrap"),
            )
            point.bootstrap = bootstrapped(bootstrap, shorter.run_all, point, table, seed)
    return point


def _split(table: Table, held_out: float | Table, seed: int) -> tuple[Table, Table | None]:
    if isinstance(held_out, Table):
        if held_out.schema != table.schema or held_out.dtype != table.dtype:
            raise ValueError("held_out: expected the table's own schema and type; make it with table.new_rows(frame)")
        return table, held_out
    if not (is_real(held_out) and 0 <= held_out < 1):
        raise ValueError(f"held_out: expected a share from 0 to below 1, or a Table, got {shown(held_out)}")
    count = round(held_out * len(table))
    if count == 0:
        return table, None
    if count == len(table):
        raise ValueError(f"held_out: expected a share that leaves rows to train on, got {held_out} of {count} rows")
    order = np.random.default_rng(seed).permutation(len(table))
    return table.take(np.sort(order[count:])), table.take(np.sort(order[:count]))


def _check_memory(
    untrained: Fit,
    table: Table,
    steps: int,
    batch_size: int,
    num_particles: int,
    restarts: int,
    bootstrap: int,
    device: torch.device,
) -> None:
    """Refuse by name what no memory of this machine holds."""
    if device.type != "cpu":
        return
    size = table.dtype.itemsize
    cells = batch_size * table.schema.num_columns
    check_room("num_particles", num_particles, COPIES_OF_A_STEP * cells * size, "particles of a step")
    check_room("epochs", steps, 8, "learning rates of all steps")
    parameters = sum(one.numel() for one in module_parameters(untrained.model, untrained.guide))
    for name, count in (("restarts", restarts), ("bootstrap", bootstrap)):
        check_room(name, count, BYTES_OF_A_MEMBER + COPIES_OF_PARAMETERS * parameters * size, "models, one for each")


def _check_arguments(
    epochs: int | None,
    batch_size: int,
    learning_rate: float | None,
    patience: int | None,
    restarts: int,
    every: int | None,
    mode: str,
) -> None:
    counts = {
        "epochs": epochs, "batch_size": batch_size, "patience": patience, "restarts": restarts, "every": every,
    }  # fmt: skip
    for name, value in counts.items():
        if value is not None:
            whole_number(name, value)
    if learning_rate is not None:
        positive_number("learning_rate", learning_rate)
    if not isinstance(mode, str) or mode not in MODES:
        raise ValueError(f"compile: expected one of {list(MODES)}, got {shown(mode)}")
