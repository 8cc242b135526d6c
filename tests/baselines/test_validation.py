"""Judging extrapolation without the truth: what is hidden, and that the ranking is that of the truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_mnar import Table, baselines
from pyro_mnar.baselines import SelfMaskedMixture, extrapolation_errors, hide_further


def table_of(frame: pd.DataFrame, **options: object) -> Table:
    return Table.from_frame(frame, dtype=torch.float64, **options)  # type: ignore[arg-type]


class TestHideFurther:
    frame = pd.DataFrame({"a": [3.0, 1.0, np.nan, 2.0, 4.0], "b": [5.0, 1.0, 2.0, 3.0, 4.0]})

    @pytest.mark.parametrize(("sign", "expected"), [(-1, [0, 4]), (1, [1, 3]), ([1, -1], [1, 3])])
    def test_the_outer_half_of_incomplete_columns_goes(self, sign: int | list[int], expected: list[int]) -> None:
        further = hide_further(table_of(self.frame), sign)
        assert np.flatnonzero(further.cells[:, 0]).tolist() == expected and not further.cells[:, 1].any()
        pd.testing.assert_series_equal(further.table.frame["b"], self.frame["b"])
        assert further.table.frame["a"].isna().sum() == 3

    def test_columns_keep_kinds_and_units(self) -> None:
        table = table_of(self.frame, kinds={"a": "positive"}, auxiliary=["b"])
        assert hide_further(table).table.schema == table.schema

    def test_reasons_for_gaps_are_kept(self) -> None:
        frame = pd.DataFrame({"a": [3.0, 1.0, np.nan, 2.0, 4.0, np.nan, -9.0], "b": np.arange(7.0)})
        designed = np.arange(7) == 5
        table = table_of(
            frame, na_values={"a": -9.0}, by_design={"a": designed}, not_applicable={"a": np.arange(7) == 2}
        )
        further = hide_further(table).table
        assert torch.equal(further.applicable, table.applicable)
        assert torch.equal(further.mask_modelled, table.mask_modelled)
        assert np.flatnonzero(further.mask[:, 0].numpy()).tolist() == [1, 3]

    def test_refusals(self) -> None:
        table = table_of(self.frame)
        with pytest.raises(ValueError, match="share: expected a share above 0"):
            hide_further(table, share=1.0)
        with pytest.raises(ValueError, match="sign: expected -1 or 1"):
            hide_further(table, 0)
        with pytest.raises(ValueError, match="incomplete column with different seen values"):
            hide_further(table_of(self.frame.dropna()))

    def test_columns_of_words_are_left_as_they_are(self) -> None:
        words = self.frame.assign(w=["x", None, "y", "x", "y"], v=["n", "o", "n", "o", "n"])
        table = table_of(words, auxiliary=[])
        further = hide_further(table)
        assert np.flatnonzero(further.cells.any(axis=0)).tolist() == [0]
        pd.testing.assert_frame_equal(further.table.frame[["w", "v"]], table.frame[["w", "v"]])
        errors, numbers = (
            extrapolation_errors([baselines.mean()], of) for of in (table, table_of(self.frame, auxiliary=[]))
        )
        pd.testing.assert_frame_equal(errors, numbers)


def test_errors_are_those_of_known_values() -> None:
    """The mean of 1 and 2 for 3 and 4, in standard deviations of 1, 2, 3, 4."""
    errors = extrapolation_errors([baselines.mean()], table_of(TestHideFurther.frame))
    expected = np.sqrt((1.5**2 + 2.5**2) / 2) / np.std([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(errors.loc[baselines.mean().name, ["a", "all"]], expected)


def test_gaps_left_are_refused() -> None:
    table = table_of(TestHideFurther.frame)

    class Lazy:
        name = "lazy"

        def complete(self, table: Table, *, seed: int) -> pd.DataFrame:
            return table.frame

    with pytest.raises(ValueError, match="system 'lazy': expected every gap filled, got 2 of the hidden cells left"):
        extrapolation_errors([Lazy()], table)


@pytest.mark.parametrize("curved", [False, True])
def test_picks_what_extrapolates(curved: bool) -> None:
    """Where x has one normal law one component is no worse (within 10%); of two clouds two components are better by
    half: in the ranking as in truth.
    """
    rng = np.random.default_rng(5)
    group = rng.integers(0, 2, 600) * curved
    slope = np.where(group == 1, 1, -1)
    inner = rng.normal(size=600)
    truth = pd.DataFrame({"x": inner + 8 * group, "y": slope * inner + 0.2 * rng.normal(size=600)})
    table = table_of(truth.assign(y=truth["y"].where(truth["y"] < 0.5)))
    one, two = (SelfMaskedMixture(str(count), -1, components=(count,), rounds=200) for count in (1, 2))
    judged = extrapolation_errors([one, two, baselines.mean()], table)["all"]
    gaps = table.frame.isna().to_numpy()
    true = [
        np.sqrt((((system.complete(table, seed=0) - truth).to_numpy())[gaps] ** 2).mean())
        for system in (one, two, baselines.mean())
    ]
    for errors in (judged.to_numpy(), np.array(true)):
        assert (errors[1] < 0.5 * errors[0]) if curved else (errors[0] < 1.1 * errors[1])
        assert errors[:2].min() < 0.5 * errors[2]
