"""Models and guides start near the maximum, from their table alone, and only if nobody has touched them."""

from __future__ import annotations

import jaxtyping
import numpy as np
import pandas as pd
import pytest
import torch

from pyro_mnar import Fit, Table, fit
from pyro_mnar.guides import MeanField, PointNet, ZeroImpute
from pyro_mnar.mechanisms import Constant, General
from pyro_mnar.mechanisms import SelfMasking as OwnValue
from pyro_mnar.models import GINA, PartialVAE, SelfMasking
from pyro_mnar.training.data_start import start_pair
from pyro_mnar.training.evidence import log_evidence

CPU = torch.device("cpu")


def shadowed(seed: int, rows: int = 300, slope: float = -2.0) -> pd.DataFrame:
    """Two columns that mask themselves and two complete ones that say much of them."""
    random = np.random.default_rng(seed)
    u = random.normal(size=(rows, 2))
    x = u @ random.uniform(0.5, 1.2, (2, 2)) + 0.7 * random.normal(size=(rows, 2))
    x = (x - x.mean(0)) / x.std(0)
    x[random.random(x.shape) < 1 / (1 + np.exp(0.8 + slope * x))] = np.nan
    return pd.DataFrame(np.hstack([x, u]), columns=list("abuv"))


def mixed(seed: int = 0, rows: int = 300) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    f = random.normal(size=rows)
    frame = pd.DataFrame({
        "number": f + 0.5 * random.normal(size=rows),
        "yes": np.where(f + random.logistic(size=rows) * 0.5 > 0, "yes", "no"),
        "colour": np.array(["red", "green", "blue"])[np.digitize(f + 0.4 * random.normal(size=rows), [-0.5, 0.5])],
        "grade": pd.Categorical.from_codes(np.digitize(f, [-1, 0, 1]), ["d", "c", "b", "a"], ordered=True),
        "visits": random.poisson(np.exp(0.5 * f + 1)).astype(float),
    })  # fmt: skip
    return frame.mask(random.random(frame.shape) < 0.2)


def bound_of(model: object, guide: object, table: Table) -> float:
    fitted = Fit(model, guide, table.schema)  # pyright: ignore
    return float(log_evidence(fitted, table, num_particles=100, seed=0).log_p.mean())


@pytest.mark.parametrize("seed", range(5))
def test_the_first_bound_is_far_above_that_of_a_random_start(seed: int) -> None:
    table = Table.from_frame(shadowed(seed))
    pair = GINA(table, mechanism=OwnValue, seed=seed), ZeroImpute(table, 3, seed=seed)
    random = bound_of(*pair, table)
    assert start_pair(*pair, table, CPU)
    assert bound_of(*pair, table) > random + 5


@pytest.mark.slow
def test_little_is_left_to_train() -> None:
    """From a random start 3,000 steps lead no higher than from the data 150 do, on rows that none of them saw."""
    frame = shadowed(0, rows=800)
    table = Table.from_frame(frame[:500])
    others = table.new_rows(frame[500:])
    told = {}
    for name, epochs in (("data", None), ("random", 600)):
        model, guide = GINA(table, mechanism=OwnValue, seed=0), ZeroImpute(table, 3, seed=0)
        fitted = fit(model, guide, table, epochs=epochs, start="data" if name == "data" else None, progress=False)
        told[name] = bound_of(fitted.model, fitted.guide, others)
        assert len(fitted.history) == (39 if name == "data" else 600)
    assert told["data"] > told["random"] - 0.05


@pytest.mark.slow
def test_slopes_start_on_the_right_side() -> None:
    """20 tables of two columns; the slope is -2 or 2, the rows 300, the complete columns explain half and more."""
    for seed in range(20):
        slope = -2.0 if seed % 2 else 2.0
        table = Table.from_frame(shadowed(seed, slope=slope))
        model = SelfMasking(table, seed=seed)
        assert model.start_from(table.batch()) is not None
        found = model.mechanism.slope[:2].detach().numpy()  # pyright: ignore
        assert (np.sign(found) == np.sign(slope)).all(), seed


def test_a_declared_sign_stays_and_a_known_slope_is_held() -> None:
    table = Table.from_frame(shadowed(1, slope=-2.0))
    wrong = SelfMasking(table, sign=[1, 1, 0, 0], seed=0)
    assert wrong.start_from(table.batch()) is not None
    assert (wrong.mechanism.slope[:2] > 0).all()  # pyright: ignore
    known = SelfMasking(table, slope=[-1.5, None, None, None], seed=0)
    assert known.start_from(table.batch()) is not None
    assert known.mechanism.slope[0] == -1.5  # pyright: ignore
    share = table.mask[:, 0].double().mean()
    draws = known.mechanism.slope[0] * table.x[:, 0] + known.mechanism.intercept[0]  # pyright: ignore
    assert abs(torch.sigmoid(draws[table.mask[:, 0]]).mean() - share) < 0.25


@pytest.mark.parametrize("model", [GINA, PartialVAE])
def test_columns_of_all_kinds_start_and_the_same_seed_gives_the_same_numbers(model: type) -> None:
    table = Table.from_frame(mixed(), auxiliary=[])
    made = []
    for _ in range(2):
        pair = model(table, latent_dim=2, seed=0), ZeroImpute(table, 2, hidden=(32,), seed=0)
        before = bound_of(*pair, table)
        start = pair[0].start_from(table.batch())
        assert not start.is_near
        assert pair[1].learn_latents(table.batch(), start)
        assert bound_of(*pair, table) > before + 0.5
        made.append([parameter.detach().clone() for part in pair for parameter in part.parameters()])
    assert all(torch.equal(*both) for both in zip(*made, strict=True))


def test_levels_start_with_the_shares_and_the_slopes_of_logistic_regressions() -> None:
    """Complete binary columns of one normal column that is given: EM's slopes beside those of greatest likelihood."""
    random = np.random.default_rng(0)
    u = random.normal(size=2000)
    frame = pd.DataFrame({"u": u, "yes": (u + random.logistic(size=2000) > 0.5).astype(int)}).astype(
        {"yes": "category"}
    )
    frame.loc[:300, "yes"] = None
    table = Table.from_frame(frame, auxiliary=["u"])
    model = GINA(table, latent_dim=2, mechanism=Constant, seed=0)
    assert model.start_from(table.batch()) is not None
    at = table.schema.names.index("yes")
    mean = torch.zeros(3, 2)
    mean[:, 0] = torch.tensor([-1.0, 0.0, 1.0])
    with torch.no_grad():
        logits = model.decoder.network.linear(mean)[:, -1]  # pyright: ignore
    true = torch.tensor([-1.5, -0.5, 0.5])
    assert table.schema.columns[at].kind.has_levels
    assert (logits - true).abs().max() < 0.3


def test_what_was_touched_is_left_alone_and_what_was_given_too() -> None:
    table = Table.from_frame(shadowed(0))
    trained = fit(GINA(table, seed=0), ZeroImpute(table, 3, seed=0), table, epochs=1, progress=False)
    for model, guide in (
        (trained.model, trained.guide),
        (GINA(table, decoder=GINA(table, seed=1).decoder, seed=0), ZeroImpute(table, 3, seed=0)),
        (GINA(table, mechanism=OwnValue(4), seed=0), ZeroImpute(table, 3, seed=0)),
    ):
        before = [p.detach().clone() for part in (model, guide) for p in part.parameters()]  # pyright: ignore
        assert not start_pair(model, guide, table, CPU)
        after = [p for part in (model, guide) for p in part.parameters()]  # pyright: ignore
        assert all(torch.equal(*both) for both in zip(before, after, strict=True))


def test_a_schema_alone_makes_a_model_that_starts_from_the_table_it_is_fitted_to() -> None:
    table = Table.from_frame(shadowed(0))
    told, untold = (GINA(made_for, mechanism=OwnValue, seed=0) for made_for in (table, table.schema))
    assert told.start_from(table.batch()) is not None
    assert untold.start_from(table.batch()) is not None
    assert all(torch.equal(*both) for both in zip(told.parameters(), untold.parameters(), strict=True))


def test_networks_in_the_mechanism_and_few_features_are_trained_for_longer() -> None:
    table = Table.from_frame(shadowed(0, rows=100))
    general = GINA(table, mechanism=General, seed=0)
    before = [parameter.detach().clone() for parameter in general.parameters()]
    assert not start_pair(general, ZeroImpute(table, 3, seed=0), table, CPU)
    assert all(torch.equal(*both) for both in zip(before, general.parameters(), strict=True))
    assert not start_pair(GINA(table, mechanism=Constant, seed=0), PointNet(table, 3, seed=0), table, CPU)
    assert start_pair(GINA(table, mechanism=Constant, seed=0), MeanField(table, 3), table, CPU)
    fitted = fit(
        GINA(table, mechanism=Constant, seed=0), ZeroImpute(table, 3, seed=0), table, start="data", progress=False
    )
    assert len(fitted.history) == 150 * 128 / 100


def test_it_has_to_be_asked_for_and_says_where_it_is_at_random_after_all() -> None:
    table = Table.from_frame(shadowed(0, rows=100))
    pair = GINA(table, mechanism=Constant, seed=0), ZeroImpute(table, 3, seed=0)
    before = [parameter.detach().clone() for parameter in pair[0].parameters()]
    fit(*pair, table, epochs=1, learning_rate=1e-9, progress=False)
    for one, other in zip(before, pair[0].parameters(), strict=True):
        torch.testing.assert_close(one, other)
    with pytest.warns(UserWarning, match="start: at random, since the data do not say"):
        fit(GINA(table, mechanism=General, seed=0), ZeroImpute(table, 3, seed=0), table, start="data", epochs=1)
    with pytest.raises(ValueError, match=r"start: 'data' takes steps too small .* got bootstrap=2"):
        fit(*pair, table, start="data", bootstrap=2)
    jaxtyping.config.update("jaxtyping_disable", True)  # as users have it: no type checker stands before the message
    with pytest.raises(TypeError, match=r"start: expected a Fit, .* or 'data', got 'random'"):
        fit(*pair, table, start="random")  # pyright: ignore


def test_gaps_with_bounds_and_empty_columns_keep_the_random_start() -> None:
    frame = shadowed(0, rows=80)
    lower = np.where(frame["a"].isna(), 1.0, -np.inf)
    bounded = Table.from_frame(frame, lower={"a": lower})
    assert GINA(bounded, mechanism=Constant, seed=0).start_from(bounded.batch()) is None
