"""Thresholds given to models as bounds: which columns have one, and what it is worth to a decoder."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from pyro_mnar import Table, baselines
from pyro_mnar.baselines import bounded_by_thresholds
from pyro_mnar.kinds import Bounded


def table_of(frame: pd.DataFrame, **options: object) -> Table:
    return Table.from_frame(frame, dtype=torch.float64, **options)  # type: ignore[arg-type]


def factor(rows: int, seed: int) -> pd.DataFrame:
    """Four columns of variance one, correlations 0.64."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(0.8 * rng.normal(size=(rows, 1)) + 0.6 * rng.normal(size=(rows, 4)), columns=list("abcd"))


def error(completed: pd.DataFrame, truth: pd.DataFrame, frame: pd.DataFrame) -> float:
    return float(np.sqrt(((completed - truth).to_numpy()[frame.isna().to_numpy()] ** 2).mean()))


class TestBounds:
    @pytest.mark.parametrize("sign", [-1, 1])
    def test_gaps_beyond_a_threshold_get_the_outermost_seen_value(self, sign: int) -> None:
        """Of a and of exp(b), which a normal law takes for a slope; c goes missing by a slope of 3, and gets none."""
        frame = factor(800, seed=0)
        frame["b"] = -sign * np.exp(-sign * frame["b"])
        for name in "ab":
            frame[name] = frame[name].where(-sign * (frame[name] - frame[name].mean()) < 0)
        gone = np.random.default_rng(1).random(800) < expit(-3.0 * sign * frame["c"])
        frame["c"] = frame["c"].mask(gone)
        table = bounded_by_thresholds(table_of(frame), sign)
        assert table.bounds is not None
        edge = frame.max() if sign < 0 else frame.min()
        told, free = (table.bounds.lower, table.bounds.upper)[::-sign]
        for at, name in enumerate("ab"):
            gaps = frame[name].isna().to_numpy()
            np.testing.assert_array_equal(told[gaps, at], edge[name])
            assert not np.isfinite(told[~gaps, at]).any() and not table.mask_modelled.numpy()[gaps, at].any()
        assert not np.isfinite(told[:, 2:]).any() and not np.isfinite(free).any()
        assert table.mask_modelled[:, 2].all()
        assert [column.incomplete for column in table.schema.columns] == [False, False, True, False]

    @pytest.mark.parametrize("sign", [-1, 1])
    def test_common_sign_is_found_and_then_told(self, sign: int) -> None:
        frame = factor(200, seed=5)
        frame["a"] = frame["a"].where(-sign * frame["a"] < 0)
        told, found = (bounded_by_thresholds(table_of(frame), given) for given in (sign, None))
        assert told.bounds is not None and found.bounds is not None
        assert torch.equal(told.bounds.on_line, found.bounds.on_line)

    def test_no_slope_is_taken_for_a_threshold(self) -> None:
        """Twenty tables of 500 rows, a column of each under slopes of 2 and of 5."""
        for seed in range(20):
            frame = factor(500, seed)
            rng = np.random.default_rng([seed, 1])
            for name, slope in (("a", 2.0), ("b", 5.0)):
                frame[name] = frame[name].mask(rng.random(500) < expit(slope * frame[name]))
            assert bounded_by_thresholds(table_of(frame), -1).bounds is None

    def test_gaps_that_no_value_caused_stay_without(self) -> None:
        frame = factor(400, seed=2)
        by_design = np.arange(400) < 50
        frame["a"] = frame["a"].where((frame["a"] < 0) & ~by_design)
        table = bounded_by_thresholds(table_of(frame, by_design={"a": by_design}))
        assert table.bounds is not None
        assert not np.isfinite(table.bounds.lower[by_design]).any()
        assert np.isfinite(table.bounds.lower[frame["a"].isna() & ~by_design, 0]).all()

    def test_the_end_of_a_range_is_no_bound(self) -> None:
        truth = factor(400, seed=3)
        frame = truth.assign(a=expit(truth["a"].where(truth["a"] < 0)) * 2)
        frame.loc[frame["a"].idxmax(), "a"] = 1.0
        table = table_of(frame, kinds={"a": Bounded(0, 1)})
        assert bounded_by_thresholds(table).bounds is None


class TestTableBounded:
    def test_is_the_table_made_with_bounds(self) -> None:
        frame = pd.DataFrame({"a": [1, 2, None, None], "b": [2.0, 1.0, None, 5.0]})
        lower = {"a": [np.nan, np.nan, 3, np.nan], "b": [np.nan, np.nan, 0.5, np.nan]}
        made, given = table_of(frame, auxiliary=[], lower=lower), table_of(frame, auxiliary=[]).bounded(lower=lower)
        assert made.schema == given.schema and made.bounds is not None and given.bounds is not None
        assert torch.equal(made.mask_modelled, given.mask_modelled)
        assert torch.equal(made.bounds.on_line, given.bounds.on_line)

    def test_refuses(self) -> None:
        table = table_of(pd.DataFrame({"a": [1.0, 2.0, None], "b": [1.0, 2.0, 3.0]}))
        with pytest.raises(ValueError, match="lower of column 'a': expected one bound a row, got one for all"):
            table.bounded(lower={"a": 1})
        bounded = table.bounded(lower={"a": [np.nan, np.nan, 2]})
        with pytest.raises(ValueError, match="expected gaps without bounds"):
            bounded.bounded(lower={"a": [np.nan, np.nan, 2]})


class TestDecoder:
    @pytest.mark.slow
    def test_gains_by_the_threshold(self) -> None:
        """One factor, a and b hidden above 0: after 40 steps of both, the errors with the bounds are less than two
        thirds of those with the mechanism."""
        truth = factor(256, seed=4)
        frame = truth.copy()
        frame[["a", "b"]] = truth[["a", "b"]].where(truth[["a", "b"]] < 0)
        table = table_of(frame)
        decoder = baselines.not_miwae_ppca_known_sign(-1, epochs=20, compile="eager")
        told, drawn = (
            error(decoder.complete(each, seed=0), truth, frame) for each in (bounded_by_thresholds(table), table)
        )
        assert told < 2 / 3 * drawn


class TestRefusals:
    def test_words(self) -> None:
        table = table_of(pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": ["red", "blue", None]}))
        with pytest.raises(ValueError, match="column 'b': expected numbers"):
            bounded_by_thresholds(table)

    def test_bounds(self) -> None:
        table = table_of(pd.DataFrame({"a": [1.0, 2.0, None], "b": [1.0, 2.0, 3.0]}), lower={"a": 0})
        with pytest.raises(ValueError, match="gaps without bounds"):
            bounded_by_thresholds(table)

    def test_signs(self) -> None:
        table = table_of(pd.DataFrame({"a": [1.0, 2.0, None], "b": [1.0, 2.0, 3.0]}))
        with pytest.raises(ValueError, match="sign: expected -1 or 1"):
            bounded_by_thresholds(table, [1])
