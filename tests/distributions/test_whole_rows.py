"""Rows whose entries depend on each other: marginals, conditionals and draws against dense formulas and enumeration."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pyro.distributions as dist
import pyro.poutine as poutine
import pytest
import torch
from torch import Tensor

from checks import check_mean
from pyro_mnar import Batch, partially_observed, propose_missing, rows
from pyro_mnar.distributions import Columns, Levels
from pyro_mnar.distributions.whole_rows import WholeRow

COLUMNS, ROWS = 4, 12


def covariance(seed: int, *batch: int, columns: int = COLUMNS) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(*batch, columns, columns + 2, generator=generator)
    return root @ root.mT / columns + 0.2 * torch.eye(columns)


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch_of(x: Tensor) -> Batch:
    """Half of the entries missing; the first row is complete, the second empty."""
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < 0.5
    mask[0], mask[1] = True, False
    return Batch.of(x.masked_fill(~mask, torch.nan))


def given(loc: Tensor, sigma: Tensor, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of one row: log p(x_o), and mean and covariance of x_u given x_o, by inverting Σ_oo."""
    o, u = seen.nonzero()[:, 0], (~seen).nonzero()[:, 0]
    slopes = sigma[u][:, o] @ torch.linalg.inv(sigma[o][:, o])
    log_p = dist.MultivariateNormal(loc[o], sigma[o][:, o]).log_prob(x[o]) if len(o) else torch.zeros(())
    return log_p, loc[u] + slopes @ (x[o] - loc[o]), sigma[u][:, u] - slopes @ sigma[o][:, u]


def trace_of(fn: object, batch: Batch, **options: object) -> poutine.Trace:
    def model(batch: Batch) -> Tensor:
        with rows(batch):
            return partially_observed("x", fn, batch, **options)

    trace = poutine.trace(model).get_trace(batch)
    trace.compute_log_prob()
    return trace


def by_covariance(loc: Tensor, sigma: Tensor) -> dist.Distribution:
    return dist.MultivariateNormal(loc, covariance_matrix=sigma)


def by_precision(loc: Tensor, sigma: Tensor) -> dist.Distribution:
    return dist.MultivariateNormal(loc, precision_matrix=torch.linalg.inv(sigma))


def by_factor(loc: Tensor, sigma: Tensor) -> dist.Distribution:
    return dist.MultivariateNormal(loc, scale_tril=torch.linalg.cholesky(sigma))


def by_low_rank(loc: Tensor, sigma: Tensor) -> dist.Distribution:
    """The same covariance: its least eigenvalue on the diagonal, the rest in as many factors as columns."""
    values, vectors = torch.linalg.eigh(sigma)
    least = 0.5 * values[..., :1]
    factor = vectors * (values - least).sqrt().unsqueeze(-2)
    return dist.LowRankMultivariateNormal(loc, factor, least.expand(loc.shape))


@pytest.mark.parametrize("family", [by_covariance, by_precision, by_factor, by_low_rank])
@pytest.mark.parametrize("shape", [(), (ROWS,)])
def test_marginals_and_conditionals_are_the_dense_ones(family: Callable, shape: tuple[int, ...]) -> None:
    loc, sigma = numbers(0, *shape, COLUMNS), covariance(1, *shape)
    x = numbers(2, ROWS, COLUMNS)
    batch = batch_of(x)
    nodes = trace_of(family(loc, sigma), batch).nodes
    completed, drawn = nodes["_RETURN"]["value"], nodes["x_missing"]["value"]
    mean = nodes["x_missing"]["fn"].base_dist.mean
    for i in range(ROWS):
        seen = batch.mask[i]
        of_row = given(loc.expand(ROWS, -1)[i], sigma.expand(ROWS, -1, -1)[i], x[i], seen)
        torch.testing.assert_close(nodes["x_observed"]["log_prob"][i], of_row[0])
        torch.testing.assert_close(mean[i][~seen], of_row[1])
        conditional = torch.zeros(())
        if not seen.all():
            conditional = dist.MultivariateNormal(*of_row[1:]).log_prob(completed[i][~seen])
        placeholders = dist.Normal(0.0, 1.0).log_prob(drawn[i][seen]).sum()
        torch.testing.assert_close(nodes["x_missing"]["log_prob"][i], conditional + placeholders)
    assert torch.equal(completed[batch.mask], x[batch.mask])


@pytest.mark.parametrize("family", [by_factor, by_low_rank])
def test_single_precision_is_enough(family: Callable) -> None:
    loc, sigma = numbers(0, 20), covariance(1, columns=20)
    batch = batch_of(numbers(2, ROWS, 20))
    exact = WholeRow(family(loc, sigma), batch.mask)
    fn = family(loc, sigma)
    single = WholeRow(
        type(fn)(loc.float(), scale_tril=fn.scale_tril.float())
        if family is by_factor
        else type(fn)(loc.float(), fn.cov_factor.float(), fn.cov_diag.float()),
        batch.mask,
    )
    x = batch.x.float()
    assert (single.given.log_prob(x) - exact.given.log_prob(batch.x)).abs().max() < 1e-3
    assert (single.given.mean(x) - exact.given.mean(batch.x)).abs().max() < 1e-4


@pytest.mark.parametrize("family", [by_factor, by_low_rank])
def test_draws_of_a_row_are_joint_and_have_the_conditional_law(family: Callable) -> None:
    """False alarms: 1e-5 each for means and second moments."""
    loc, sigma = numbers(0, COLUMNS), covariance(1)
    x, seen = numbers(2, 1, COLUMNS), torch.tensor([[True, False, False, False]])
    whole = WholeRow(family(loc, sigma), seen)
    draws = whole.given.draw(x, torch.Size([40_000, 1]))[:, 0]
    assert (draws[:, 0] == x[0, 0]).all()
    _, mean, within = given(loc, sigma, x[0], seen[0])
    error = draws[:, 1:] - mean
    check_mean(draws[:, 1:], mean)
    check_mean((error.unsqueeze(-1) * error.unsqueeze(-2)).flatten(1), within.flatten())
    assert within[0, 1].abs() > 0.1  # else a draw column by column would pass too


def test_draws_have_the_gradient_of_their_law() -> None:
    """False alarms: 1e-5.  d/dθ E[f(x_u)] by draws is that of the closed form, f(x) = x_1 x_2."""
    x, seen = numbers(2, 1, COLUMNS), torch.tensor([[True, True, False, False]])
    loc, root = numbers(0, COLUMNS), torch.linalg.cholesky(covariance(1))

    def expected(loc: Tensor, root: Tensor) -> Tensor:
        _, mean, within = given(loc, root @ root.mT, x[0], seen[0])
        return mean[0] * mean[1] + within[0, 1]

    slopes = torch.autograd.functional.jacobian(expected, (loc, root))
    many = 4000
    locs, roots = (value.expand(many, 1, *value.shape).clone().requires_grad_() for value in (loc, root))
    drawn = WholeRow(dist.MultivariateNormal(locs, scale_tril=roots), seen).given.draw(x, torch.Size([many, 1]))
    by_draws = torch.autograd.grad((drawn[..., 2] * drawn[..., 3]).sum(), (locs, roots))
    for sample, slope in zip(by_draws, slopes, strict=True):
        check_mean(sample[:, 0].flatten(1), slope.flatten())


@pytest.fixture
def classes() -> tuple[Tensor, Tensor, Tensor]:
    """Shares, means and covariances of three classes."""
    return torch.tensor([0.5, 0.3, 0.2]), 2 * numbers(5, 3, COLUMNS), covariance(6, 3)


@pytest.mark.parametrize("family", [by_factor, by_low_rank])
def test_mixtures_of_normals_are_the_sum_over_classes(family: Callable, classes: tuple[Tensor, ...]) -> None:
    """False alarms: 1e-5 for the draws."""
    shares, locs, sigmas = classes
    x = numbers(7, ROWS, COLUMNS)
    batch = batch_of(x)
    fn = dist.MixtureSameFamily(dist.Categorical(shares), family(locs, sigmas))
    trace = trace_of(fn, batch)
    entries, completed = trace.nodes["x_missing"]["fn"].base_dist, trace.nodes["_RETURN"]["value"]
    for i in range(ROWS):
        seen = batch.mask[i]
        parts = [given(locs[c], sigmas[c], x[i], seen) for c in range(3)]
        joint = shares.log() + torch.stack([part[0] for part in parts])
        torch.testing.assert_close(trace.nodes["x_observed"]["log_prob"][i], joint.logsumexp(0))
        if seen.all():
            continue
        mean = sum(w * part[1] for w, part in zip(joint.softmax(0), parts, strict=True))
        torch.testing.assert_close(entries.mean[i][~seen], mean)
        of_classes = [dist.MultivariateNormal(*part[1:]).log_prob(completed[i][~seen]) for part in parts]
        conditional = (joint.log_softmax(0) + torch.stack(of_classes)).logsumexp(0)
        drawn = trace.nodes["x_missing"]["value"][i]
        placeholders = dist.Normal(0.0, 1.0).log_prob(drawn[seen]).sum()
        torch.testing.assert_close(trace.nodes["x_missing"]["log_prob"][i], conditional + placeholders)
    row = next(i for i in range(2, ROWS) if (~batch.mask[i]).sum() >= 2)
    missing = (~batch.mask[row]).nonzero()[:2, 0]
    alone = WholeRow(fn, batch.mask[row : row + 1]).given
    draws = alone.draw(batch.x[row : row + 1], torch.Size([20_000, 1]))[:, 0, missing]
    parts = [given(locs[c], sigmas[c], x[row], batch.mask[row]) for c in range(3)]
    posterior = (shares.log() + torch.stack([part[0] for part in parts])).softmax(0)
    at = [(~batch.mask[row]).nonzero()[:, 0].tolist().index(d) for d in missing.tolist()]
    second = sum(
        w * (part[2][at][:, at] + torch.outer(part[1][at], part[1][at]))
        for w, part in zip(posterior, parts, strict=True)
    )
    check_mean((draws.unsqueeze(-1) * draws.unsqueeze(-2)).flatten(1), second.flatten())


def latent_classes(kind: str) -> tuple[object, list[Tensor]]:
    """A mixture of independent entries that take few values, and the values of each column."""
    if kind == "bernoulli":
        base = dist.Bernoulli(logits=numbers(8, 3, COLUMNS))
        return base, [torch.tensor([0.0, 1.0])] * COLUMNS
    points = torch.tensor([[-1.0, 0.2, 1.5]] * COLUMNS)
    return Levels(numbers(8, 3, COLUMNS, 3), points), list(points)


@pytest.mark.parametrize("kind", ["bernoulli", "levels"])
def test_mixtures_of_levels_are_what_enumeration_says(kind: str) -> None:
    """False alarms: 1e-5 for the draws."""
    base, values = latent_classes(kind)
    fn = dist.MixtureSameFamily(dist.Categorical(torch.tensor([0.5, 0.3, 0.2])), dist.Independent(base, 1))
    every = torch.cartesian_prod(*values)
    x = every[torch.randint(len(every), (ROWS,))]
    batch = batch_of(x)
    trace = trace_of(fn, batch)
    entries = trace.nodes["x_missing"]["fn"].base_dist
    whole = fn.log_prob(every)
    for i in range(ROWS):
        fits = (every[:, batch.mask[i]] == x[i, batch.mask[i]]).all(1)
        torch.testing.assert_close(trace.nodes["x_observed"]["log_prob"][i], whole[fits].logsumexp(0))
        shares = whole[fits].softmax(0)
        torch.testing.assert_close(entries.mean[i], shares @ every[fits])
        at = next(j for j, row in enumerate(every[fits]) if torch.equal(row, trace.nodes["_RETURN"]["value"][i]))
        torch.testing.assert_close(trace.nodes["x_missing"]["log_prob"][i], shares[at].log())
    pairs = list(itertools.combinations(range(COLUMNS), 2))
    draws = WholeRow(fn, batch.mask[1:2]).given.draw(batch.x[1:2], torch.Size([10_000, 1]))[:, 0]
    fully = whole.softmax(0)
    products = torch.stack([draws[:, a] * draws[:, b] for a, b in pairs], -1)
    check_mean(products, torch.stack([fully @ (every[:, a] * every[:, b]) for a, b in pairs]))


def test_mixtures_of_columns_on_part_of_the_line_keep_a_finite_gradient() -> None:
    x = numbers(9, ROWS, 2).exp()
    loc = torch.zeros(3, 2, requires_grad=True)
    fn = dist.MixtureSameFamily(dist.Categorical(torch.ones(3)), dist.LogNormal(loc, 1.0).to_event(1))
    batch = batch_of(x)
    nodes = trace_of(fn, batch).nodes
    assert (nodes["x_missing"]["value"] > 0).all()
    density = dist.LogNormal(0.0, 1.0).log_prob(x).where(batch.mask, 0.0).sum(-1)
    torch.testing.assert_close(nodes["x_observed"]["log_prob"].detach(), density)
    (slope,) = torch.autograd.grad(nodes["x_observed"]["log_prob"].sum(), loc)
    assert slope.isfinite().all()


def test_a_whole_row_is_drawn_anew_where_nothing_is_observed_any_more() -> None:
    """False alarms: 1e-5.  Observed values are drawn first, and missing ones given these."""
    loc, sigma = numbers(0, 2), covariance(1, columns=2)
    mask = torch.tensor([[True, False]]).expand(20_000, 2)
    batch = Batch.of(torch.zeros(20_000, 2), mask)

    def model(batch: Batch) -> Tensor:
        with rows(batch):
            return partially_observed("x", dist.MultivariateNormal(loc, sigma), batch)

    drawn = poutine.uncondition(model)(batch) - loc
    check_mean((drawn.unsqueeze(-1) * drawn.unsqueeze(-2)).flatten(1), sigma.flatten())


# What is refused.


def refused(message: str, fn: object, batch: Batch, **options: object) -> None:
    with pytest.raises(ValueError, match=message), rows(batch):
        partially_observed("x", fn, batch, **options)
    with pytest.raises(ValueError, match=message), rows(batch):
        propose_missing("x", fn, batch, **options)


def test_sizes_that_do_not_fit_are_refused_by_name() -> None:
    batch = batch_of(numbers(2, ROWS, COLUMNS))
    normal = by_covariance(numbers(0, COLUMNS), covariance(1))
    refused(r"site 'x': expected rows of event shape \(2,\), the columns \[0, 1\]", normal, batch, columns=[0, 1])
    refused(r"batch shape \(5,\) and event shape \(4,\)", normal.expand([5]), batch)
    refused("whole rows are MultivariateNormal", dist.Dirichlet(torch.ones(ROWS, COLUMNS)), batch)


def test_columns_that_determine_each_other_are_refused() -> None:
    root = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1e-9]])
    batch = Batch.of(torch.zeros(1, 3))
    refused(
        "site 'x': the covariance of the columns .* is singular",
        dist.MultivariateNormal(batch.x, scale_tril=root),
        batch,
    )
    low_rank = dist.LowRankMultivariateNormal(batch.x, root, 1e-18 * torch.ones(3))
    refused("is singular in torch.float64", low_rank, batch)
    # The pair of the first two does not determine anything.
    trace_of(dist.MultivariateNormal(torch.zeros(3), scale_tril=root), Batch.of(torch.tensor([[0.0, 0.0, torch.nan]])))


def test_bounds_of_gaps_are_refused_by_column() -> None:
    x = batch_of(numbers(2, ROWS, COLUMNS)).x
    mask = torch.ones(ROWS, COLUMNS, dtype=torch.bool)
    mask[3, 2] = False
    lower = torch.full_like(x, -torch.inf)
    lower[3, 2] = 0.5
    batch = Batch.of(x, mask, lower=lower, names=list("abcd"))
    refused("site 'x', column 'c': has gaps with bounds", by_covariance(numbers(0, COLUMNS), covariance(1)), batch)
    trace_of(by_covariance(numbers(0, 2), covariance(1, columns=2)), batch, columns=["a", "b"])


def test_values_outside_the_support_are_refused_by_column() -> None:
    fn = dist.MixtureSameFamily(dist.Categorical(torch.ones(3)), dist.Bernoulli(torch.full((3, 2), 0.5)).to_event(1))
    batch = Batch.of(torch.tensor([[0.0, 1.0], [1.0, 0.3]]))
    with pytest.raises(ValueError, match=r"site 'x', column 1: expected observed values within"), rows(batch):
        partially_observed("x", fn, batch)


def test_a_row_is_no_part_of_columns() -> None:
    with pytest.raises(ValueError, match="expected column-wise parts, got MultivariateNormal"):
        Columns([((0, 1), by_covariance(numbers(0, ROWS, 2), covariance(1, columns=2)))])
