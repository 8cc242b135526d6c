"""Any device, any float type: a whole training step where every tensor has to follow its inputs.

Without a GPU the stand-in is the meta device. It computes nothing, so it lets some operations mix devices (F.linear,
indexing); a dispatch mode raises on those.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from checks import own_store, table_with_gaps
from pyro_mnar import Batch, Fit, ImportanceWeightedELBO, fit, impute, mechanisms
from pyro_mnar.guides import FromModel, ZeroImpute
from pyro_mnar.infer.session import Session
from pyro_mnar.models import GINA, NormalMixture, NotMIWAE, PartialVAE
from pyro_mnar.training import TrainingRun
from pyro_mnar.training.copies import copied_modules, copied_store

CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here"))
MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
MECHANISMS = (
    mechanisms.Constant,
    mechanisms.SelfMasking,
    mechanisms.LatentDependent,
    mechanisms.FullyConnected,
    mechanisms.General,
)


class OneDevice(TorchDispatchMode):
    """Raises on an operation over tensors of several devices; 0-dimensional CPU tensors are numbers to torch."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        devices = {t.device.type for t in tensors if t.dim() or t.device.type != "cpu"}
        if len(devices) > 1 and func not in MOVES:
            raise AssertionError(f"{func} mixes {sorted(devices)}")
        return func(*args, **(kwargs or {}))


def step(model: torch.nn.Module, guide: torch.nn.Module, batch: Batch, estimator: str = "pathwise") -> Tensor:
    """Loss, backward, one unfused Adam step, on the device and in the type of the batch."""
    model.to(batch.x.device, batch.x.dtype)
    guide.to(batch.x.device, batch.x.dtype)
    parameters = [*model.parameters(), *guide.parameters()]
    optimiser = torch.optim.Adam(parameters, fused=False)
    with own_store(), pyro.validation_enabled(False), OneDevice():
        loss = ImportanceWeightedELBO(3, estimator).differentiable_loss(model, guide, batch)
        loss.backward()
        optimiser.step()
    assert all(p.grad is None or (p.grad.dtype, p.grad.device) == (p.dtype, p.device) for p in parameters)
    assert any(p.grad is not None for p in parameters)
    return loss


def batch_of(dtype: torch.dtype, device: str) -> Batch:
    batch = table_with_gaps().batch().take(torch.arange(10))
    moved = {name: getattr(batch, name).to(dtype) for name in ("x", "aux")}
    return Batch(**{**vars(batch), **moved}).to(device)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["meta", "cpu", CUDA])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("default", [torch.float32, torch.float64])
def test_a_step_of_gina_follows_its_inputs(
    mechanism: type, dtype: torch.dtype, device: str, default: torch.dtype
) -> None:
    """Under either default type, so that no tensor is made in the default one by chance."""
    table = table_with_gaps()
    model = GINA(table, latent_dim=2, mechanism=mechanism)
    guide = ZeroImpute(table, model.latent_dim, hidden=[5])
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        loss = step(model, guide, batch_of(dtype, device))
    finally:
        torch.set_default_dtype(before)
    assert (loss.dtype, loss.device.type) == (dtype, device)


@pytest.mark.parametrize("device", ["meta", CUDA])
@pytest.mark.parametrize("model_class", [GINA, NotMIWAE, PartialVAE])
@pytest.mark.parametrize("estimator", ["pathwise", "doubly-reparameterized"])
def test_a_step_of_every_model_stays_on_its_device(model_class: type, device: str, estimator: str) -> None:
    table = table_with_gaps()
    model = model_class(table, latent_dim=2)
    step(model, ZeroImpute(table, 2, hidden=[5]), batch_of(torch.float64, device), estimator)


def test_the_mode_notices_a_tensor_that_does_not_follow_its_inputs() -> None:
    weight = torch.ones(3, 3)
    with OneDevice(), pytest.raises(AssertionError, match="mixes"):
        torch.nn.functional.linear(torch.ones(2, 3, device="meta"), weight)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_float32_and_float64_agree(device: str) -> None:
    """The same noise in both types, with guide and model at their initial parameters."""
    losses = {}
    for dtype in (torch.float32, torch.float64):
        table = table_with_gaps()
        model = GINA(table, latent_dim=2, seed=0).to(device, dtype)
        guide = ZeroImpute(table, 2, hidden=[5], seed=0).to(device, dtype)
        torch.manual_seed(0)
        with own_store():
            samples = [ImportanceWeightedELBO(50).loss(model, guide, batch_of(dtype, device)) for _ in range(40)]
        losses[dtype] = torch.tensor(samples)
    difference = losses[torch.float32].mean() - losses[torch.float64].mean()
    error = (sum(sample.var() / len(sample) for sample in losses.values())) ** 0.5
    assert difference.abs() < 5 * error  # false alarm rate 1e-6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_fit_moves_model_and_guide_to_the_device_asked_for() -> None:
    table = table_with_gaps()
    model = GINA(table, latent_dim=2, seed=0)
    result = fit(model, ZeroImpute(table, 2, seed=0), table, epochs=2, device="cuda", progress=False)
    assert result.device.type == "cuda"
    assert result.history["bound"].notna().all()


@pytest.mark.parametrize("device", ["meta", "cpu", CUDA])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_of_whole_rows_stays_on_its_device(device: str, dtype: torch.dtype) -> None:
    model = NormalMixture(table_with_gaps(num_auxiliaries=0), num_classes=2, seed=0)
    assert step(model, FromModel(), batch_of(dtype, device)).device.type == device


def test_tensors_of_ones_own_elsewhere_are_named() -> None:
    """As a function's are, of which ``fit`` cannot know: here on the processor, the rows on the meta device."""
    table, elsewhere = table_with_gaps(), torch.zeros(2)

    class Elsewhere(ZeroImpute):
        def forward(self, batch: Batch) -> None:
            pyro.deterministic("moved", batch.x[:, :2] + elsewhere)
            super().forward(batch)

    pair = Fit(GINA(table, latent_dim=2).to("meta"), Elsewhere(table, 2).to("meta"), table.schema)
    options = {"learning_rate": 0.1, "num_steps": 1, "batch_size": 8}
    with pytest.raises(ValueError, match=r"device: model or guide holds tensors that are not on 'meta': let modules"):
        TrainingRun(pair, ImportanceWeightedELBO(2), table.source("meta"), None, Session(0, "meta"), **options)


def test_a_fit_on_another_device_is_a_copy_with_all_it_holds() -> None:
    def shifted(batch: Batch) -> None:
        pyro.param("shift", lambda: batch.x.new_zeros(3))
        GINA.forward(model, batch)

    table = table_with_gaps()
    model, guide = GINA(table, latent_dim=2, seed=0), ZeroImpute(table, 2, seed=0)
    here = fit(model, guide, table, epochs=1, bootstrap=2, start="random", progress=False)
    there = here.on("meta")
    assert there.device.type == "meta" and all(one.device.type == "meta" for one in there.bootstrap)
    assert here.device.type == "cpu" and here.model is model and here.on("cpu") is here
    assert any("encoder" in name for name in here.store["params"]) and not there.store["params"]  # mirrored, not owned
    copy = copied_modules(model, guide), copied_store(here.store, model, guide, device="cpu")
    copied = replace(here.without_bootstrap(), model=copy[0][0], guide=copy[0][1], store=copy[1])
    drawn = [impute(one, table, num_draws=2, num_particles=5).draws for one in (here.without_bootstrap(), copied)]
    assert (drawn[0] == drawn[1]).all()
    with pyro.get_param_store().scope():
        shifted(table.batch())
        of_store = Fit.from_svi(shifted, guide, table).on("meta").store["params"]["shift"]
    assert of_store.device.type == "meta" and of_store.requires_grad and of_store.is_leaf
    with pytest.raises(ValueError, match="device: cannot use 'cuda:99'"):
        here.on("cuda:99")
