"""The next best question: what an answer is expected to tell (Ma & Zhang 2021, Appendix I; EDDI, Ma et al. 2019).

For a candidate X_i of a row and a target X_φ, with O what the row has observed,

    R(i | x_o) = E_{x_i ~ p(x_i|x_o)}            KL[ q(z | x_i, x_o)      ‖ q(z | x_o) ]
               − E_{x_φ, x_i ~ p(x_φ, x_i|x_o)}  KL[ q(z | x_φ, x_i, x_o) ‖ q(z | x_φ, x_o) ]

in nats: all that the answer says of z, less what it would still say once the target is known.  Without a target X_φ is
all of X_u, i itself among them; the second divergence is then zero and R the information about z.

**Answers and the mechanism.**  We choose what to ask, so that a question is answered says nothing of the answer.
Candidates and targets are therefore drawn from p(X_u | X_o) (``impute``'s ``use_mechanism=False``), by replaying guide
and model and weighing, and an answered cell counts as absent by design (``mask_modelled``).  The mask that the guide
sees means "these entries of x are values, not zeros"; q stands for p(z | x_o), as Appendix I takes it.  A guide trained
beside a mechanism has learnt p(z | x_o, r), though: its gaps were withheld ones.  Both sides of a divergence read
the gaps that stay the same way, and what remains of the difference is part of the approximation.  Where it matters,
train the guide beside a model without a mechanism.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pyro.poutine as poutine
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pyro_mnar.imputation.limits import Limits
from pyro_mnar.imputation.sampler import Chunk, Sampler
from pyro_mnar.imputation.target import Target
from pyro_mnar.infer.objective import ImportanceWeightedELBO
from pyro_mnar.infer.session import Session
from pyro_mnar.infer.sites import Site, holds_columns, is_shared, sample_sites
from pyro_mnar.memory import COPIES_OF_A_DRAW, check_room
from pyro_mnar.messages import has_parts, is_one_of, shown, whole_number
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit, check_fit

ANSWERED_ROWS_AT_ONCE = 50_000  # rows × candidates × samples that a guide encodes at once


def information_reward(
    fit: Fit,
    table: Table | pd.DataFrame,
    target: Hashable | Collection[Hashable] | None = None,
    *,
    num_particles: int = 50,
    num_samples: int = 50,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> pd.DataFrame:
    """What the answer to each open question of each row is expected to tell, in nats; see the module's text.

    Divergences are in closed form where torch has one for the guide's distributions (normals among them), and averaged
    over a draw of z per sample elsewhere.  The same samples serve all candidates of a row.

    Args:
        fit: A trained model and guide; the guide reads the row (it is amortised).
        table: The rows; a frame is encoded with the training rows' units.
        target: Column or columns to learn about, which are not asked themselves; None: everything unobserved.
        num_particles: K, particles from which each sample is resampled.
        num_samples: Samples of the answers (and of the target) over which a reward is averaged.
        seed: Same seed, same rewards; the caller's generators stay as they are.
        device: Where to compute; by default where the parameters are.

    Returns:
        Rows × columns of the table; NaN where observed, not applicable, or the target. Averages of divergences are
        never negative; with a target the difference may be, by sampling error.  Zero where a row's targets are all
        observed.

    Raises:
        ValueError: If a number is out of range, a target is no modelled column or serves as U, the table has other
            columns, U is the mask (it would change with each question), a guide proposes no latent but missing values,
            or gives the same posterior whatever it is told, or a divergence is not finite.
        TypeError: If ``table`` is neither a Table nor a DataFrame.
    """
    check_fit(fit)
    table = fit.encoded(table)
    in_target = target_columns(table.schema, target)
    predictive = Predictive(fit, table, num_samples, num_particles, seed, device)
    return rewards_of(predictive, None if target is None else in_target)


def rewards_of(
    predictive: Predictive,
    in_target: Bool[NDArray, " columns"] | None,
    *,
    answered_rows: int = ANSWERED_ROWS_AT_ONCE,
) -> pd.DataFrame:
    """Rewards of the open questions of a predictive's table, as of :func:`information_reward`.

    Args:
        predictive: Samples of the answers.
        in_target: Which columns are the target; None: everything unobserved.
        answered_rows: Rows × candidates × samples that the guide encodes at once.
    """
    table, sampler = predictive.table, predictive.sampler
    candidates = table.applicable.numpy() & ~table.mask.numpy()
    if in_target is not None:
        candidates &= ~in_target
    rewards = np.full(candidates.shape, np.nan)
    targets = None if in_target is None else torch.from_numpy(in_target).to(predictive.device)
    answered_rows = min(answered_rows, sampler.limits.elements // table.schema.num_columns)
    at_once = max(1, answered_rows // sampler.num_draws)
    for rows, batch, chunk in predictive.chunks(np.flatnonzero(candidates.any(1))):
        posteriors = _Posteriors.of(sampler.fit, batch, chunk.draws, predictive.session)
        pairs = torch.from_numpy(np.stack(np.nonzero(candidates[rows]))).to(predictive.device)
        found = torch.cat([posteriors.rewards(some[0], some[1], targets) for some in pairs.split(at_once, dim=1)])
        row, column = pairs.cpu().numpy()
        rewards[rows[row], column] = found.double().cpu().numpy()
    _check_finite(rewards, candidates, table)
    return pd.DataFrame(rewards, index=table.row_labels, columns=pd.Index(table.schema.names, tupleize_cols=False))


def next_best(
    fit: Fit,
    table: Table | pd.DataFrame,
    target: Hashable | Collection[Hashable] | None = None,
    **options: Any,
) -> pd.Series:
    """The most informative open question of each row.

    Args:
        fit: As for :func:`information_reward`.
        table: As there.
        target: As there.
        **options: As there.

    Returns:
        A column name a row, None where nothing is left to ask.
    """
    rewards = information_reward(fit, table, target, **options)
    best = highest(rewards.to_numpy())
    names = pd.Series([None if at < 0 else rewards.columns[at] for at in best], dtype=object)
    return names.set_axis(rewards.index).rename("question")


def highest(scores: Float[NDArray, "rows columns"]) -> Int[NDArray, " rows"]:
    """Position of each row's highest score, the first of equals; -1 where every score is NaN."""
    open_ = ~np.isnan(scores)
    return np.where(open_.any(1), np.where(open_, scores, -np.inf).argmax(1), -1)


def target_columns(schema: Schema, target: Hashable | Collection[Hashable] | None) -> Bool[NDArray, " columns"]:
    """Which columns are the target, none of them for None.

    Raises:
        ValueError: If a name is no modelled column, or one that serves as U, or all columns are targets.
    """
    in_target = np.zeros(schema.num_columns, dtype=bool)
    if target is None:
        return in_target
    for name in _names(schema, target):
        if not is_one_of(name, schema.names):
            raise ValueError(f"target {shown(name)}: expected one of the modelled columns {schema.names!r}")
        position = schema.names.index(name)
        if schema.columns[position].is_auxiliary:
            raise ValueError(f"target {name!r}: serves as U, so it is known in every row")
        in_target[position] = True
    if not in_target.any():
        raise ValueError("target: expected at least one column, or None, got none")
    if in_target.all():
        raise ValueError("target: expected columns that leave one to ask, got all of them")
    return in_target


class Predictive:
    """Samples and means of p(X_u | X_o), standardised, chunk by chunk of rows.

    Args:
        fit: A trained model and guide.
        table: Rows in the fit's units.
        num_samples: Samples a row.
        num_particles: K, particles for each sample.
        seed: Of the samples.
        device: Where to compute; by default where the parameters are.
        limits: How much is in memory at once; by default what suits the device.

    Raises:
        ValueError: If a number is below 1, or U is the mask.
    """

    def __init__(
        self,
        fit: Fit,
        table: Table,
        num_samples: int,
        num_particles: int,
        seed: int,
        device: torch.device | str | None,
        *,
        limits: Limits | None = None,
    ) -> None:
        num_samples = whole_number("num_samples", num_samples)
        num_particles = whole_number("num_particles", num_particles)
        size = COPIES_OF_A_DRAW * table.schema.num_columns * table.dtype.itemsize
        for name, value in (("num_samples", num_samples), ("num_particles", num_particles)):
            check_room(name, value, size, "draws of one row")
        if table.schema.auxiliary_source == "mask":
            raise ValueError("auxiliary='mask': U would change with every question, so none can be compared")
        fit = fit.on(device)
        self.device = fit.device
        self.session = Session(seed, self.device, fit.store)
        self.sampler = Sampler(fit, num_samples, num_particles, Target.WITHOUT_MASK, self.session, limits=limits)
        self.table, self.batch = table, table.batch()
        self.rows_at_once = max(
            1, self.sampler.limits.elements // (max(num_particles, num_samples) * self.sampler.averages.num_features)
        )

    def chunks(self, positions: Int[NDArray, " rows"]) -> Iterator[tuple[NDArray[np.intp], Batch, Chunk]]:
        """Rows at some positions, a few at a time: their positions, the rows, and what is predicted of them."""
        for start in range(0, len(positions), self.rows_at_once):
            rows = positions[start : start + self.rows_at_once]
            batch = self.batch.take(torch.from_numpy(rows)).to(self.device)
            yield rows, batch, self.sampler.impute(batch)


class _Posteriors(NamedTuple):
    """q(z|·) of some rows before and after answers that are drawn.

    Attributes:
        guide: The guide.
        latents: Names of its latents that are no missing values.
        batch: The rows.
        draws: Samples of X_u, ``(samples, rows, columns)``.
        session: Where to run the guide.
    """

    guide: Any
    latents: frozenset[str]
    batch: Batch
    draws: Float[Tensor, "samples rows columns"]
    session: Session

    @classmethod
    def of(cls, fit: Fit, batch: Batch, draws: Tensor, session: Session) -> _Posteriors:
        """Find the guide's latents, and check that what it is told moves them."""
        few = torch.arange(min(len(batch), 8), device=batch.x.device)
        with session.running():
            run = ImportanceWeightedELBO(1).particles(fit.model, fit.guide, batch.take(few))
        of_columns = {name for name, site in sample_sites(run.model_trace).items() if holds_columns(site)}
        # What all rows share is given: one row's answer is not what moves it.
        of_rows = {name for name, site in sample_sites(run.guide_trace).items() if not is_shared(site)}
        latents = frozenset(of_rows - of_columns)
        if not latents:
            raise ValueError("the guide proposes no latent, so there is no posterior that an answer could change")
        posteriors = cls(fit.guide, latents, batch.take(few), draws[:1, few], session)
        everything = torch.ones_like(batch.mask[few])
        if not posteriors.divergences(few, everything, ~everything).any():
            raise ValueError(
                "the guide gives the same posterior whatever a row holds: an amortised guide is needed, such as"
                " ZeroImpute"
            )
        return posteriors._replace(batch=batch, draws=draws)

    def rewards(
        self, row: Int[Tensor, " pairs"], column: Int[Tensor, " pairs"], target: Bool[Tensor, " columns"] | None
    ) -> Float[Tensor, " pairs"]:
        """R of each pair of row and candidate column."""
        known = self.batch.mask[row]
        answer = torch.nn.functional.one_hot(column, self.batch.num_columns).bool()
        told = self.divergences(row, known | answer, known).mean(0)
        if target is None:
            return told
        told_anyway = self.divergences(row, known | target | answer, known | target).mean(0)
        return torch.where((target & ~known).any(-1), told - told_anyway, 0.0)

    def divergences(
        self, row: Int[Tensor, " pairs"], after: Bool[Tensor, "pairs columns"], before: Bool[Tensor, "pairs columns"]
    ) -> Float[Tensor, "samples pairs"]:
        """KL[q(z | after) ‖ q(z | before)], what is not observed taken from each sample."""
        with self.session.running(), torch.no_grad():
            drawn = poutine.trace(self.guide).get_trace(self._told(row, after))
            other = poutine.trace(poutine.replay(self.guide, trace=drawn)).get_trace(self._told(row, before))
        sites, others = sample_sites(drawn), sample_sites(other)
        total = sum(_divergence(sites[name], others[name]) for name in sorted(self.latents))
        return torch.as_tensor(total).reshape(len(self.draws), len(row))

    def _told(self, row: Int[Tensor, " pairs"], known: Bool[Tensor, "pairs columns"]) -> Batch:
        """A batch of samples × pairs in which the entries that are known, and no others, hold values."""
        samples = len(self.draws)
        x = torch.where(self.batch.mask, self.batch.x, self.draws)[:, row].masked_fill(~known, 0.0).flatten(0, 1)
        asked = known & ~self.batch.mask[row]
        batch = self.batch.take(row.repeat(samples))
        modelled = batch.mask_modelled & ~asked.repeat(samples, 1)
        return replace(batch, x=x, mask=known.repeat(samples, 1), mask_modelled=modelled)


def _divergence(site: Site, other: Site) -> Float[Tensor, " rows"]:
    """KL of one latent's distributions given the values of the latents before it; its plate's rows come last."""
    rows = site["cond_indep_stack"][0].size if len(site["cond_indep_stack"]) == 1 else None
    try:
        # A point mass has a formula in Pyro, which takes the density of its place for zero.
        if isinstance(site["fn"], dist.Delta):
            raise NotImplementedError
        divergence = torch.distributions.kl_divergence(site["fn"], other["fn"])
    except NotImplementedError:
        divergence = site["fn"].log_prob(site["value"]) - other["fn"].log_prob(site["value"])
    return divergence.reshape(-1, rows or divergence.shape[-1]).sum(0)


def _check_finite(rewards: NDArray[np.float64], candidates: NDArray[np.bool_], table: Table) -> None:
    wrong = candidates & ~np.isfinite(rewards)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(
            f"column {table.schema.names[column]!r}: expected a finite divergence of the guide's posteriors, got"
            f" {rewards[row, column]} in row {table.row_labels[row]!r} (a point mass or a bounded latent has none)"
        )


def _names(schema: Schema, target: Any) -> list[Hashable]:
    """One name or several; a tuple can be a column's name."""
    is_one = isinstance(target, (str, bytes, tuple)) and (not isinstance(target, tuple) or target in schema.names)
    return [target] if is_one or not isinstance(target, Collection) or not has_parts(target) else list(target)
