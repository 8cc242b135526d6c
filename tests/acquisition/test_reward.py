"""The information reward against exact conditional laws, and questions that lower the error faster than chance."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.integrate import trapezoid
from sklearn.datasets import load_breast_cancer

from checks import gina_pair, table_with_gaps
from pyro_mnar import (
    Fit,
    Table,
    fit,
    impute,
    information_reward,
    next_best,
    observe_mask,
    partially_observed,
    rows,
    simulate_acquisition,
)
from pyro_mnar.acquisition.reward import Predictive, rewards_of
from pyro_mnar.guides import MeanField, ZeroImpute
from pyro_mnar.imputation.limits import Limits
from pyro_mnar.infer.session import threads
from pyro_mnar.models import PartialVAE

# A linear-Gaussian model whose posteriors are known: x = z · LOADINGS + NOISE · ε, z ~ N(0, I); d depends on nothing

LOADINGS = torch.tensor([[0.9, 0.7, 0.1, 0.0], [0.0, -0.6, 0.9, 0.0]], dtype=torch.float64)
NOISE = torch.tensor([0.4, 0.6, 0.3, 1.0], dtype=torch.float64)


def linear(batch):
    with rows(batch):
        z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch), 2), 1.0).to_event(1))
        return partially_observed("x", dist.Normal(z @ LOADINGS.to(z), NOISE.to(z)), batch)


def withheld(batch):
    """The same columns, with a mechanism that the guide below knows nothing of."""
    with rows(batch):
        z = pyro.sample("z", dist.Normal(batch.x.new_zeros(len(batch), 2), 1.0).to_event(1))
        x = partially_observed("x", dist.Normal(z @ LOADINGS.to(z), NOISE.to(z)), batch)
        observe_mask("r", 1 - 3 * x, batch)


def posterior(batch):
    """Mean and covariance of z given the entries that the mask calls observed; ``(rows, 2)``, ``(rows, 2, 2)``."""
    scaled = LOADINGS.to(batch.x) * batch.mask[:, None, :] / NOISE.to(batch.x) ** 2
    covariance = torch.linalg.inv(torch.eye(2).to(batch.x) + scaled @ LOADINGS.to(batch.x).T)
    return (covariance @ scaled @ batch.x[..., None])[..., 0], covariance


def exact(batch):
    with rows(batch):
        mean, covariance = posterior(batch)
        pyro.sample("z", dist.MultivariateNormal(mean, covariance))


def unregistered(batch):
    """The same posterior, in a form whose divergence torch does not know."""
    with rows(batch):
        mean, covariance = posterior(batch)
        shifted = dist.MultivariateNormal(torch.zeros_like(mean), covariance)
        pyro.sample(
            "z", dist.TransformedDistribution(shifted, [dist.transforms.AffineTransform(mean, 1.0, event_dim=1)])
        )


def hierarchical(batch):
    """The same posterior, as z_0 and then z_1 given z_0, for the model below."""
    with rows(batch):
        mean, covariance = posterior(batch)
        first = pyro.sample("z0", dist.Normal(mean[:, 0], covariance[:, 0, 0].sqrt()))
        slope = covariance[:, 0, 1] / covariance[:, 0, 0]
        variance = covariance[:, 1, 1] - slope * covariance[:, 0, 1]
        pyro.sample("z1", dist.Normal(mean[:, 1] + slope * (first - mean[:, 0]), variance.sqrt()))


def linear_in_two(batch):
    """The linear model with a site for each latent."""
    with rows(batch):
        zeros = batch.x.new_zeros(len(batch))
        z = torch.stack([pyro.sample(name, dist.Normal(zeros, 1.0)) for name in ("z0", "z1")], -1)
        return partially_observed("x", dist.Normal(z @ LOADINGS.to(z), NOISE.to(z)), batch)


def linear_table(patterns=("0000", "1000", "0010", "1010", "1111"), seed=3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(patterns), 2, generator=generator) @ LOADINGS
    x = x + NOISE * torch.randn(x.shape, generator=generator)
    mask = torch.tensor([[digit == "1" for digit in pattern] for pattern in patterns])
    names = list("abcd")
    # Every column has a value in the schema's frame; its units are made the model's own.
    schema = Table.from_frame(pd.DataFrame([[-1.0] * 4, [1.0] * 4, [np.nan] * 4], columns=names), auxiliary=[]).schema
    return Table.from_frame(pd.DataFrame(np.where(mask, x, np.nan), columns=names), schema=schema)


def information(known, answer, target=None):
    """I(x_i; z | x_o), or I(x_i; x_φ | x_o), in closed form from the covariance of the columns."""
    covariance = (LOADINGS.T @ LOADINGS + torch.diag(NOISE**2)).numpy()

    def variance(column, given):
        if not given:
            return covariance[column, column]
        block = covariance[np.ix_(given, given)]
        return covariance[column, column] - covariance[column, given] @ np.linalg.solve(
            block, covariance[given, column]
        )

    before = variance(answer, known)
    after = NOISE[answer].item() ** 2 if target is None else variance(answer, [*known, *target])
    return 0.5 * np.log(before / after)


def expected(table, target=None):
    values = np.full(table.mask.shape, np.nan)
    hidden = [] if target is None else target
    for row, mask in enumerate(table.mask.tolist()):
        known = [d for d in range(4) if mask[d]]
        for d in set(range(4)) - set(known) - set(hidden):
            left = None if target is None else [t for t in target if t not in known]
            values[row, d] = 0.0 if left == [] else information(known, d, left)
    return values


@pytest.mark.parametrize(
    ("model", "guide"), [(linear, exact), (withheld, exact), (linear, unregistered), (linear_in_two, hierarchical)]
)
def test_rewards_are_the_exact_information_about_z(model, guide):
    table = linear_table()
    rewards = information_reward(Fit(model, guide, table.schema), table, num_samples=4_000, num_particles=30, seed=1)
    # A sample's divergence has a standard deviation of at most about 1: five standard errors of 4,000 samples.
    np.testing.assert_allclose(rewards, expected(table), atol=0.08)
    assert list(rewards.columns) == list("abcd") and rewards.index.equals(table.frame.index)


def test_with_a_target_the_rewards_are_the_exact_information_about_it():
    table = linear_table(("0000", "1000", "0010", "0100", "1101"))
    fitted = Fit(linear, exact, table.schema)
    rewards = information_reward(fitted, table, ["b"], num_samples=4_000, num_particles=1, seed=1)
    np.testing.assert_allclose(rewards, expected(table, target=[1]), atol=0.08)
    assert (rewards.loc[3, ["a", "c", "d"]] == 0).all()  # b is known there
    pd.testing.assert_frame_equal(
        rewards, information_reward(fitted, table, "b", num_samples=4_000, num_particles=1, seed=1)
    )


@pytest.mark.slow
def test_rewards_agree_with_brute_force():
    """The same expectation by a loop: draw an answer, encode the row with it, compare two normals."""
    table = linear_table(("1000",))
    batch = table.batch()
    mean, covariance = posterior(batch)
    before = torch.distributions.MultivariateNormal(mean[0], covariance[0])
    for column in (1, 2, 3):
        gains = []
        for _ in range(1_500):
            z = before.sample()
            answer = z @ LOADINGS[:, column] + NOISE[column] * torch.randn(())
            x, mask = batch.x.clone(), batch.mask.clone()
            x[0, column], mask[0, column] = answer, True
            told_mean, told_covariance = posterior(type(batch).of(x, mask))
            after = torch.distributions.MultivariateNormal(told_mean[0], told_covariance[0])
            gains.append(torch.distributions.kl_divergence(after, before))
        gains = torch.stack(gains)
        reward = information_reward(Fit(linear, exact, table.schema), table, num_samples=1_500, seed=2).iloc[0, column]
        # Two independent estimates of one mean: five standard errors of their difference.
        assert abs(reward - gains.mean()) < 5 * gains.std() * (2 / 1_500) ** 0.5 + 1e-12


def test_a_column_that_depends_on_nothing_is_worth_nothing_and_is_not_asked():
    table = linear_table()
    fitted = Fit(linear, exact, table.schema)
    rewards = information_reward(fitted, table)
    np.testing.assert_allclose(rewards["d"].iloc[:4], 0, atol=1e-10)
    best = next_best(fitted, table)
    assert best.tolist() == ["c", "c", "a", "b", None]
    assert best.tolist()[:4] == [rewards.columns[i] for i in np.nanargmax(expected(table)[:4], axis=1)]


def test_observed_and_inapplicable_cells_have_no_reward():
    table = table_with_gaps()
    model, guide = gina_pair(table)
    frame = table.frame.copy()
    frame.loc[1, "x0"] = np.nan
    marked = table.new_rows(frame, not_applicable={"x0": frame.x0.isna()})
    rewards = information_reward(Fit(model, guide, table.schema), marked, num_samples=5, num_particles=5)
    askable = frame[["x1", "x2"]].isna()
    assert rewards["x0"].isna().all()
    np.testing.assert_array_equal(rewards[["x1", "x2"]].notna(), askable)
    assert (rewards[["x1", "x2"]].to_numpy()[askable.to_numpy()] >= 0).all()


def test_same_seed_same_rewards_and_nobody_elses_numbers(generators_untouched):
    table = table_with_gaps()
    fitted = Fit(*gina_pair(table), table.schema)
    first, again, other = (
        information_reward(fitted, table, num_samples=4, num_particles=3, seed=seed) for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(first, again)
    assert (first - other).abs().max().max() > 0


def test_chunks_change_nothing_but_the_draws():
    table = linear_table()
    fitted = Fit(linear, exact, table.schema)
    whole = information_reward(fitted, table, num_samples=20, num_particles=5)
    one_answer_at_once = rewards_of(Predictive(fitted, table, 20, 5, seed=0, device=None), None, answered_rows=1)
    pd.testing.assert_frame_equal(one_answer_at_once, whole)
    limits = Limits(elements=2_000 * table.schema.num_columns)  # one row at once, and some of its draws
    pieces = rewards_of(Predictive(fitted, table, 2_000, 5, seed=0, device=None, limits=limits), None)
    np.testing.assert_allclose(pieces, expected(table), atol=0.12)


def test_an_answer_is_drawn_without_news_of_the_mechanism():
    """Under the mechanism a gap of ``withheld`` means a high value; questions that we chose do not."""
    table = linear_table(("0000",))
    fitted = Fit(withheld, exact, table.schema)
    aware = impute(fitted, table, num_draws=200, num_particles=100).means
    assert aware[0] > 0.3
    seen = []

    def watching(batch):
        seen.append(batch)
        exact(batch)

    information_reward(Fit(withheld, watching, table.schema), table, num_samples=500, num_particles=20)
    answered = [batch for batch in seen if batch.mask.any(1).all() and len(batch) == 500 * 4]
    (batch,) = answered
    assert not (batch.mask_modelled & batch.mask).any()
    assert abs(batch.x[batch.mask[:, 0], 0].mean()) < 5 * 1.0 / 500**0.5


def test_errors_name_what_is_wrong():
    table = table_with_gaps()
    model, guide = gina_pair(table)
    fitted = Fit(model, guide, table.schema)
    with pytest.raises(ValueError, match=r"target 'y': expected one of the modelled columns \['x0', 'x1', 'x2'\]"):
        information_reward(fitted, table, "y")
    with pytest.raises(ValueError, match="target: expected columns that leave one to ask"):
        information_reward(fitted, table, ["x0", "x1", "x2"])
    with pytest.raises(ValueError, match="target: expected at least one column"):
        information_reward(fitted, table, [])
    with pytest.raises(ValueError, match="num_samples: expected at least 1, got 0"):
        information_reward(fitted, table, num_samples=0)
    with pytest.raises(ValueError, match="same posterior whatever a row holds"):
        information_reward(Fit(model, MeanField(table, 2), table.schema), table)
    with pytest.raises(ValueError, match="the guide proposes no latent"):
        information_reward(Fit(model, lambda batch: None, table.schema), table)
    with pytest.raises(ValueError, match=r"policy: expected one of .*, got 'best'"):
        simulate_acquisition(fitted, table, "best")
    with pytest.raises(ValueError, match="steps: expected from 1 to 3, the most that can be asked of a row, got 4"):
        simulate_acquisition(fitted, table, steps=4)
    of_mask = Table.from_frame(table.frame[["x0", "x1"]], auxiliary="mask")
    with pytest.raises(ValueError, match="U would change with every question"):
        information_reward(Fit(*gina_pair(of_mask), of_mask.schema), of_mask)
    complete = Table.from_frame(table.frame)
    with pytest.raises(ValueError, match="target 'u0': serves as U"):
        information_reward(Fit(*gina_pair(complete), complete.schema), complete, "u0")


def test_point_masses_have_no_divergence():
    def point(batch):
        with rows(batch):
            pyro.sample("z", dist.Delta(posterior(batch)[0], event_dim=1))

    table = linear_table(("0000", "1000"))
    with pytest.raises(ValueError, match="column 'a': expected a finite divergence"):
        information_reward(Fit(linear, point, table.schema), table)


# Simulation -----------------------------------------------------------------------------------------------------------


def answers(count=60, seed=5):
    return linear_table(("1111",) * count, seed)


def test_a_simulation_asks_once_ends_with_everything_and_counts():
    table = answers(20)
    fitted = Fit(linear, exact, table.schema)
    for policy in ("information", "variance", "random"):
        curve = simulate_acquisition(fitted, table, policy, num_samples=10, num_particles=10)
        assert curve.questions.shape == (20, 4)
        assert all(sorted(asked) == list("abcd") for asked in curve.questions.to_numpy())
        assert curve.frame["step"].tolist() == curve.frame["answered"].tolist() == [0, 1, 2, 3, 4]
        assert curve.frame["error"].iloc[-1] == 0 and (curve.frame["policy"] == policy).all()
        assert (curve.frame["error"].iloc[:-1] > 0).all()


def test_gaps_are_neither_asked_nor_scored_and_rows_run_out():
    table = linear_table(("1111", "0100", "1010"))
    curve = simulate_acquisition(Fit(linear, exact, table.schema), table, target="c", num_samples=5, num_particles=5)
    assert curve.questions.iloc[1].tolist() == ["b", None, None]
    assert curve.questions.iloc[2].tolist() == ["a", None, None]
    assert curve.frame["answered"].iloc[-1] == pytest.approx(5 / 3)


def test_error_is_that_of_the_exact_predictive_mean():
    table = answers()
    curve = simulate_acquisition(
        Fit(linear, exact, table.schema), table, target="b", steps=1, num_samples=100, num_particles=100
    )
    x = table.x.numpy()
    covariance = (LOADINGS.T @ LOADINGS + torch.diag(NOISE**2)).numpy()
    asked = curve.questions[1].map("abcd".index).to_numpy()
    prediction = covariance[1, asked] / covariance[asked, asked] * x[np.arange(len(x)), asked]
    errors = [np.sqrt((x[:, 1] ** 2).mean()), np.sqrt(((x[:, 1] - prediction) ** 2).mean())]
    # Means of 10,000 particles are off by about 0.01 a row, independently.
    np.testing.assert_allclose(curve.frame["error"], errors, atol=0.01)
    worth = [information([], d, [1]) for d in (0, 2)]
    assert (curve.questions[1] == "ac"[int(np.argmax(worth))]).mean() > 0.7  # the others by sampling error


def test_curves_repeat_with_the_seed_and_are_drawn():
    table = answers(10)
    fitted = Fit(linear, exact, table.schema)
    runs = [simulate_acquisition(fitted, table, "random", seed=seed) for seed in (0, 0, 1)]
    pd.testing.assert_frame_equal(runs[0].frame, runs[1].frame)
    pd.testing.assert_frame_equal(runs[0].questions, runs[1].questions)
    assert not runs[0].questions.equals(runs[2].questions)
    ax = runs[0].plot()
    runs[2].plot(ax, label="another seed")
    assert [line.get_label() for line in ax.lines] == ["random", "another seed"]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), runs[0].frame["error"])
    error = runs[0].frame["error"].to_numpy()
    assert runs[0].area == pytest.approx(trapezoid(error) / (len(error) - 1))


def learned(frame, seed, steps):
    """A fit to rows of which a random share of the answers is seen, and rows to ask."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(frame))
    train, test = frame.iloc[order[100:]], frame.iloc[order[:100]]
    copies = pd.concat([train] * 4, ignore_index=True)
    seen = random.random(copies.shape) < random.random((len(copies), 1))
    table = Table.from_frame(copies.where(seen), auxiliary=[], dtype=torch.float32)
    model = PartialVAE(table, latent_dim=min(10, frame.shape[1] - 1), seed=seed).float()
    guide = ZeroImpute(table, model.latent_dim, seed=seed).float()
    fitted = fit(model, guide, table, epochs=max(1, steps * 128 // len(table)), seed=seed, progress=False)
    return fitted, table.new_rows(test)


@pytest.mark.slow
def test_the_information_policy_beats_random_in_five_of_five_seeds():
    frame = load_breast_cancer(as_frame=True).frame.astype(float)
    options = {"target": "target", "steps": 5, "num_samples": 20, "num_particles": 5}
    with threads(1):
        for seed in range(5, 10):  # the configuration was chosen on seeds 0 to 4
            fitted, test = learned(frame, seed, steps=1_500)
            policies = ("information", "random")
            areas = {p: simulate_acquisition(fitted, test, p, seed=seed, **options).area for p in policies}
            assert areas["information"] < areas["random"], (seed, areas)


@pytest.mark.slow
def test_answers_may_be_words_and_levels():
    random = np.random.default_rng(0)
    ability = random.normal(size=300)
    frame = pd.DataFrame({f"q{d}": ability + 0.3 * random.normal(size=300) > 0 for d in range(3)}).astype("boolean")
    frame["mood"] = np.where(random.random(300) < 0.5, "good", "bad")
    frame = frame.mask(random.random(frame.shape) < 0.4)
    table = Table.from_frame(frame, auxiliary=[], kinds={"mood": "categorical"})
    model = PartialVAE(table, latent_dim=1, seed=0)
    fitted = fit(model, ZeroImpute(table, 1, hidden=[16], seed=0), table, epochs=60, progress=False)
    rewards = information_reward(fitted, table, num_particles=20).mean()
    assert rewards["mood"] < 0.5 * rewards[["q0", "q1", "q2"]].min()
    curve = simulate_acquisition(fitted, table, target="q2", num_particles=20, num_samples=20, steps=2)
    errors = curve.frame["error"]
    assert errors.iloc[2] < 0.85 * errors.iloc[0]


def test_the_fit_is_left_as_it_was():
    table = table_with_gaps()
    model, guide = gina_pair(table)
    before = copy.deepcopy(guide.state_dict())
    information_reward(Fit(model, guide, table.schema), table, num_samples=3, num_particles=3)
    assert all(torch.equal(value, before[name]) for name, value in guide.state_dict().items())
