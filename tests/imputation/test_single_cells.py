"""Imputing some cells: the same draws and means as when all are imputed, by label or position, in the order asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from checks import sampler_of
from pyro_mnar import Table, impute, mechanisms
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.imputation.limits import Limits
from pyro_mnar.imputation.single_cells import impute_cells
from pyro_mnar.kinds import Bounded
from pyro_mnar.models import GINA, LatentDependent, NotMIWAE, SelfMasking
from pyro_mnar.training.fitted import Fit


def mixed(rows: int = 40) -> Table:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "height": rng.normal(170, 10, rows),
            "wage": rng.lognormal(size=rows),
            "share": rng.uniform(2, 9, rows),
            "visits": rng.poisson(3, rows).astype(float),
            "town": rng.choice(["x", "y", "z"], rows),
            "stars": rng.choice([1, 2, 3], rows),
        }
    )
    kinds: dict[Any, Any] = {"wage": "positive", "share": Bounded(0, 10), "visits": "count", "stars": "ordinal"}
    return Table.from_frame(frame.where(rng.random(frame.shape) < 0.6), auxiliary=[], kinds=kinds)


def untrained(table: Table) -> Fit:
    model = GINA(table, latent_dim=2, mechanism=mechanisms.SelfMasking, seed=0)
    for parameter in model.mechanism.parameters():
        parameter.data.fill_(0.7)  # slopes start at zero
    return Fit(model, ZeroImpute(table, 2, seed=0), table.schema)


def test_some_cells_are_imputed_as_all_are() -> None:
    table = mixed()
    fit = untrained(table)
    everything = impute(fit, table, num_draws=3, num_particles=20, seed=1)
    rows, columns = everything.cells
    order = np.random.default_rng(2).permutation(len(rows))
    cells = pd.DataFrame(
        {"row": table.frame.index[rows[order]], "column": np.array(table.schema.names)[columns[order]]}
    )
    some = impute(fit, table, cells=cells, num_draws=3, num_particles=20, seed=1)
    np.testing.assert_array_equal(some.cells, everything.cells[:, order])
    np.testing.assert_allclose(some.draws, everything.draws[:, order])
    np.testing.assert_allclose(some.means, everything.means[order])
    np.testing.assert_allclose(some.effective_sample_size, everything.effective_sample_size[rows[order]])

    completed = next(everything.frames())
    drawn = next(some.frames())
    assert drawn.columns.tolist() == ["row", "column", "value"]
    for line in drawn.itertuples():
        expected = completed.at[line.row, line.column]
        assert line.value == (expected if isinstance(expected, str) else pytest.approx(expected))
    towns = impute(fit, table, cells=cells[cells["column"] == "town"], num_draws=3, num_particles=20, seed=1)
    shares = towns.probabilities()
    assert shares.columns.tolist() == ["row", "column", "x", "y", "z"]
    np.testing.assert_allclose(shares[["x", "y", "z"]].sum(axis=1), 1.0)
    with pytest.raises(ValueError, match="share one set of levels"):
        some.probabilities()


def test_chunks_of_rows_give_as_good_means() -> None:
    table = mixed()
    fit = untrained(table)
    rows, columns = np.nonzero((~table.mask).numpy())
    at_once = impute(fit, table, cells=(rows, columns), num_draws=1, num_particles=500)
    sampler = sampler_of(fit, num_draws=1, num_particles=500, limits=Limits(elements=500 * 24 * 5))
    chunked = impute_cells(table, (rows, columns), sampler, fit.device)
    is_height = columns == 0
    error = 10 * np.sqrt(1 / at_once.effective_sample_size + 1 / chunked.effective_sample_size)  # the column's std
    assert (np.abs(at_once.means - chunked.means) < 5 * error)[is_height].all()
    assert not np.array_equal(at_once.means, chunked.means)


def ratings(seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((30, 70)) < 0.15)
    stars = np.clip(np.rint(3 + rng.normal(size=30)[users] + rng.normal(size=len(users))), 1, 5)
    return pd.DataFrame({"user": users, "item": items, "stars": stars.astype(int)})


def table_of(lines: pd.DataFrame, **options: Any) -> Table:
    labels = {"row": "user", "column": "item", "value": "stars", "rows": range(30), "columns": range(70)}
    return Table.from_long(lines, auxiliary=[], **labels, **options)


def test_cells_of_sparse_tables_are_those_of_dense_ones() -> None:
    lines = ratings()
    lines = lines.assign(stars=lines["stars"] + np.random.default_rng(1).normal(size=len(lines)))
    rated = lines[lines.groupby("item")["stars"].transform("size") > 2]
    sparse = Table.from_long(rated, row="user", column="item", value="stars", auxiliary=[])
    dense = Table.from_frame(sparse.frame, auxiliary=[])
    cells = np.nonzero((~dense.mask).numpy()[:7])
    of_dense = impute(untrained(dense), dense, cells=cells, num_draws=2, num_particles=10)
    of_sparse = impute(untrained(sparse), sparse, cells=cells, num_draws=2, num_particles=10, use_mechanism=True)
    np.testing.assert_allclose(of_sparse.draws, of_dense.draws)
    np.testing.assert_allclose(of_sparse.means, of_dense.means)
    without = impute(untrained(sparse), sparse, cells=cells, num_draws=2, num_particles=10, use_mechanism=False)
    assert not np.allclose(without.means, of_sparse.means)


def test_long_frames_have_the_users_names_and_whole_numbers() -> None:
    lines = ratings()
    train, test = lines.iloc[::2], lines.iloc[1::2]
    table = table_of(train)
    result = impute(untrained(table), table, cells=test, num_draws=2, num_particles=10, use_mechanism=False)
    mean, drawn = result.mean(), next(result.frames())
    assert mean.columns.tolist() == ["user", "item", "stars"]
    pd.testing.assert_frame_equal(mean[["user", "item"]], test[["user", "item"]].reset_index(drop=True))
    assert drawn["stars"].dtype.kind == "i" and drawn["stars"].isin([1, 2, 3, 4, 5]).all()
    shares = result.probabilities()
    expected = shares[[1, 2, 3, 4, 5]].to_numpy() @ np.arange(1, 6)
    np.testing.assert_allclose(mean["stars"], expected)


def test_cells_are_checked() -> None:
    table = table_of(ratings())
    fit, line = untrained(table), ratings().iloc[:1]
    label = rf"row {line['user'].item()}, column {line['item'].item()}"
    with pytest.raises(ValueError, match=rf"cells: expected gaps, got {label}, an observed value; hold it out first"):
        impute(fit, table, cells=line)
    impute(fit, table.hold_out(line), cells=line, num_draws=1, num_particles=2)
    with pytest.raises(ValueError, match=r"cells: expected a row \(user\) of the table, such as 0, 1, 2, 3, 4, got 99"):
        impute(fit, table, cells=line.assign(user=99))
    with pytest.raises(ValueError, match=r"cells: expected the columns 'user' and 'item', got \['row', 'column'\]"):
        impute(fit, table, cells=pd.DataFrame({"row": [1], "column": [1]}))
    gaps = np.stack(np.nonzero((~table.mask).numpy()))[:, [0, 1, 0]]
    with pytest.raises(ValueError, match=r"cells: expected each cell once, got row 0, column \d+ 2 times"):
        impute(fit, table, cells=tuple(gaps))
    with pytest.raises(ValueError, match=r"cells: expected positions of columns from 0 to 69, got 70 to 70"):
        impute(fit, table, cells=([0], [70]))
    with pytest.raises(ValueError, match=r"cells: expected shape \(30, 70\), got \(2, 2\)"):
        impute(fit, table, cells=scipy.sparse.eye_array(2))
    with pytest.raises(TypeError, match=r"cells: expected a long frame, a pair of position arrays or a sparse matrix"):
        impute(fit, table, cells=3)
    not_for_it = table_of(ratings(), not_applicable=tuple(gaps[:, :1]))
    with pytest.raises(ValueError, match=r"cells: expected gaps, got row 0, column \d+, one without a value"):
        impute(fit, not_for_it, cells=tuple(gaps[:, :1]))


@pytest.mark.parametrize("kind", [GINA, LatentDependent, NotMIWAE, SelfMasking])
def test_beta_is_one_unless_told(kind: Any) -> None:
    table = mixed()
    own: Any = {"mechanism": mechanisms.SelfMasking} if kind is GINA else {}
    tempered, plain = (kind(table, latent_dim=2, seed=0, mechanism_weight=weight, **own) for weight in (0.3, 1.0))
    for model in (tempered, plain):
        model.summed_columns = frozenset()  # as it is where β ≠ 1
        for parameter in model.mechanism.parameters():
            parameter.data.fill_(0.7)
    guide = ZeroImpute(table, 2, seed=0)
    one, other = (Fit(model, guide, table.schema) for model in (tempered, plain))
    expected = impute(other, table, num_draws=1, num_particles=50).means
    np.testing.assert_allclose(impute(one, table, num_draws=1, num_particles=50).means, expected)
    kept = impute(one, table, num_draws=1, num_particles=50, keep_mechanism_weight=True).means
    assert np.abs(kept - expected).max() > 0.01
