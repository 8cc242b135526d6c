"""Two processes reach what one reaches."""

from __future__ import annotations

import math
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch.utils.data import DataLoader

from pyro_mnar import Fit, ImportanceWeightedELBO, Table, impute, partially_observed, rows
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.infer.session import Session
from pyro_mnar.models import GINA
from pyro_mnar.tables.batch import Batch

lightning = pytest.importorskip("lightning")
pytest.importorskip("pyarrow")
from pyro_mnar.scale import MNARModule, ParquetRows, parquet_schema  # noqa: E402

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}
NUM_ROWS = 1_001


@pytest.fixture
def parquet(tmp_path):
    """Two columns of one factor; high values of b go missing."""
    random = np.random.default_rng(0)
    z = random.normal(size=(NUM_ROWS, 1))
    x = z * [0.9, 0.8, 1.0] + random.normal(size=(NUM_ROWS, 3)) * 0.4
    frame = pd.DataFrame(x, columns=["a", "b", "u"])
    frame.loc[frame["b"] + random.normal(size=NUM_ROWS) * 0.3 > 0.5, "b"] = np.nan
    frame.to_parquet(tmp_path / "t.parquet", row_group_size=150)
    return tmp_path / "t.parquet"


def module_for(schema, seed=0, **options):
    model = GINA(schema, latent_dim=1, seed=0)
    guide = ZeroImpute(schema, model.latent_dim, hidden=[8], seed=1)
    return MNARModule(model, guide, schema, ImportanceWeightedELBO(5), seed=seed, learning_rate=0.03, **options)


def trained(parquet, batch_size, seed=0, epochs=12, order=0, **options):
    schema = parquet_schema(parquet, auxiliary=["u"])
    module = module_for(schema, seed)
    trainer = lightning.Trainer(max_epochs=epochs, **{**QUIET, **options})
    trainer.fit(module, ParquetRows(parquet, schema, batch_size=batch_size, seed=order, buffer_rows=300).loader())
    return module, trainer


def bound_of(fit: Fit, parquet, num_particles=50, repeats=8) -> tuple[float, float]:
    """The bound per row, and its spread over repeats."""
    batch = Table.from_frame(pd.read_parquet(parquet), schema=fit.schema).batch()
    session, objective = Session(9, store=fit.store), ImportanceWeightedELBO(num_particles)
    with session.running():
        bounds = [-objective.loss(fit.model, fit.guide, batch) / len(batch) for _ in range(repeats)]
    return float(np.mean(bounds)), float(np.std(bounds, ddof=1))


@pytest.mark.slow
def test_two_processes_reach_the_bound_of_one(parquet):
    # The same 32 rows a step in both cases: what two ranks of 16 rows see together.
    single = [bound_of(trained(parquet, 32, seed, 6, order=seed)[0].fit(), parquet)[0] for seed in range(3)]
    module, trainer = trained(parquet, 16, seed=3, epochs=6, order=3, strategy="ddp_spawn", devices=2)
    assert trainer.world_size == 2
    start = bound_of(module_for(module.schema).fit(), parquet)[0]
    reached = bound_of(module.fit(), parquet)[0]
    spread = float(np.std(single, ddof=1))
    # Four numbers of one law: by Student's t, the fourth is so far from three once in 100 times.
    assert abs(reached - np.mean(single)) < stats.t.isf(0.005, 2) * spread * math.sqrt(1 + 1 / 3), (reached, single)
    assert np.mean(single) - start > 0.5  # nats per row that there were to learn
    assert abs(reached - np.mean(single)) < 0.02 * (np.mean(single) - start)


class Mean(torch.nn.Module):
    """No latent and no gaps, so that the bound has no noise."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.full((2,), 0.5))

    def forward(self, batch: Batch) -> None:
        with rows(batch):
            partially_observed("x", dist.Normal(self.mean, 1.0).expand([len(batch), 2]), batch)


def nothing(batch: Batch) -> None:
    pass


def test_the_average_over_ranks_is_the_loss_of_all_their_rows():
    table = Table.from_numpy(np.random.default_rng(0).normal(size=(40, 2)), auxiliary=[])
    module = MNARModule(Mean(), nothing, table.schema)
    batch = table.batch()
    losses = [
        module._loss(batch.take(rows), 0, 0) for rows in (torch.arange(40), torch.arange(20), torch.arange(20, 40))
    ]
    gradients = [torch.autograd.grad(loss, module.model.mean)[0] for loss in losses]
    torch.testing.assert_close(losses[0], (losses[1] + losses[2]) / 2)
    torch.testing.assert_close(gradients[0], (gradients[1] + gradients[2]) / 2)
    expected = dist.Normal(0.5, 1.0).log_prob(batch.x).sum(-1).mean()
    torch.testing.assert_close(-losses[0].detach(), expected)


def test_accumulated_minibatches_make_the_step_of_the_whole_table():
    table = Table.from_numpy(np.random.default_rng(0).normal(1.0, 1.0, size=(40, 2)), auxiliary=[])
    means = []
    for size, accumulated in ((40, 1), (10, 4)):
        module = MNARModule(Mean(), nothing, table.schema)
        trainer = lightning.Trainer(max_epochs=2, accumulate_grad_batches=accumulated, **QUIET)
        trainer.fit(module, DataLoader(list(table.batches(size)), batch_size=None))
        means.append(module.model.mean.detach())
    torch.testing.assert_close(*means)


@pytest.mark.slow
def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(parquet, tmp_path):
    options = {"enable_checkpointing": True, "default_root_dir": tmp_path}
    whole, _ = trained(parquet, 256, epochs=4, order=None, **options)
    schema = whole.schema
    checkpoint = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path / "kept", every_n_epochs=1, save_top_k=-1)
    trained(parquet, 256, epochs=4, order=None, callbacks=[checkpoint], **options)
    (second,) = [path for path in (tmp_path / "kept").iterdir() if path.name.startswith("epoch=1")]
    module = module_for(schema)
    # Lightning wants the callbacks that made a checkpoint.
    trainer = lightning.Trainer(max_epochs=4, callbacks=[checkpoint], **{**QUIET, **options})
    trainer.fit(module, ParquetRows(parquet, schema, batch_size=256, seed=None).loader(), ckpt_path=second)
    for one, other in zip(whole.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    loaded = MNARModule.load_from_checkpoint(
        second, model=GINA(schema, latent_dim=1), guide=ZeroImpute(schema, 1, hidden=[8]), schema=schema
    )
    assert impute(loaded.fit(), pd.read_parquet(parquet)[:20], num_draws=1).mean().notna().all(axis=None)


KILLED = """
import os, signal, sys
import lightning, torch
from pyro_mnar.scale import ParquetRows, parquet_schema
sys.path.insert(0, "tests")
from scale.test_lightning import EPOCHS, QUIET, kept_in, module_for

class Dies(lightning.Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, number):
        if trainer.current_epoch == 2 and number == 1:
            os.kill(os.getpid(), signal.SIGKILL)

torch.set_default_dtype(torch.float64)
parquet, folder = sys.argv[1:]
schema = parquet_schema(parquet, auxiliary=["u"])
rows = ParquetRows(parquet, schema, batch_size=256, buffer_rows=300)
options = {**QUIET, "enable_checkpointing": True, "callbacks": [kept_in(folder), Dies()]}
trainer = lightning.Trainer(max_epochs=EPOCHS, **options)
trainer.fit(module_for(schema), rows.loader())
"""
EPOCHS = 4


def kept_in(folder):
    """A file of every epoch that was finished."""
    return lightning.pytorch.callbacks.ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)


@pytest.mark.slow
def test_a_killed_process_goes_on_from_its_checkpoint_to_the_same_numbers(parquet, tmp_path):
    """By SIGKILL, in the middle of the third epoch; the order of rows and the noise are those of each epoch."""
    whole, _ = trained(parquet, 256, epochs=EPOCHS)
    folder = tmp_path / "kept"
    done = subprocess.run([sys.executable, "-c", KILLED, str(parquet), str(folder)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert sorted(file.name for file in folder.iterdir()) == ["epoch=0.ckpt", "epoch=1.ckpt"]
    module = module_for(whole.schema)
    trainer = lightning.Trainer(
        max_epochs=EPOCHS, callbacks=[kept_in(folder)], **{**QUIET, "enable_checkpointing": True}
    )
    rows = ParquetRows(parquet, whole.schema, batch_size=256, buffer_rows=300)
    trainer.fit(module, rows.loader(), ckpt_path=folder / "epoch=1.ckpt")
    for one, other in zip(whole.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_bounds_are_logged_and_held_out_rows_validated(parquet):
    schema = parquet_schema(parquet, auxiliary=["u"])
    module = module_for(schema)
    loader = ParquetRows(parquet, schema, batch_size=256).loader()
    trainer = lightning.Trainer(max_epochs=1, **QUIET)
    trainer.fit(module, loader, loader)
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert set(logged) == {"bound", "held_out_bound"}
    reached, spread = bound_of(module.fit(), parquet, num_particles=5, repeats=20)
    # One number more of the same law; so many spreads of twenty come up once in 10^5 times by Student's t.
    assert abs(logged["held_out_bound"] - reached) < stats.t.isf(0.5e-5, 19) * spread * (1 + 1 / 20) ** 0.5


def test_a_parameter_that_no_module_owns_is_refused():
    def of_param(batch):
        mean = pyro.param("mean", torch.zeros(2))
        with rows(batch):
            partially_observed("x", dist.Normal(mean, 1.0).expand([len(batch), 2]), batch)

    table = Table.from_numpy(np.zeros((4, 2)) + np.arange(4.0)[:, None], auxiliary=[])
    with pytest.raises(ValueError, match="a module with parameters"):
        MNARModule(of_param, nothing, table.schema)

    class Half(Mean):
        def forward(self, batch):
            of_param(batch)

    with pytest.raises(ValueError, match="'mean': expected one that a module owns"):
        MNARModule(Half(), nothing, table.schema)._loss(table.batch(), 0, 0)
