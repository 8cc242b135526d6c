"""Mixtures of multinomials whose ratings decide whether they are given (Marlin & Zemel 2009).

    z_i → x_ij → r_ij        p(z) · Π_j p(x_ij|z) · p(r_ij|x_ij)

CPT-v: P(r = 1 | x = v) = μ_v.  Logit-vd: log-odds s_v + t_j.  A cell has one of L + 1 outcomes, a level or a gap, and

    P(gap | z) = Σ_v P(x = v | z) (1 - P(r = 1 | x = v)),

so unseen levels are summed out in the outcomes' table, and the class by ``TraceEnum_ELBO``: nothing is sampled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

Point = dict[str, Tensor]  # a value of every latent, by site
CONCENTRATION = 1.1  # of the Dirichlet priors: a trace of smoothing


@dataclass(frozen=True, eq=False)
class RatedRows:
    """Some rows of a ratings matrix.

    Attributes:
        outcomes: Levels from 0 to L - 1, and L for a gap; ``(rows, columns)``.
        size: Number of rows that these stand for.
    """

    outcomes: Int[Tensor, "rows columns"]
    size: int

    def __len__(self) -> int:
        return len(self.outcomes)

    def take(self, at: Int[Tensor, " rows"]) -> RatedRows:
        """A minibatch, still aware of how many rows there are."""
        return replace(self, outcomes=self.outcomes[at])


class CPTv:
    """Mixture of multinomials; a rating is given with a probability that depends on its level alone.

    Args:
        num_columns: Number of columns.
        num_levels: L.
        num_classes: Number of values of z.
    """

    def __init__(self, num_columns: int, num_levels: int, *, num_classes: int = 5) -> None:
        self.num_columns, self.num_levels, self.num_classes = num_columns, num_levels, num_classes

    def __call__(self, data: RatedRows) -> None:
        """Run the model; ``class`` is to be enumerated, the guide is for the other latents."""
        at = self.latents()
        table = self.outcome_log_probs(at)
        columns = torch.arange(self.num_columns)
        with pyro.plate("rows", data.size, subsample=torch.arange(len(data)), dim=-2):
            z = pyro.sample("class", dist.Categorical(at["shares"]), infer={"enumerate": "parallel"})
            with pyro.plate("columns", self.num_columns, dim=-1):
                pyro.sample("outcomes", dist.Categorical(logits=table[z, columns]), obs=data.outcomes)

    def latents(self) -> Point:
        """Draw the classes' shares, their levels' probabilities, and what decides whether a rating is given."""
        of_class = torch.full((self.num_classes,), CONCENTRATION)
        of_level = torch.full((self.num_classes, self.num_columns, self.num_levels), CONCENTRATION)
        zeros = torch.zeros(self.num_levels)
        return {
            "shares": pyro.sample("shares", dist.Dirichlet(of_class)),
            "levels": pyro.sample("levels", dist.Dirichlet(of_level).to_event(2)),
            "level_effects": pyro.sample("level_effects", dist.Normal(zeros, zeros + 3).to_event(1)),
        }

    def log_odds(self, at: Point) -> Float[Tensor, "#columns levels"]:
        """Log-odds that a rating of a level is given."""
        return at["level_effects"][None]

    def outcome_log_probs(self, at: Point) -> Float[Tensor, "classes columns outcomes"]:
        """Log-probabilities of each level given, and of a gap."""
        levels, log_odds = at["levels"].log(), self.log_odds(at)
        gap = (levels + logsigmoid(-log_odds)).logsumexp(-1, keepdim=True)
        return torch.cat([levels + logsigmoid(log_odds), gap], dim=-1)

    def class_probs(self, at: Point, outcomes: Int[Tensor, "rows columns"]) -> Float[Tensor, "rows classes"]:
        """p(z | ratings and gaps of the row)."""
        table, columns = self.outcome_log_probs(at), torch.arange(self.num_columns)
        return (at["shares"].log() + table[:, columns, outcomes].sum(-1).T).softmax(-1)


class LogitVD(CPTv):
    """The same with an effect of the column: log-odds s_v + t_j."""

    def latents(self) -> Point:
        """Draw what CPT-v has, and the columns' effects."""
        zeros = torch.zeros(self.num_columns)
        return {
            **super().latents(),
            "column_effects": pyro.sample("column_effects", dist.Normal(zeros, zeros + 1).to_event(1)),
        }

    def log_odds(self, at: Point) -> Float[Tensor, "#columns levels"]:
        """Log-odds that a rating of a level is given, by column."""
        return at["column_effects"][:, None] + at["level_effects"]
