"""What a kind leaves to its user: fixed, shared or learned noise; and what is said of the kinds that were chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_mnar import Fit, Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.kinds import Bounded, Continuous, Count, HeavyTailed, Kind, Positive, from_plain, to_plain
from pyro_mnar.models import GINA, LatentDependent, SelfMasking
from pyro_mnar.nn.likelihoods import PAPER_NOISE, GaussianNoise, MixedLikelihood, likelihood_of


def gaps(values: np.ndarray, seed: int) -> pd.Series:
    return pd.Series(values).where(np.random.default_rng(seed).random(len(values)) < 0.8)


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    z = rng.normal(size=200)
    return pd.DataFrame({name: gaps(z + 0.5 * rng.normal(size=200), at) for at, name in enumerate("abcd")})


class TestNoise:
    def test_fixed_shared_and_learned_side_by_side(self, frame: pd.DataFrame, tmp_path: object) -> None:
        kinds: dict[Any, Kind] = {
            "a": Continuous(noise=0.3),
            "b": Continuous(noise="shared"),
            "c": Continuous(noise="shared"),
        }
        table = Table.from_frame(frame, kinds=kinds, auxiliary=[])
        model = GINA(table, seed=0)
        noise = model.decoder.likelihood.noise
        torch.testing.assert_close(noise, torch.tensor([0.3, PAPER_NOISE, PAPER_NOISE, PAPER_NOISE]))
        guide = ZeroImpute(table, model.latent_dim, seed=0)
        result = fit(model, guide, table, epochs=3, seed=0, progress=False)
        noise = model.decoder.likelihood.noise.tolist()
        assert noise[0] == pytest.approx(0.3) and noise[1] == noise[2]
        assert len({*noise, PAPER_NOISE}) == 4  # d learned one of its own

        result.save(f"{tmp_path}/fit.pt")
        other = GINA(table, seed=1)
        loaded = Fit.load(f"{tmp_path}/fit.pt", other, ZeroImpute(table, other.latent_dim, seed=1))
        assert loaded.schema == table.schema
        assert other.decoder.likelihood.noise.tolist() == noise

    def test_one_kind_for_all_columns(self, frame: pd.DataFrame) -> None:
        """The paper's own choice (B.1), in one argument."""
        table = Table.from_frame(frame, kinds=Continuous(noise=PAPER_NOISE), auxiliary=[])
        likelihood, width = likelihood_of(table.schema)
        assert isinstance(likelihood, GaussianNoise) and width == 4
        assert not likelihood.learned.any()
        assert set(table.schema.describe_kinds()["because"]) == {"declared"}

    def test_the_other_kinds_with_a_line_have_it_too(self, frame: pd.DataFrame) -> None:
        positive = np.exp(frame[["c", "d"]])
        table = Table.from_frame(
            frame.assign(c=positive["c"], d=positive["d"] / (1 + positive["d"])),
            kinds={"a": HeavyTailed(noise=0.2), "b": HeavyTailed(noise="shared"), "c": Positive(noise=0.5)}
            | {"d": Bounded(0, 1, noise=0.7)},
            auxiliary=[],
        )
        likelihood = MixedLikelihood(table.schema)
        student, normal = likelihood.parts
        torch.testing.assert_close(student.noise, torch.tensor([0.2, PAPER_NOISE]))
        torch.testing.assert_close(normal.noise, torch.tensor([0.5, 0.7]))
        fn = likelihood(torch.zeros(3, likelihood.num_outputs))
        student_fn, normal_fn = (part for _, part in fn.parts)
        torch.testing.assert_close(student_fn.scale[0], student.noise)
        torch.testing.assert_close(normal_fn.scale[0], normal.noise)

    def test_a_column_that_is_also_u_learns_none(self) -> None:
        complete = pd.DataFrame({"a": np.arange(30) + 0.5, "b": np.arange(30) ** 2 + 0.5})
        kinds: dict[Any, Kind] = {"a": Continuous(noise="shared"), "b": Continuous(noise=0.4)}
        likelihood = GaussianNoise.of(Table.from_frame(complete, kinds=kinds).schema.columns)
        assert not likelihood.learned.any()
        torch.testing.assert_close(likelihood.noise, torch.tensor([PAPER_NOISE, 0.4]))

    @pytest.mark.parametrize("noise", [0.0, -1.0, 1e-3, float("inf"), float("nan"), "fixed", True])
    def test_nonsense_is_refused(self, noise: Any) -> None:
        with pytest.raises(
            ValueError, match=r"HeavyTailed, noise: expected 'learned', 'shared' or more than 0\.001 sta"
        ):
            HeavyTailed(noise=noise)
        if isinstance(noise, float) and noise <= 1e-3:
            with pytest.raises(ValueError, match="noise: expected more than"):
                GaussianNoise([True, True], [0.1, noise])

    @pytest.mark.parametrize(
        "kind", [Continuous(noise=np.float64(0.5)), Bounded(np.float64(-1), 2, noise="shared"), Count(), Positive()]
    )
    def test_plain_data_bring_it_back(self, kind: Kind) -> None:
        plain = to_plain(kind)
        assert from_plain(plain) == kind
        assert {type(value) for value in plain.values()} <= {
            str,
            float,
            int,
            bool,
            type(None),
        }  # a file of them runs no code


class TestSayingWhatWasChosen:
    def test_each_column_with_its_reason_and_levels(self) -> None:
        frame = pd.DataFrame({"stars": [1, 2, 3, 4, 5] * 10, "who": [f"p{n % 3}" for n in range(50)]})
        frame["score"] = np.linspace(0, 1, 50)
        table = Table.from_frame(frame, kinds={"score": "bounded"})
        expected = pd.DataFrame(
            [
                ("ordinal", "5 whole numbers", "1, 2, 3, 4, 5"),
                ("categorical", "3 words", "p0, p1, p2"),
                ("bounded", "declared", ""),
            ],
            index=pd.Index(["stars", "who", "score"], name="column"),
            columns=["kind", "because", "levels"],
        )
        pd.testing.assert_frame_equal(table.schema.describe_kinds(), expected)
        assert "kinds: 1 ordinal, 1 categorical, 1 bounded (whole numbers taken for levels: 'stars')" in repr(table)

    def test_many_columns_do_not_fill_the_screen(self) -> None:
        frame = pd.DataFrame({f"q{n}": [0, 1] * 20 for n in range(50)})
        assert "(whole numbers taken for levels: 'q0', 'q1', 'q2', 'q3', 'q4', ...)" in repr(Table.from_frame(frame))

    def test_of_a_list_of_ratings_too(self) -> None:
        at = np.arange(150)
        lines = pd.DataFrame({"row": at // 3, "column": at % 3, "value": at % 5 + 1})
        table = Table.from_long(lines.iloc[1:], kinds={1: "continuous"}, auxiliary=[])
        said = table.schema.describe_kinds().loc[[0, 1, 2], ["kind", "because"]].to_numpy().tolist()
        assert said == [["ordinal", "5 whole numbers"], ["continuous", "declared"], ["ordinal", "5 whole numbers"]]

    def test_whole_numbers_stay_levels_when_gaps_make_them_floats(self) -> None:
        """In pandas a gap turns 0 and 1 into 0.0 and 1.0: what is imputed is 0 or 1 all the same, never 0.37."""
        rng = np.random.default_rng(0)
        sex = gaps(rng.integers(0, 2, 60), 1)
        assert sex.dtype == np.float64
        table = Table.from_frame(pd.DataFrame({"age": rng.normal(size=60), "sex": sex}))
        assert table.schema.kinds == {"age": "continuous", "sex": "binary"}
        model = SelfMasking(table, seed=0)
        result = fit(model, ZeroImpute(table, model.latent_dim, seed=0), table, epochs=1, seed=0, progress=False)
        for completed in impute(result, table, num_draws=3, num_particles=5).frames():
            assert completed["sex"].dtype == np.float64 and set(completed["sex"]) == {0.0, 1.0}
        assert table.new_rows(pd.DataFrame({"age": [0.5], "sex": [1]})).x[0, 1] > 0  # whole again without gaps


class TestDiscrete:
    def test_by_name(self) -> None:
        rng = np.random.default_rng(0)
        words = pd.Series(rng.choice(["x", "y", "z"], 40)).where(rng.random(40) < 0.7)
        table = Table.from_frame(pd.DataFrame({"a": rng.normal(size=40), "b": words}))
        for model_class in (GINA, SelfMasking, LatentDependent):
            for discrete in ("summed", "sampled", "straight-through"):
                model = model_class(table, seed=0, discrete=discrete, numbers="summed")
                assert model.summed_columns == ({0, 1} if discrete == "summed" else {0})
                fn = model.decoder(torch.zeros(40, model.latent_dim))
                assert [part.has_rsample for columns, part in fn.parts if columns == (1,)] == [
                    discrete == "straight-through"
                ]
            with pytest.raises(ValueError, match=r"discrete: expected one of \['summed', .*\], got 'exact'"):
                model_class(table, discrete="exact")
            with pytest.raises(ValueError, match="discrete, decoder: expected one of them, got both"):
                model_class(table, discrete="straight-through", decoder=model.decoder)
