"""Groups of rows that U tells apart, such as species, have means of their own in p(Z|U)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose

from pyro_mnar import Fit, Table, compare, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.mechanisms import Constant
from pyro_mnar.models import GINA
from pyro_mnar.models.decoding import default_decoder, default_prior
from pyro_mnar.models.prior_groups import groups_by_u
from pyro_mnar.nn.row_groups import RowGroups

ROWS, SPECIES = 240, 3


def species(seed: int = 0, *, apart: float = 1.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Three species by two complete sizes; a third size, with gaps, falls and rises from one to the next."""
    random = np.random.default_rng(seed)
    which = np.arange(ROWS) % SPECIES
    sizes = np.array([[0.0, 0.0], [4.0, 1.0], [8.0, 0.0]])[which] + random.normal(size=(ROWS, 2)) * [0.6, 0.4]
    height = 3 * apart * (which == 1) + 0.5 * random.normal(size=ROWS)
    whole = pd.DataFrame(
        {"height": height, "depth": random.normal(size=ROWS), "length": sizes[:, 0], "width": sizes[:, 1]}
    )
    gaps = random.random((ROWS, 4)) < [0.3, 0.3, 0.0, 0.0]
    return whole, whole.mask(gaps)


def error(model: GINA, table: Table, whole: pd.DataFrame) -> float:
    """RMSE of heights, in standard deviations."""
    result = fit(model, ZeroImpute(table, model.latent_dim, seed=0), table, progress=False)
    found = impute(result, table, num_draws=5).mean()
    gone = table.frame["height"].isna().to_numpy()
    return float(np.sqrt(((found - whole)["height"][gone] ** 2).mean()) / whole["height"].std())


def test_groups_are_those_of_the_rows() -> None:
    random = np.random.default_rng(0)
    one = random.normal(size=(200, 2))
    assert RowGroups.found(one).num_groups == 0
    which = np.arange(200) % 3
    columns = (one + 8 * np.stack([which == 0, which == 1], axis=1)) / 4
    groups = RowGroups.found(columns)
    belongs = groups(torch.as_tensor(columns)).numpy()
    assert belongs.shape == (200, 2) and np.abs(belongs.mean(0)).max() < 1e-12
    assert all(np.ptp(belongs[which == g], axis=0).max() < 1e-2 for g in range(3))
    assert RowGroups.found(np.repeat(np.arange(5.0), 40)[:, None]).num_groups == 0  # levels have their slope


def test_they_are_as_likely_as_the_mixture_says() -> None:
    """Beside a column of levels, which tells nothing, and values farther out than any that counts."""
    from sklearn.mixture import GaussianMixture

    random = np.random.default_rng(1)
    columns = random.normal(size=(300, 2)) + 2.5 * (np.arange(300) % 2)[:, None]
    groups = RowGroups.found(np.insert(columns, 1, np.arange(300) % 3, axis=1), [2])
    mixture = GaussianMixture(2, n_init=2, reg_covar=1e-2, random_state=0).fit(columns.clip(-4, 4))
    new = np.concatenate([3 * random.normal(size=(50, 2)), [[1e6, -1e6]]])
    found = groups(torch.as_tensor(np.insert(new, 1, 9.0, axis=1))) + groups.usual
    assert_allclose(found.numpy(), mixture.predict_proba(new.clip(-4, 4))[:, 1:], atol=1e-9)


def test_a_species_has_its_own_mean(caplog: pytest.LogCaptureFixture) -> None:
    whole, seen = species()
    table = Table.from_frame(seen)
    with caplog.at_level("INFO", "pyro_mnar"):
        model = GINA(table, seed=0)
    assert "prior: 3 groups of rows that U tells apart" in caplog.text
    assert model.latent_dim == 3 + 2 and model.prior.groups.num_groups == 2
    plain = GINA(table, groups=1, forests=False, seed=0)
    with_groups, without = (error(one, table, whole) for one in (model, plain))
    assert with_groups < 0.45 < 0.6 < without, (with_groups, without)


def test_groups_that_tell_nothing_are_left_out() -> None:
    _, seen = species(apart=0.0)
    table = Table.from_frame(seen)
    assert groups_by_u(table).num_groups == 2
    model = GINA(table, seed=0)
    assert model.prior.groups is None and model.latent_dim == 3


def test_what_is_given_is_taken_as_it_is() -> None:
    """A latent dimension, decoder, prior or mechanism of the caller knows of no groups, but those asked for."""
    table = Table.from_frame(species()[1])
    schema = table.schema
    for given in (
        {"latent_dim": 3},
        {"decoder": default_decoder(schema, 3)},
        {"prior": default_prior(schema, 3)},
        {"mechanism": Constant},
        {"groups": 1, "forests": False},
    ):
        model = GINA(table, seed=0, **given)
        assert model.latent_dim == 3 and model.prior.groups is None, given
    asked = GINA(table, mechanism=Constant, groups=2, seed=0)
    assert asked.latent_dim == 4 and asked.prior.groups.num_groups == 1


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"groups": 0}, "groups: expected at least 1"),
        ({"groups": True}, "groups: expected a whole number"),
        ({"groups": 2, "prior": torch.nn.Identity()}, "groups, prior: expected one of them"),
        ({"groups": 2}, "groups: expected 1 where no auxiliary column tells groups of rows apart, got 2"),
    ],
)
def test_what_cannot_be_is_refused(given: dict, match: str) -> None:
    table = Table.from_frame(species()[1], auxiliary=[])
    with pytest.raises((TypeError, ValueError), match=match):
        GINA(table, **given)


def test_rows_that_are_too_few_tell_no_groups_apart() -> None:
    table = Table.from_frame(species()[1][:30])
    with pytest.raises(ValueError, match="rows tell no groups apart"):
        GINA(table, groups=2)
    with pytest.raises(ValueError, match="groups: expected at most 3 in 30 rows"):
        GINA(table, groups=10**12)
    with pytest.raises(ValueError, match="groups: 1000000000000 need at least"):
        GINA(table.schema, groups=10**12)
    assert GINA(table, seed=0).prior.groups is None


def test_a_file_holds_them(tmp_path) -> None:
    table = Table.from_frame(species()[1])
    model = GINA(table, seed=0)
    result = fit(model, ZeroImpute(table, model.latent_dim, seed=0), table, epochs=1, progress=False)
    result.save(tmp_path / "fit")
    loaded = Fit.load(tmp_path / "fit")
    torch.testing.assert_close(loaded.model.state_dict(), model.state_dict())
    draws = [impute(one, table, num_draws=2, seed=0).draws for one in (result, loaded)]
    assert_allclose(*draws)


def test_restarts_have_the_same_groups() -> None:
    table = Table.from_frame(species()[1])
    model = GINA(table, seed=0)
    guide = ZeroImpute(table, model.latent_dim, hidden=(8,), seed=0)
    result = fit(model, guide, table, epochs=1, restarts=3, compile="graph", progress=False)
    members = [member.model.prior.groups.state_dict() for member in result.members]
    for member in members[1:]:
        torch.testing.assert_close(member, members[0])


def test_a_comparison_of_fits_with_groups_and_without_says_so() -> None:
    _, seen = species()
    table = Table.from_frame(seen[::2])
    fits = {}
    for name, options in {"default": {}, "declared": {"mechanism": Constant}, "alike": {"groups": 3}}.items():
        model = GINA(table, seed=0, **options)
        guide = ZeroImpute(table, model.latent_dim, hidden=(4,), seed=0)
        fits[name] = fit(model, guide, table, epochs=1, start="random", progress=False)
    rows = table.new_rows(seen[1::12])
    found = compare(fits, rows)
    assert "groups of rows, those of declared have none" in found.unlike and "start" not in found.unlike
    del fits["declared"]
    assert not compare(fits, rows).unlike


@pytest.mark.parametrize("beside", [{"groups": 3}, {"forests": ["a", "b"]}], ids=["groups", "forests"])
def test_a_bend_among_columns_with_gaps_is_seen_beside_what_the_prior_knows(beside: dict[str, Any]) -> None:
    """A line through three groups of both hides that one is the other's square, as do forests; else it is plain."""
    random = np.random.default_rng(0)
    a = 2 * random.normal(size=600)
    frame = pd.DataFrame({"b": a**2 + 0.3 * random.normal(size=600), "a": a, "u": a + 0.3 * random.normal(size=600)})
    frame[["a", "b"]] = frame[["a", "b"]].mask(random.random((600, 2)) < 0.2)
    table = Table.from_frame(frame)
    bends = []
    for options in ({}, beside):
        model = GINA(table, latent_dim=6, seed=0, **options)
        start = model.start_from(table.batch())
        assert start is not None
        bends.append(start.bend)
    assert bends[1] >= bends[0] > 3
