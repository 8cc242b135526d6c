"""Averages over imputers, and a direction of self-masking that is found by the bound."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_mnar import Table, baselines
from pyro_mnar.baselines import Averaged, SignByBound
from pyro_mnar.models.decoding import linear_decoder, ppca_decoder


@dataclass
class Constant:
    """Fills every gap by one number."""

    name: str
    value: float

    def complete(self, table: Table, *, seed: int) -> pd.DataFrame:
        return table.frame.fillna(self.value + seed)


def test_an_average_fills_the_gaps_and_nothing_else() -> None:
    frame = pd.DataFrame({"a": [0.1, np.nan, 0.7], "b": [1.0, 2.0, 4.0]}, index=["x", "y", "z"])
    table = Table.from_frame(frame, auxiliary=[])
    completed = Averaged("both", [Constant("one", 1.0), Constant("two", 4.0)]).complete(table, seed=1)
    assert completed.loc["y", "a"] == pytest.approx(3.5)
    pd.testing.assert_frame_equal(completed[frame.notna()], frame, check_exact=True)


@pytest.mark.parametrize("make", [baselines.averaged_known_sign, baselines.averaged_common_sign])
def test_words_have_no_average(make: object) -> None:
    table = Table.from_frame(pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": ["red", "blue", None]}))
    with pytest.raises(ValueError, match="column 'b': expected numbers, which can be averaged"):
        make(epochs=1).complete(table, seed=0)  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_bound_finds_the_side_that_is_missing(sign: int) -> None:
    """300 rows, correlation 0.9, half of b missing: its mean of 0 within 0.3, where that of the seen ones is 0.8."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=300)
    b = 0.9 * a + np.sqrt(1 - 0.81) * rng.normal(size=300)
    seen = pd.Series(b).where(sign * b > 0)
    table = Table.from_frame(pd.DataFrame({"a": a, "b": seen}), dtype=torch.float64)
    told: list[int] = []

    def others(found: int) -> list[Constant]:
        told.append(found)
        return []

    of_gina = baselines.averaged_common_sign(epochs=150, num_particles=5)
    completed = replace(of_gina, others=others).complete(table, seed=0)
    assert told == [sign]
    assert abs(completed["b"].mean() - b.mean()) < 0.3 < abs(seen.mean()) - 0.3


def test_others_are_averaged_with_the_one_that_decides() -> None:
    frame = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "b": [1.0, 2.0, np.nan, np.nan]})
    table = Table.from_frame(frame, dtype=torch.float64)
    alone = SignByBound("alone", lambda sign: baselines.not_miwae_known_sign(sign, epochs=1))
    both = replace(alone, others=lambda sign: [Constant("far", 100.0)])
    one, two = (system.complete(table, seed=0)["b"].to_numpy() for system in (alone, both))
    np.testing.assert_allclose(two[2:], (one[2:] + 100) / 2)
    np.testing.assert_array_equal(two[:2], [1.0, 2.0])


class TestPPCADecoder:
    def test_has_one_noise_for_all_columns_of_numbers(self) -> None:
        table = Table.from_frame(pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": [1.0, 2.0, np.nan]}))
        decoder = ppca_decoder(table.schema, 1)
        decoder.likelihood.reset_parameters()
        noise = decoder(torch.zeros(4, 3, 1)).stddev
        assert noise.shape == (4, 3, 2) and noise.unique().numel() == 1

    def test_other_kinds_keep_their_own(self) -> None:
        table = Table.from_frame(pd.DataFrame({"a": [0.0, 1.0, 2.0], "b": ["x", "y", None]}))
        made = [decoder(table.schema, 1) for decoder in (ppca_decoder, linear_decoder)]
        assert [type(decoder.likelihood).__name__ for decoder in made] == ["MixedLikelihood"] * 2
