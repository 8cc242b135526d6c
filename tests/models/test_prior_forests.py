"""Forests on U in p(Z|U), for what no line in U says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.ensemble import RandomForestRegressor

from pyro_mnar import Fit, Table, compare, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.infer.construction import arguments_of
from pyro_mnar.mechanisms import Constant
from pyro_mnar.models import GINA, prior_forests
from pyro_mnar.models.decoding import default_decoder, default_prior
from pyro_mnar.models.prior_forests import LEAST_NATS, forests_of
from pyro_mnar.nn.forests import DEPTH, FOLDS, MOST_LEAVES, SHARE, TREES, Forests, fold_of

ROWS = 300


def steps(seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A column that depends on whether two complete ones have the same sign, one that follows a line, and gaps."""
    random = np.random.default_rng(seed)
    u = random.normal(size=(ROWS, 2))
    stepped = 2.0 * (u[:, 0] * u[:, 1] > 0) + 0.4 * random.normal(size=ROWS)
    whole = pd.DataFrame({"stepped": stepped, "line": u[:, 0] + random.normal(size=ROWS), "a": u[:, 0], "b": u[:, 1]})
    return whole, whole.mask(random.random((ROWS, 4)) < [0.3, 0.3, 0.0, 0.0])


def grown() -> tuple[np.ndarray, np.ndarray, np.ndarray, Forests]:
    whole, gaps = steps()
    u, y = whole[["a", "b"]].to_numpy(copy=True), whole[["line", "stepped"]].to_numpy(copy=True)
    seen = gaps[["line", "stepped"]].notna().to_numpy(copy=True)
    return u, y, seen, Forests.grown(u, y, seen)


def test_each_row_is_asked_of_the_forest_of_the_other_folds() -> None:
    u, y, seen, forests = grown()
    fold = fold_of(torch.as_tensor(u)).numpy()
    assert np.bincount(fold, minlength=FOLDS).min() > ROWS / FOLDS / 2
    found = forests(torch.as_tensor(u)).numpy()
    for output, number in ((0, 1), (1, 4)):
        used = seen[:, output] & (fold != number)
        limits = {"max_leaf_nodes": MOST_LEAVES, "max_depth": DEPTH, "max_features": SHARE}
        forest = RandomForestRegressor(TREES, **limits, random_state=0).fit(u[used], y[used, output])
        assert_allclose(found[fold == number, output], forest.predict(u[fold == number]))
    assert_allclose(forests.of([1])(torch.as_tensor(u))[:, 0], found[:, 1])
    assert_allclose(forests(torch.as_tensor(u).expand(2, ROWS, 2))[1], found)


def test_no_row_tells_what_is_expected_of_it() -> None:
    u, y, seen, _ = grown()
    changed = y.copy()
    changed[7] += 100.0
    seen[7] = True
    again = Forests.grown(u, changed, seen)
    before = Forests.grown(u, y, seen)
    found, expected = (forest(torch.as_tensor(u)) for forest in (again, before))
    assert_allclose(found[7], expected[7])
    assert (found - expected).abs().max() > 1.0
    own = fold_of(torch.as_tensor(u)) == fold_of(torch.as_tensor(u))[7]
    assert_allclose(found[own], expected[own])


def test_precision_does_not_deal_rows_anew() -> None:
    u = torch.randn(50, 3)
    assert (fold_of(u) == fold_of(u.double())).all()


def test_steps_are_found_that_no_line_says() -> None:
    whole, gaps = steps()
    table = Table.from_frame(gaps)
    gone = gaps["stepped"].isna()
    errors = []
    for forests in (True, False):
        model = GINA(table, forests=forests, seed=0)
        assert (model.prior.forests is not None) == forests and model.latent_dim == 3 + forests
        result = fit(model, ZeroImpute(table, model.latent_dim, seed=0), table, start="data", progress=False)
        found = impute(result, table, num_draws=20, seed=0).mean()
        errors.append(float(np.sqrt(((found - whole)["stepped"][gone] ** 2).mean()) / whole["stepped"].std()))
    assert errors[0] < 0.6 < 0.9 < errors[1], errors


def test_only_columns_that_forests_make_likelier_have_one(caplog: pytest.LogCaptureFixture) -> None:
    table = Table.from_frame(steps()[1])
    with caplog.at_level("INFO", "pyro_mnar.models.prior_forests"):
        assert forests_of(table, True, None, ())[0] == ["stepped"]
    assert "prior: forests on U for 'stepped'" in caplog.text
    assert forests_of(table, True, None, ["stepped"]) == ([], None)  # what is seen of it is selected by its values
    assert forests_of(table, False, None, ()) == ([], None)
    names, forests = forests_of(table, ["line"], None, ())
    assert names == ["line"] and forests is not None and forests.num_outputs == 1
    assert forests_of(Table.from_frame(steps()[1][["stepped", "line"]], auxiliary=[]), True, None, ()) == ([], None)


def test_a_default_looks_for_them_and_what_is_given_is_taken_as_it_is() -> None:
    table = Table.from_frame(steps()[1])
    model = GINA(table, seed=0)
    assert model.latent_dim == 4 and model.prior.forests is not None
    assert arguments_of(model)["forests"] == ["stepped"]
    for given in (
        {"latent_dim": 3},
        {"decoder": default_decoder(table.schema, 3)},
        {"prior": default_prior(table.schema, 3)},
        {"mechanism": Constant},
        {"forests": False},
        {"forests": []},
    ):
        model = GINA(table, seed=0, **given)
        assert model.latent_dim == 3 and model.prior.forests is None, given


def test_the_more_columns_are_tried_the_more_each_has_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([LEAST_NATS + 0.1, LEAST_NATS + 0.8])
    monkeypatch.setattr(prior_forests, "nats_beside", lambda *_: next(found))
    assert forests_of(Table.from_frame(steps()[1]), True, None, ())[0] == ["line"]  # log 2 is 0.7


@pytest.mark.parametrize(
    ("forests", "message"),
    [
        ("stepped", "expected True, False or names of columns"),
        (3, "expected True, False or names of columns"),
        (["a"], "expected columns of numbers that have gaps, got 'a'"),
        (["stepped", "no"], "got 'no'"),
    ],
)
def test_what_is_no_column_with_gaps_is_refused(forests: object, message: str) -> None:
    table = Table.from_frame(steps()[1])
    with pytest.raises((TypeError, ValueError), match=f"forests: .*{message}"):
        GINA(table, forests=forests)


def test_forests_need_u_and_the_default_prior() -> None:
    gaps = steps()[1]
    with pytest.raises(ValueError, match="forests: expected none where no auxiliary column is complete"):
        GINA(Table.from_frame(gaps[["stepped", "line"]], auxiliary=[]), forests=["line"])
    with pytest.raises(ValueError, match="forests, prior: expected one of them"):
        GINA(Table.from_frame(gaps), forests=True, prior=torch.nn.Identity())


@pytest.mark.parametrize(
    "names", [["stepped", "line", "a", "b"], [0, 1, 2, 3], [("x", 1), ("x", 2), ("y", 1), ("y", 2)]]
)
def test_a_file_holds_them(tmp_path, names: list) -> None:
    frame = steps()[1]
    frame.columns = pd.Index(names, tupleize_cols=False)
    table = Table.from_frame(frame)
    model = GINA(table, mechanism=Constant, forests=True, seed=0)
    result = fit(model, ZeroImpute(table, model.latent_dim, seed=0), table, epochs=1, progress=False)
    result.save(tmp_path / "fit")
    loaded = Fit.load(tmp_path / "fit")
    torch.testing.assert_close(loaded.model.state_dict(), model.state_dict())
    assert_allclose(*[impute(one, table, num_draws=2, seed=0).draws for one in (result, loaded)])


def test_restarts_have_the_same_and_comparisons_say_so() -> None:
    table = Table.from_frame(steps()[1])
    fits = {}
    for name, forests in (("with", True), ("without", False)):
        model = GINA(table, mechanism=Constant, forests=forests, seed=0)
        guide = ZeroImpute(table, model.latent_dim, hidden=(4,), seed=0)
        fits[name] = fit(model, guide, table, epochs=1, restarts=2, compile="graph", start="random", progress=False)
    first, second = (member.model.prior.forests.state_dict() for member in fits["with"].members)
    torch.testing.assert_close(first, second)
    unlike = compare(fits, table.new_rows(steps(1)[1])).unlike
    assert "those of with know of forests or groups of rows, those of without have none" in unlike


def test_positions_out_of_a_file_stay_in_range() -> None:
    forests = Forests(2, 1)
    for position in (1e9, -1e9, torch.nan):
        for name in ("column", "child"):
            getattr(forests, name).fill_(position)
        assert torch.equal(forests(torch.randn(4, 2)), torch.zeros(4, 1))
