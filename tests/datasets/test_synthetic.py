"""The paper's data sets, the energy distance they are judged by, and rows generated from a fitted model."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pyro_mnar import Batch, Fit, Table, fit, partially_observed, rows
from pyro_mnar.datasets import synthetic
from pyro_mnar.datasets.synthetic_tables import INCOMPLETE
from pyro_mnar.experiments.metrics import energy_distance
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.imputation.generation import generate
from pyro_mnar.models import GINA, PartialVAE, SelfMasking


class TestSynthetic:
    @pytest.mark.parametrize("name", ["A", "B", "C"])
    def test_shape_units_and_truth(self, name: str) -> None:
        data = synthetic(name, 0)
        assert data.frame.shape == data.test.shape == (2000, 3)
        assert data.latents is not None and data.latents.shape == data.test_latents.shape == (2000, 3)
        np.testing.assert_allclose(data.complete.mean(), 0, atol=1e-12)
        np.testing.assert_allclose(data.complete.std(ddof=0), 1)
        np.testing.assert_allclose(data.test.mean(), 0, atol=4 * np.sqrt(2 / 2000))
        assert data.frame["X1"].notna().all()
        assert data.frame[["X2", "X3"]].isna().mean().between(0.2, 0.8).all()
        pd.testing.assert_frame_equal(data.frame.fillna(data.complete), data.complete)
        assert list(data.graph.nodes.incomplete) == ["X2", "X3"]

    def test_a_masks_what_is_above_its_mean(self) -> None:
        data = synthetic("A", 3)
        for name in ("X2", "X3"):
            np.testing.assert_array_equal(data.frame[name].isna(), data.complete[name] > 0)

    @pytest.mark.parametrize("name", ["B", "C"])
    def test_b_and_c_mask_along_a_plane_through_zero(self, name: str) -> None:
        """The log-odds are infinite, so the check is that a plane through 0 in (X_i, Z) separates the two sides."""
        from sklearn.linear_model import LogisticRegression

        data = synthetic(name, 1)
        assert data.latents is not None
        for column in ("X2", "X3"):
            causes = data.latents.assign(own=data.complete[column])
            plane = LogisticRegression(C=1e6, fit_intercept=False, max_iter=5000).fit(causes, data.frame[column].isna())
            assert plane.score(causes, data.frame[column].isna()) > 0.995

    def test_noise_is_what_the_paper_says(self) -> None:
        """X_1 given Z is linear with noise variance 0.01, before it is standardised."""
        data = synthetic("A", 0)
        assert data.latents is not None
        z, x = data.latents.to_numpy(), data.complete["X1"].to_numpy()
        coefficients, (rest,), *_ = np.linalg.lstsq(z, x, rcond=None)
        signal_to_noise = (coefficients**2).sum() / (rest / len(x))
        w = np.random.default_rng([0, 0]).normal(size=3)
        assert signal_to_noise == pytest.approx((w**2).sum() / 0.01, rel=0.15)

    def test_seeds(self) -> None:
        pd.testing.assert_frame_equal(synthetic("B", 5, rows=50).frame, synthetic("B", 5, rows=50).frame)
        frames = [synthetic(name, seed, rows=50).complete for name in "ABC" for seed in (0, 1)]
        assert len({tuple(frame["X2"]) for frame in frames}) == 6

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="name: expected one of"):
            synthetic("D", 0)
        with pytest.raises(ValueError, match="rows: expected at least 2, got 1"):
            synthetic("A", 0, rows=1)


SAMPLES = arrays(np.float64, st.tuples(st.integers(2, 8), st.just(2)), elements=st.floats(-100, 100))


class TestEnergyDistance:
    @given(x=SAMPLES, y=SAMPLES)
    def test_is_its_definition(self, x: np.ndarray, y: np.ndarray) -> None:
        def mean(pairs: list[float]) -> float:
            return float(np.mean(pairs))

        between = mean([float(np.linalg.norm(a - b)) for a in x for b in y])
        within = [mean([float(np.linalg.norm(a - b)) for a, b in permutations(s, 2)]) for s in (x, y)]
        assert energy_distance(x, y) == pytest.approx(2 * between - sum(within), abs=1e-9)
        assert energy_distance(x, y) == pytest.approx(energy_distance(y, x), abs=1e-9)

    def test_closed_form_for_two_normals(self) -> None:
        """For N(0,1) and N(m,1), E|X−Y| is the mean of a folded normal of variance 2."""
        rng, shift = np.random.default_rng(0), 1.0
        x, y = rng.normal(size=(20_00, 1)), shift + rng.normal(size=(2000, 1))
        from scipy.stats import foldnorm

        exact = 2 * foldnorm.mean(shift / np.sqrt(2), scale=np.sqrt(2)) - 2 * 2 / np.sqrt(np.pi)
        assert energy_distance(x, y) == pytest.approx(exact, rel=0.15)

    def test_is_unbiased_around_zero(self) -> None:
        rng = np.random.default_rng(1)
        values = [energy_distance(rng.normal(size=(20, 2)), rng.normal(size=(20, 2))) for _ in range(400)]
        assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(400)

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match=r"x: expected shape \(rows, columns\) with at least 2 rows"):
            energy_distance(np.zeros(3), np.zeros((3, 1)))
        with pytest.raises(ValueError, match="expected samples of the same columns, got 1 and 2 of them"):
            energy_distance(np.zeros((3, 1)), np.zeros((3, 2)))
        with pytest.raises(ValueError, match="y: expected finite numbers, got nan"):
            energy_distance(np.zeros((3, 1)), np.full((3, 1), np.nan))


def normal_model(batch: Batch) -> torch.Tensor:
    """x|z ~ N(z + 10, 0.3²), z ~ N(u, 1)."""
    with rows(batch):
        z = pyro.sample("z", dist.Normal(batch.aux[:, :1].expand(-1, batch.num_columns), 1.0).to_event(1))
        return partially_observed("x", dist.Normal(z + 10, 0.3), batch)


class TestGenerate:
    def table(self, size: int = 4000) -> Table:
        rng = np.random.default_rng(0)
        values = {"age": rng.normal(40, 10, size), "a": rng.normal(5, 2, size), "b": rng.normal(-3, 0.1, size)}
        frame = pd.DataFrame(values)
        frame.loc[frame["age"] > 45, ["a", "b"]] = np.nan
        frame.index = pd.Index([f"r{i}" for i in range(size)])
        return Table.from_frame(frame, auxiliary=["age"])

    def test_follows_the_model_whatever_was_observed(self) -> None:
        table = self.table()
        drawn = generate(Fit(normal_model, lambda batch: None, table.schema), table, seed=1)
        assert drawn.index.equals(table.frame.index) and list(drawn.columns) == ["a", "b"]
        u = table.aux[:, 0].numpy()
        for column in table.schema.columns:
            residual = (drawn[column.name].to_numpy() - column.mean) / column.std - 10 - u
            for group in (table.mask[:, 0].numpy(), ~table.mask[:, 0].numpy()):
                assert residual[group].mean() == pytest.approx(0, abs=4 * 1.05 / np.sqrt(group.sum()))
                assert residual[group].std() == pytest.approx(np.sqrt(1.09), rel=0.1)

    def test_same_seed_same_rows_and_nothing_global_moves(self) -> None:
        before = torch.get_rng_state()
        table = Table.from_frame(synthetic("A", 0, rows=100).frame)
        model = GINA(table, seed=0)
        fitted = Fit(model, ZeroImpute(table, model.latent_dim, seed=0), table.schema)
        pd.testing.assert_frame_equal(generate(fitted, table, seed=3), generate(fitted, table, seed=3))
        assert not generate(fitted, table, seed=3).equals(generate(fitted, table, seed=4))
        assert generate(fitted, table).notna().all(axis=None)
        model_untouched = GINA(table, seed=0)
        assert all((a == b).all() for a, b in zip(model.parameters(), model_untouched.parameters(), strict=True))
        assert torch.equal(torch.get_rng_state(), before)

    def test_chunks_cover_every_row(self) -> None:
        table = self.table(30)
        model = SelfMasking(table, seed=0)
        drawn = generate(Fit(model, ZeroImpute(table, model.latent_dim), table.schema), table, rows_at_once=7)
        assert drawn.shape == (30, 2) and drawn.notna().all(axis=None)

    def test_needs_to_know_which_values_are_x(self) -> None:
        def silent(batch: Batch) -> None:
            with rows(batch):
                pyro.sample("z", dist.Normal(torch.zeros(len(batch)), 1.0))

        table = self.table(10)
        with pytest.raises(ValueError, match="no site made by partially_observed"):
            generate(Fit(silent, silent, table.schema), table)


@pytest.mark.slow
def test_declared_self_masking_recovers_data_set_a() -> None:
    """docs/recovery.md: over ten seeds 0.13 against PartialVAE's 0.69; two of them here."""
    declared, ignoring = [], []
    for seed in (1, 6):
        data = synthetic("A", seed)
        table = Table.from_frame(data.frame)
        unit = data.complete[list(INCOMPLETE)].std(ddof=0)
        pairs = [(declared, GINA(table, latent_dim=2, graph=data.graph, seed=seed))]
        if seed == 1:
            pairs.append((ignoring, PartialVAE(table, latent_dim=2, seed=seed)))
        for distances, model in pairs:
            fitted = fit(model, ZeroImpute(table, 2, seed=seed), table, seed=seed, progress=False)
            drawn = generate(fitted, table, seed=seed)[list(INCOMPLETE)]
            distances.append(energy_distance(drawn / unit, data.test[list(INCOMPLETE)] / unit))
    assert np.mean(declared) <= 0.15
    assert np.mean(ignoring) >= 0.4
