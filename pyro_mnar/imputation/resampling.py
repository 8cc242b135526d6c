"""Which particles are taken as draws: of each draw's own set, or of one that draws have in common."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def of_own_sets(log_weights: Float[Tensor, "draws particles rows"]) -> Int[Tensor, "draws rows"]:
    """One particle for each draw of each row, with probability as its weight: the inverse of the distribution function.

    ``Categorical`` draws an exponential number for every particle instead, at four times the cost of the rest.
    """
    reached = log_weights.softmax(1).cumsum(1)
    total = reached[:, -1:]
    # Below the total even after rounding, so that what is chosen has a weight.
    at = torch.minimum(torch.rand_like(total) * total, total.nextafter(torch.zeros_like(total)))
    return (reached <= at).sum(1)


def of_strata(log_weights: Float[Tensor, "particles rows"], num_draws: int) -> Int[Tensor, "draws rows"]:
    """One particle for each draw of each row, each with probability as its weight: in a stratum of the summed weights.

    Which draw has which stratum is drawn too, so that any of the draws are like any others.
    """
    reached = log_weights.softmax(0).cumsum(0).T.contiguous()  # (rows, particles)
    shape = (num_draws, log_weights.shape[1])
    like = reached.new_empty(shape)
    at = (torch.rand_like(like).argsort(0) + torch.rand_like(like)) / num_draws * reached[:, -1]
    at = torch.minimum(at, reached[:, -1].nextafter(torch.zeros_like(reached[:, -1])))
    return torch.searchsorted(reached, at.T.contiguous(), right=True).T
