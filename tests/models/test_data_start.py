"""Models and guides start near the maximum, from their table alone, whatever their parameters were."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import cast

import jaxtyping
import numpy as np
import pandas as pd
import pytest
import torch
from pyro.distributions import Normal

from pyro_mnar import Fit, MissingnessGraph, Table, fit
from pyro_mnar.guides import MeanField, PointNet, ZeroImpute
from pyro_mnar.kinds.numbers import Continuous, HeavyTailed
from pyro_mnar.mechanisms import Constant, General
from pyro_mnar.mechanisms import SelfMasking as OwnValue
from pyro_mnar.models import GINA, LatentDependent, PartialVAE, SelfMasking, data_start
from pyro_mnar.models.bends import nats_of_bends
from pyro_mnar.models.factor_em import OwnLogOdds
from pyro_mnar.models.factor_law import Expected
from pyro_mnar.nn import ResidualMLP
from pyro_mnar.training.data_start import BENT, begin, start_pair
from pyro_mnar.training.evidence import log_evidence
from pyro_mnar.training.schedule import STEPS_FROM_NEAR, default_rate

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


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_first_bound_is_far_above_that_of_a_random_start(seed: int) -> None:
    table = Table.from_frame(shadowed(seed))
    pair = GINA(table, mechanism=OwnValue, seed=seed), ZeroImpute(table, 3, seed=seed)
    random = bound_of(*pair, table)
    assert start_pair(*pair, table, CPU)
    assert bound_of(*pair, table) > random + 5


@pytest.mark.slow
def test_little_is_left_to_train() -> None:
    """From a random start 3,000 steps lead no higher than from the data 44 do, on rows that none of them saw."""
    frame = shadowed(0, rows=800)
    table = Table.from_frame(frame[:500])
    others = table.new_rows(frame[500:])
    told = {}
    for name, epochs in (("data", None), ("random", 600)):
        model, guide = GINA(table, mechanism=OwnValue, seed=0), ZeroImpute(table, 3, seed=0)
        fitted = fit(model, guide, table, epochs=epochs, start=name, progress=False)
        told[name] = bound_of(fitted.model, fitted.guide, others)
        assert len(fitted.history) == (11 if name == "data" else 600)
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


def values_of(*modules: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for module in modules for parameter in module.parameters()]


def check_same(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    assert all(torch.equal(*both) for both in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", ["yes", "colour", "grade", "visits"])
@pytest.mark.parametrize("model", [GINA, PartialVAE])
def test_columns_of_other_kinds_than_numbers_keep_the_random_start(model: type, kind: str) -> None:
    kinds = {"visits": "count"} if kind == "visits" else {}
    table = Table.from_frame(mixed()[["number", kind]], auxiliary=[], kinds=kinds)
    pair = model(table, latent_dim=1, seed=0), ZeroImpute(table, 1, seed=0)
    before = values_of(*pair)
    assert not start_pair(*pair, table, CPU)
    check_same(before, values_of(*pair))


@pytest.mark.parametrize("noise", ["student", "shared"])
def test_heavy_tails_and_a_scale_in_common_keep_the_random_start(noise: str) -> None:
    kind = HeavyTailed() if noise == "student" else Continuous(noise="shared")
    table = Table.from_frame(shadowed(0), kinds=dict.fromkeys("ab", kind))
    assert GINA(table, mechanism=Constant, seed=0).start_from(table.batch()) is None


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"mechanism": OwnValue}, {}])
def test_the_start_is_the_same_whatever_the_parameters_were(options: dict[str, type]) -> None:
    table = Table.from_frame(shadowed(0, rows=150))
    fresh = GINA(table, seed=0, **options), ZeroImpute(table, 3, seed=0)
    trained = GINA(table, seed=0, **options), ZeroImpute(table, 3, seed=0)
    fit(*trained, table, epochs=5, learning_rate=0.1, progress=False, compile="eager")
    told = fresh[0].mechanism.intercept.detach().clone()
    for pair in (fresh, trained):
        assert start_pair(*pair, table, CPU)
    if fresh[0].causes is not None:  # whose slopes are held, and intercepts stay where the table put them
        assert list(fresh[0].causes.slopes) == ["a", "b"]
        torch.testing.assert_close(told[:2], fresh[0].mechanism.intercept.detach()[:2])
    for part in ("prior", "mechanism"):
        check_same(values_of(getattr(fresh[0], part)), values_of(getattr(trained[0], part)))
    # Only latents that the data do not speak for keep a twentieth of what they were.
    bounds = [bound_of(*pair, table) for pair in (fresh, trained)]
    assert abs(bounds[0] - bounds[1]) < 0.05


def test_what_was_given_is_left_alone_and_a_pair_that_cannot_start_too() -> None:
    table = Table.from_frame(shadowed(0))
    for model, guide in (
        (GINA(table, decoder=GINA(table, seed=1).decoder, seed=0), ZeroImpute(table, 3, seed=0)),
        (GINA(table, mechanism=OwnValue(4), seed=0), ZeroImpute(table, 3, seed=0)),
        (GINA(table, mechanism=Constant, seed=0), ZeroImpute(table, 2, seed=0)),  # of another width
    ):
        before = values_of(model, guide)
        assert not start_pair(model, guide, table, CPU)
        check_same(before, values_of(model, guide))


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


@pytest.mark.slow
def test_a_second_fit_and_one_that_has_no_checkpoint_yet_start_from_the_data_too(tmp_path: Path) -> None:
    table = Table.from_frame(shadowed(0, rows=100))
    pair = GINA(table, mechanism=Constant, seed=0), ZeroImpute(table, 3, seed=0)
    for options in ({}, {"checkpoint": tmp_path / "new", "resume": True}):
        fitted = fit(*pair, table, start="data", progress=False, compile="eager", **options)  # pyright: ignore
        assert len(fitted.history) == STEPS_FROM_NEAR


SHORT: dict = {"epochs": 1, "learning_rate": 1e-9, "progress": False, "compile": "eager"}


def test_a_pair_starts_from_the_data_as_long_as_it_is_as_it_was_made() -> None:
    table = Table.from_frame(shadowed(0, rows=100))

    def fresh() -> tuple[GINA, ZeroImpute]:
        return GINA(table, mechanism=Constant, seed=0), ZeroImpute(table, 3, seed=0)

    assert begin(*fresh(), table, CPU, None)
    assert not begin(*fresh(), table, CPU, "random")
    assert begin(copy.deepcopy(fresh()[0]), fresh()[1], table, CPU, None)
    trained, set_by_hand, loaded, frozen = (fresh() for _ in range(4))
    fit(*trained, table, start="random", **SHORT)
    set_by_hand[0].decoder.likelihood.log_noise.data += 0.1  # pyright: ignore
    loaded[0].load_state_dict(GINA(table, mechanism=Constant, seed=1).state_dict())
    frozen[1].encoder[0].weight.requires_grad_(False)  # pyright: ignore
    for pair in (trained, set_by_hand, loaded, frozen):
        before = values_of(*pair)
        assert not begin(*pair, table, CPU, None)
        check_same(before, values_of(*pair))


def bent(rows: int = 300) -> pd.DataFrame:
    """A column with gaps that is a parabola in a complete one, and one that is a line in it."""
    random = np.random.default_rng(0)
    u = random.normal(size=(rows, 2))
    x = np.stack([0.5 * u[:, 0] + 0.5 * u[:, 0] ** 2, u[:, 0] - u[:, 1]], axis=1) + 0.3 * random.normal(size=(rows, 2))
    x[random.random(x.shape) < 0.3] = np.nan
    return pd.DataFrame(np.hstack([x, u]), columns=list("abuv"))


def test_where_columns_with_gaps_bend_a_pair_starts_from_the_data_only_if_asked_to(caplog) -> None:
    table = Table.from_frame(bent())
    pair = GINA(table, mechanism=Constant, seed=0), ZeroImpute(table, 3, seed=0)
    before = values_of(*pair)
    with caplog.at_level("INFO", logger="pyro_mnar"):
        assert not begin(*pair, table, CPU, None)
    assert "start: at random (columns with gaps bend" in caplog.text
    check_same(before, values_of(*pair))
    assert begin(*pair, table, CPU, "data")
    page = bent().assign(c=lambda frame: 2 * frame["b"])  # one event, whose gaps no mechanism of columns has to explain
    page.loc[page["b"].isna(), "a"] = np.nan
    page.loc[page["a"].isna(), ["b", "c"]] = np.nan
    together = Table.from_frame(page)
    assert together.schema.blocks
    assert not begin(GINA(together, blocks=True, seed=0), ZeroImpute(together, 4, seed=0), together, CPU, None)
    straight = Table.from_frame(bent().drop(columns="a"))
    assert begin(GINA(straight, mechanism=Constant, seed=0), ZeroImpute(straight, 2, seed=0), straight, CPU, None)
    complete = Table.from_frame(bent().dropna(subset=["a"]))  # it bends, but nothing of it has to be imputed
    assert begin(GINA(complete, mechanism=Constant, seed=0), ZeroImpute(complete, 3, seed=0), complete, CPU, None)


@pytest.mark.parametrize("factors", [1, 3])
def test_a_factor_that_correlations_do_not_show_is_taken_if_it_makes_values_likelier(
    factors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of tables half of whose values are missing few rows show both of two columns, and pairs tell of too few factors;
    columns that are in U, too, have no say.
    """
    monkeypatch.setattr(data_start, "number_of_factors", lambda *_: 1)
    random = np.random.default_rng(0)
    u, f = random.normal(size=(400, 1)), random.normal(size=(400, factors))
    x = 0.5 * u + f @ random.normal(size=(factors, 8)) + 0.3 * random.normal(size=(400, 8))
    x[random.random(x.shape) < 0.5] = np.nan
    table = Table.from_frame(pd.DataFrame(np.hstack([x, u]), columns=list("abcdefghu")))
    model = GINA(table, mechanism=Constant, seed=0)
    assert model.start_from(table.batch()) is not None
    network = cast(ResidualMLP, model.decoder.network)
    used = (network.linear.weight[:8].abs().amax(0) > 0.1).sum()
    assert used == 1 + factors  # the first copies u


@pytest.mark.parametrize("told", ["complete", "incomplete"])
@pytest.mark.parametrize(("curve", "bends"), [(0.0, False), (0.5, True)])
def test_a_bend_of_a_column_that_masks_itself_is_told_from_selection(
    told: str, curve: float, bends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Low values go missing, and what is seen flattens towards them in either case.  What tells of the columns is
    complete, or has gaps of its own.  The measure that has slopes found beforehand has no part in it.
    """
    monkeypatch.setattr(data_start, "nats_of_bends", lambda *_: 0.0)
    random = np.random.default_rng(1)
    u = random.normal(size=1_500)
    y = (np.expm1(curve * u) / curve if curve else u)[:, None] + 0.6 * random.normal(size=(1_500, 3))
    y = (y - y.mean(0)) / y.std(0)
    y[random.random(y.shape) < 1 / (1 + np.exp(1.5 + 3 * y))] = np.nan
    frame = pd.DataFrame(y, columns=list("abc")).assign(u=u)
    if told == "incomplete":
        frame.loc[random.random(1_500) < 0.2, "u"] = np.nan
    table = Table.from_frame(frame, auxiliary=[] if told == "incomplete" else None)
    model = GINA(table, seed=0)
    assert model.causes is not None and model.causes.slopes
    start = model.start_from(table.batch())
    assert start is not None and (start.bend > BENT) == bends, start


@pytest.mark.parametrize(("more", "starts"), [(0, False), (6, True)])
def test_of_fewer_rows_than_ten_a_column_no_bend_is_learned(more: int, starts: bool) -> None:
    noise = np.random.default_rng(1).normal(size=(60, more))
    table = Table.from_frame(bent(60).assign(**{f"c{at}": noise[:, at] for at in range(more)}))
    pair = GINA(table, mechanism=Constant, seed=0), ZeroImpute(table, 3 + more, seed=0)
    found = pair[0].start_from(table.batch())
    assert found is not None and found.bend > BENT
    pair = GINA(table, mechanism=Constant, seed=0), ZeroImpute(table, 3 + more, seed=0)
    assert begin(*pair, table, CPU, None) == starts


def test_twelve_rows_start_from_the_data() -> None:
    table = Table.from_frame(bent(12))
    assert begin(GINA(table, mechanism=Constant, seed=0), ZeroImpute(table, 3, seed=0), table, CPU, None)


def test_a_pair_whose_latents_do_not_hold_u_and_what_it_leaves_starts_at_random() -> None:
    """z = 0.8 u + 0.6 e: one latent that copied u would leave e to the noise, 0.2 nats a row worse than at random."""
    random = np.random.default_rng(0)
    u = random.normal(size=500)
    x = (0.8 * u + 0.6 * random.normal(size=500))[:, None] + 0.4 * random.normal(size=(500, 3))
    x[random.random(x.shape) < 0.3] = np.nan
    table = Table.from_frame(pd.DataFrame(x, columns=list("abc")).assign(u=u), auxiliary=["u"])
    for latents in (1, 2):
        pair = GINA(table, latent_dim=latents, mechanism=Constant, seed=0), ZeroImpute(table, latents, seed=0)
        assert start_pair(*pair, table, CPU) == (latents == 2)


def test_what_bends_because_values_mask_themselves_is_no_bend() -> None:
    """Seen values of a line lie on a curve: without the mechanism, nine nats or more speak for a square."""
    random = np.random.default_rng(0)
    line = random.normal(size=4000)
    x = line + 0.7 * random.normal(size=4000)
    seen = random.random(4000) < 1 / (1 + np.exp(-(1 - 4 * x)))
    law = Expected(line[:, None], np.full((4000, 1), 0.49))
    told, untold = (OwnLogOdds(np.array([a]), np.array([s])) for a, s in ((1.0, -4.0), (0.0, 0.0)))
    assert nats_of_bends(x[:, None], seen[:, None], law, untold) > 9
    assert nats_of_bends(x[:, None], seen[:, None], law, told) == 0


def test_fit_starts_where_it_is_asked_to() -> None:
    table = Table.from_frame(shadowed(0, rows=100))
    told, random, near = ((GINA(table, mechanism=Constant, seed=0), ZeroImpute(table, 3, seed=0)) for _ in range(3))
    before = values_of(*random)
    fit(*told, table, **SHORT)
    fit(*random, table, start="random", **SHORT)
    assert start_pair(*near, table, CPU)
    for one, other in zip(values_of(*told) + values_of(*random), values_of(*near) + before, strict=True):
        torch.testing.assert_close(one, other)


def test_of_restarts_the_first_starts_from_the_data_and_steps_are_those_of_a_random_start() -> None:
    table = Table.from_frame(shadowed(0, rows=100))
    pair = GINA(table, mechanism=Constant, seed=0), ZeroImpute(table, 3, seed=0)
    fitted = fit(*pair, table, restarts=2, **SHORT)
    first, second = (one.model.decoder.likelihood.log_noise for one in fitted.members)  # pyright: ignore
    assert start_pair(*pair, table, CPU)
    torch.testing.assert_close(first, pair[0].decoder.likelihood.log_noise)  # pyright: ignore
    assert not torch.allclose(first, second)
    assert fitted.restarts["kept"].tolist() == [True, False]


def test_what_cannot_start_from_the_data_says_so_if_it_must() -> None:
    table = Table.from_frame(shadowed(0, rows=100))
    pair = GINA(table, mechanism=General, seed=0), ZeroImpute(table, 3, seed=0)
    before = values_of(*pair)
    with pytest.raises(ValueError, match=r"start: the data do not say where all parameters .* start='random'"):
        fit(*pair, table, start="data", epochs=1)
    check_same(before, values_of(*pair))
    fit(*pair, table, **SHORT)
    jaxtyping.config.update("jaxtyping_disable", True)  # as users have it: no type checker stands before the message
    with pytest.raises(TypeError, match=r"start: expected a Fit, .* 'data' or 'random', got 'anywhere'"):
        fit(*pair, table, start="anywhere")  # pyright: ignore
    with pytest.raises(TypeError, match=r"start: expected a Fit, .* 'data' or 'random', got +a"):
        fit(*pair, table, start=table.frame)  # pyright: ignore


def test_many_steps_from_the_data_take_the_usual_rate_and_few_a_little_one() -> None:
    rates = [default_rate(steps, is_near=True) for steps in (10, 150, 671, 3000, 30_000)]
    assert rates == pytest.approx([1e-4, 1e-4, 2e-2 / 200**0.5, 2e-2, 2e-2], rel=2e-3)
    assert default_rate(150, is_near=False) == 2e-2


def test_a_file_that_is_there_is_refused_before_parameters_change(tmp_path: Path) -> None:
    table = Table.from_frame(shadowed(0, rows=100))
    pair = GINA(table, mechanism=Constant, seed=0), ZeroImpute(table, 3, seed=0)
    before = values_of(*pair)
    (tmp_path / "there").write_text("")
    with pytest.raises(ValueError, match="there is there already"):
        fit(*pair, table, start="data", checkpoint=tmp_path / "there")
    check_same(before, values_of(*pair))


def test_mechanisms_that_rows_do_not_tell_keep_the_random_start() -> None:
    table = Table.from_frame(shadowed(0))
    linear = {"form": "linear"}
    graph = MissingnessGraph([("u", "R[a]", linear), ("v", "R[a]", linear)], table)
    model = GINA(table, graph=graph, seed=0)
    assert model.start_from(table.batch()) is not None
    a, given = 0, torch.cat([table.x[:, 2:], torch.ones(len(table), 1)], dim=1).double()
    found = torch.cat([model.mechanism.other_slope[a], model.mechanism.intercept[[a]]]).double()  # pyright: ignore
    score = given.T @ (table.mask[:, a].double() - torch.sigmoid(given @ found)) - 0.1 * found * torch.tensor([1, 1, 0])
    assert score.abs().max() < 1e-3  # logistic regression with a weak prior on the slopes
    for untold in (
        LatentDependent(table, seed=0),
        SelfMasking(table, slope=Normal(0.0, 1.0), seed=0),
        GINA(table, graph=MissingnessGraph([("a", "R[a]", linear), ("u", "R[a]", linear)], table), seed=0),
        GINA(table, graph=MissingnessGraph([("b", "R[a]", linear)], table), seed=0),
        GINA(table, graph=MissingnessGraph([("u", "R[a]", {"sign": 1, **linear})], table), seed=0),
    ):
        before = values_of(untold)
        assert untold.start_from(table.batch()) is None
        check_same(before, values_of(untold))


def test_two_latents_cannot_copy_a_wider_u_and_none_copies_the_mask() -> None:
    table = Table.from_frame(shadowed(0))
    assert GINA(table, latent_dim=2, mechanism=Constant, seed=0).start_from(table.batch()) is not None
    assert GINA(table, latent_dim=1, mechanism=Constant, seed=0).start_from(table.batch()) is None
    by_mask = Table.from_frame(shadowed(0), auxiliary="mask")
    assert GINA(by_mask, latent_dim=6, mechanism=Constant, seed=0).start_from(by_mask.batch()) is None
    assert SelfMasking(by_mask, latent_dim=6, slope=1.0, seed=0).start_from(by_mask.batch()) is None


def test_gaps_with_bounds_and_empty_columns_keep_the_random_start() -> None:
    frame = shadowed(0, rows=80)
    lower = np.where(frame["a"].isna(), 1.0, -np.inf)
    bounded = Table.from_frame(frame, lower={"a": lower})
    assert GINA(bounded, mechanism=Constant, seed=0).start_from(bounded.batch()) is None
