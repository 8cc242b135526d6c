"""Whose parameters, whose random numbers: fits share neither with each other nor with the caller."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints
from pyro.infer import SVI
from pyro.nn import PyroModule, PyroParam
from torch import Tensor

from checks import gina_pair, own_store, table_with_gaps
from pyro_mnar import Batch, Fit, ImportanceWeightedELBO, Table, fit, impute, observe_mask, partially_observed, rows
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.infer.parameters import check_parameters, trainable_parameters
from pyro_mnar.infer.session import Session
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.models import GINA

QUICK = {"epochs": 2, "batch_size": 16, "progress": False}


def pair(table: Table, seed: int = 0) -> tuple[GINA, ZeroImpute]:
    model = GINA(table, latent_dim=2, mechanism=SelfMasking, seed=seed)  # which has no slope without an edge
    return model, ZeroImpute(table, 2, hidden=[5], seed=seed + 1)


def copies(*modules: torch.nn.Module) -> list[Tensor]:
    return [p.detach().clone() for module in modules for p in module.parameters()]


def all_moved(before: list[Tensor], after: list[Tensor]) -> bool:
    return all(not torch.equal(b, a) for b, a in zip(before, after, strict=True))


def train_by_svi(model: Callable, guide: Callable, batch: Batch, steps: int = 3) -> None:
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), loss=ImportanceWeightedELBO(3))
    for _ in range(steps):
        svi.step(batch)


# Two models of one class.


def test_models_fitted_one_after_another_both_move() -> None:
    table = table_with_gaps()
    for seed in (0, 10):
        model, guide = pair(table, seed)
        before = copies(model, guide)
        fit(model, guide, table, **QUICK)
        assert all_moved(before, copies(model, guide))


def test_models_trained_by_plain_svi_in_stores_of_their_own_both_move() -> None:
    table = table_with_gaps()
    for seed in (0, 10):
        model, guide = pair(table, seed)
        before = copies(model, guide)
        with pyro.get_param_store().scope():
            train_by_svi(model, guide, table.batch())
        assert all_moved(before, copies(model, guide))


def test_plain_svi_on_the_second_model_in_one_store_raises_with_the_cure(own_store: None) -> None:
    table = table_with_gaps()
    train_by_svi(*pair(table), table.batch())
    cure = r"Pyro's store holds the tensor of another module; .* `with pyro.get_param_store\(\).scope\(\):`"
    second = pair(table, 10)
    before = copies(*second)
    with pytest.raises(ValueError, match=cure):
        train_by_svi(*second, table.batch())
    assert not any(not torch.equal(b, a) for b, a in zip(before, copies(*second), strict=True))


def test_a_model_is_trained_on_in_the_store_that_it_filled(own_store: None) -> None:
    table = table_with_gaps()
    model, guide = pair(table)
    train_by_svi(model, guide, table.batch())
    between = copies(model, guide)
    train_by_svi(model, guide, table.batch())
    assert all_moved(between, copies(model, guide))


def test_the_module_form_refuses_a_store_of_another_module_too(own_store: None) -> None:
    table = table_with_gaps()
    train_by_svi(*pair(table), table.batch())
    with pytest.raises(ValueError, match="holds the tensor of another module"):
        ImportanceWeightedELBO(3)(*pair(table, 10))(table.batch())


def test_one_name_for_two_parameters_is_refused() -> None:
    """A model and a guide that both call a module `encoder` would share its parameters in the store."""
    table = table_with_gaps()
    guide, other = ZeroImpute(table, 2, hidden=[5]), ZeroImpute(table, 2, hidden=[5])
    with pytest.raises(
        ValueError, match=r"parameter 'encoder\.0\.weight' is in the model and, another one, in the guide: rename"
    ):
        check_parameters(other, guide)
    check_parameters(guide, guide)


# Models that keep their parameters elsewhere than in torch modules.


def functional_model(batch: Batch) -> None:
    loc = pyro.param("loc", lambda: torch.zeros(batch.num_columns))
    scale = pyro.param("scale", lambda: torch.ones(batch.num_columns), constraint=constraints.positive)
    with rows(batch):
        x = partially_observed("x", dist.Normal(loc, scale).expand([len(batch), batch.num_columns]), batch)
        observe_mask("r", pyro.param("intercept", lambda: torch.zeros(batch.num_columns)) + 0 * x, batch)


def no_latents(batch: Batch) -> None:
    """A guide that leaves everything to the model."""


def test_models_of_plain_pyro_parameters_are_fitted_and_impute() -> None:
    """MCAR with a normal per column: what is fitted is known, the observed means."""
    table = table_with_gaps(num_rows=200)
    result = fit(functional_model, no_latents, table, epochs=60, batch_size=50, learning_rate=0.1, progress=False)
    assert set(result.store["params"]) == {"loc", "scale", "intercept"}
    batch = table.batch()
    means = batch.x.sum(0) / batch.mask.sum(0)
    torch.testing.assert_close(result.store["params"]["loc"].detach(), means, rtol=0, atol=0.1)
    share = torch.logit(batch.mask.double().mean(0))
    torch.testing.assert_close(result.store["params"]["intercept"].detach(), share, rtol=0, atol=0.2)
    assert np.isfinite(impute(result, table, num_draws=2).means).all()


def test_modules_registered_by_pyro_module_are_fitted() -> None:
    table = table_with_gaps()
    network = torch.nn.Linear(2, 3)
    encoder = torch.nn.Linear(3, 2)

    def model(batch: Batch) -> None:
        decoder = pyro.module("decoder", network)
        with rows(batch):
            z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch), 2), 1.0).to_event(1))
            partially_observed("x", dist.Normal(decoder(z), 1.0), batch)

    def guide(batch: Batch) -> None:
        pyro.module("encoder", encoder)
        with rows(batch):
            pyro.sample("z", dist.Normal(encoder(batch.x), 1.0).to_event(1))

    before = copies(network, encoder)
    fit(model, guide, table, **QUICK)
    assert all_moved(before, copies(network, encoder))


def test_pyro_parameters_of_a_pyro_module_are_fitted() -> None:
    class Model(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.loc = PyroParam(torch.zeros(3))
            self.noise = PyroParam(torch.ones(3), constraint=constraints.positive)

        def forward(self, batch: Batch) -> None:
            with rows(batch):
                partially_observed("x", dist.Normal(self.loc, self.noise).expand([len(batch), 3]), batch)

    table = table_with_gaps()
    for _ in range(2):
        model = Model()
        before = copies(model)
        fit(model, no_latents, table, **QUICK)
        assert all_moved(before, copies(model))


def test_what_svi_trained_can_impute(own_store: None) -> None:
    table = table_with_gaps()
    train_by_svi(functional_model, no_latents, table.batch())
    result = Fit.from_svi(functional_model, no_latents, table)
    assert np.isfinite(impute(result, table, num_draws=2).means).all()


def test_every_parameter_is_trained_once(own_store: None) -> None:
    table = table_with_gaps()
    model, guide = pair(table)
    shared = [*model.parameters(), *guide.parameters()]
    ImportanceWeightedELBO(2).loss(model, guide, table.batch())
    trained = trainable_parameters(model, guide, model)
    assert sorted(map(id, trained)) == sorted(map(id, shared))


# The caller's state.


def test_fit_and_impute_move_no_generator_and_leave_nothing_in_the_store(generators_untouched: None) -> None:
    table = table_with_gaps()
    with own_store():
        pyro.param("mine", torch.tensor(3.0))
        result = fit(*pair(table), table, held_out=0.2, **QUICK)
        impute(result, table, num_draws=2)
        assert list(pyro.get_param_store().keys()) == ["mine"]
        assert pyro.param("mine").item() == 3.0


@pytest.mark.parametrize("enabled", [True, False])
def test_fit_leaves_validation_as_the_caller_set_it(enabled: bool) -> None:
    table = table_with_gaps()
    with pyro.validation_enabled(enabled):
        before = pyro.settings.get()
        impute(fit(*pair(table), table, **QUICK), table, num_draws=2)
        assert pyro.settings.get() == before


def test_a_fit_that_fails_leaves_the_callers_state_too(generators_untouched: None) -> None:
    """What the fixtures compare: store, validation, handler stack, generators."""
    table = table_with_gaps()

    def model(batch: Batch) -> None:
        raise RuntimeError("from the model")

    with pytest.raises(RuntimeError, match="from the model"):
        fit(model, no_latents, table, **QUICK)


def test_a_seed_for_initial_parameters_moves_no_generator(generators_untouched: None) -> None:
    gina_pair(table_with_gaps())


# Same seed, same numbers.


def numbers(seed: int = 0, parameters: int = 0) -> list[Tensor]:
    """What one fit and one imputation give."""
    table = table_with_gaps()
    model, guide = pair(table, parameters)
    result = fit(model, guide, table, seed=seed, held_out=0.2, **QUICK)
    imputed = impute(result, table, num_draws=3, num_particles=10, seed=seed)
    history = result.history.drop(columns="seconds").to_numpy()
    return [*copies(model, guide), torch.tensor(history), torch.tensor(imputed.draws), torch.tensor(imputed.means)]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_same_seed_gives_the_same_numbers_whatever_the_global_generators_say() -> None:
    first = numbers()
    torch.manual_seed(5)
    before = np.random.get_state()  # noqa: NPY002  (the global one is the point)
    np.random.seed(5)  # noqa: NPY002
    assert same(first, numbers())
    np.random.set_state(before)  # noqa: NPY002


def test_another_seed_gives_other_numbers() -> None:
    assert not same(numbers(), numbers(seed=1))


def test_fits_in_two_threads_give_the_numbers_they_give_alone(generators_untouched: None) -> None:
    alone = [numbers(seed, parameters=seed) for seed in (0, 1)]
    together: dict[int, list[Tensor]] = {}
    errors: list[Exception] = []

    def run(seed: int) -> None:
        try:
            together[seed] = numbers(seed, parameters=seed)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert all(same(alone[seed], together[seed]) for seed in (0, 1))


def test_two_sessions_interleaved_draw_what_they_draw_alone() -> None:
    def drawn(session: Session) -> Tensor:
        with session.running():
            return torch.randn(3)

    alone = [[drawn(session) for _ in range(3)] for session in (Session(0), Session(1))]
    first, second = Session(0), Session(1)
    together = [(drawn(first), drawn(second)) for _ in range(3)]
    assert same(alone[0], [a for a, _ in together])
    assert same(alone[1], [b for _, b in together])


@pytest.mark.parametrize("seed", [-1, 1.5, "zero", True])
def test_other_seeds_are_refused(seed: object) -> None:
    with pytest.raises((ValueError, TypeError), match="seed"):
        Session(seed)
