"""Beside what one would install instead: notmiwae-pytorch to train, scikit-learn's IterativeImputer to complete.

    pip install notmiwae-pytorch tensorboard  # PyPI, 0.1.3; left out where it is not installed

Both trainings run the very same layers: the peer's encoder and decoder are put into this package's model and guide.
"""

from __future__ import annotations

import importlib.util
import tempfile
import warnings
from typing import Any

import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from contenders import RATE, Run
from problem import survey
from pyro.nn import PyroModule
from report import Report, beside_targets, where_time_goes
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from steps import measure, ratios
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pyro_mnar import Batch, Fit, ImportanceWeightedELBO, Table, fit, impute, rows
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.infer.session import Session
from pyro_mnar.models import GINA, NotMIWAE
from pyro_mnar.training import Trainer, TrainingRun
from pyro_mnar.training.steps import Steps

PEER = "notmiwae-pytorch"
OURS = "fit and impute"
LATENT_DIM, HIDDEN, BATCH = 10, 128, 128  # widths are the peer's own, which has one for all layers


class TheirDecoder(nn.Module):
    """The peer's decoder as p(X|Z)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: torch.Tensor) -> Any:
        return dist.Normal(*self.network(z))


class TheirEncoder(PyroModule):
    """The peer's encoder as q(Z|X), which sees zeros in gaps and no mask."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Batch) -> None:
        mean, log_variance = self.network(batch.x)
        with rows(batch):
            pyro.sample("z", dist.Normal(mean, (0.5 * log_variance).exp()).to_event(1))


def have_notmiwae() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("notmiwae_pytorch", "tensorboard"))


def epoch_of_peer(num_rows: int = 2_000, particles: int = 20, rounds: int = 5, mode: str = "inductor") -> Report:
    """Seconds an epoch at equal network, K and minibatches."""
    note = (
        f"{num_rows:,} rows × 20 columns, not-MIWAE with self-masking, networks of {HIDDEN} × {HIDDEN}, H ="
        f" {LATENT_DIM}, K = {particles}, minibatches of {BATCH}, Adam; medians of {rounds} rounds of an epoch each."
    )
    if not have_notmiwae():
        print("notmiwae-pytorch is not installed and is left out: pip install notmiwae-pytorch tensorboard")
        return Report(pd.DataFrame(columns=[f"fit, {mode} over"]), note)
    table = Table.from_frame(survey(num_rows), auxiliary=[], dtype=torch.float32)
    runs = {f"fit, {way}": our_epochs(table, particles, way) for way in dict.fromkeys((mode, "eager"))}
    with tempfile.TemporaryDirectory() as folder:
        runs[PEER] = their_epochs(table, particles, folder)
        seconds = measure(runs, rounds, 1) / 1e3
    return Report(ratios(seconds, f"fit, {mode}", "seconds an epoch"), note)


def our_epochs(table: Table, particles: int, mode: str) -> Run:
    """Epochs as :func:`~pyro_mnar.fit` has them."""
    training = TrainingRun(
        their_pair(table, particles),
        ImportanceWeightedELBO(particles),
        table.source(),
        None,
        Session(0),
        learning_rate=RATE,
        num_steps=1_000 * len(table),
        batch_size=BATCH,
    )
    with training.session.running():
        trainer = Trainer(training, Steps(training.optimisation, mode))

    def run(count: int) -> None:
        for _ in range(count):
            trainer.epoch()

    return run


def their_epochs(table: Table, particles: int, folder: str) -> Run:
    """Epochs as the peer's own trainer has them."""
    import notmiwae_pytorch as peer

    batch = table.batch()
    trainer = peer.Trainer(their_model(table, particles), lr=RATE, device="cpu", log_dir=folder, checkpoint_dir=folder)
    trainer.writer.close()  # one that only its method `train` writes to
    loader = DataLoader(TensorDataset(batch.x, batch.mask.float()), batch_size=BATCH, shuffle=True)

    def run(count: int) -> None:
        for _ in range(count):
            trainer.train_epoch(loader)

    return run


def their_model(table: Table, particles: int) -> nn.Module:
    import notmiwae_pytorch as peer

    torch.manual_seed(0)
    return peer.NotMIWAE(table.schema.num_columns, LATENT_DIM, HIDDEN, particles, missing_process="selfmasking")


def their_pair(table: Table, particles: int) -> Fit:
    """The same network as a model and a guide of this package."""
    network = their_model(table, particles)
    model = NotMIWAE(table, latent_dim=LATENT_DIM, decoder=TheirDecoder(network.decoder), seed=0).to(table.dtype)
    return Fit(model, TheirEncoder(network.encoder), table.schema)


def completed_tables(num_rows: int = 2_000, rounds: int = 3, draws: int = 20, epochs: int | None = None) -> Report:
    """A frame completed: table, model, fit and draws with the defaults, over scikit-learn's IterativeImputer."""
    frame = survey(num_rows)

    def theirs(count: int, **options: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # its ten rounds are what its defaults give
            for number in range(count):
                IterativeImputer(random_state=number, **options).fit_transform(frame)

    def ours(_: int) -> None:
        table = Table.from_frame(frame, auxiliary=[], dtype=torch.float32)
        model = GINA(table, seed=0)
        guide = ZeroImpute(table, model.latent_dim, seed=0)
        impute(fit(model, guide, table, epochs=epochs, progress=False), table, num_draws=draws)

    runs: dict[str, Run] = {
        OURS: ours,
        f"{draws} tables by IterativeImputer(sample_posterior=True)": lambda _: theirs(draws, sample_posterior=True),
        "IterativeImputer, one table of means": lambda _: theirs(1),
    }
    seconds = measure(runs, rounds, 1, cpu_time=True) / 1e3
    most = dict(zip(list(runs)[1:], (0.5, 3.0), strict=True))
    note = (
        f"{num_rows:,} rows × 20 columns, three in ten values missing by chance; table, `GINA`, `fit` and `impute` with"
        f" their defaults, {draws} draws; seconds of the processor; medians of {rounds} rounds."
    )
    found = beside_targets(ratios(seconds, OURS, "seconds"), "ratio", most)
    return Report(found, note, lambda: where_time_goes(lambda: ours(1)))
