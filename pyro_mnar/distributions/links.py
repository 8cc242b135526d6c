"""From a linear predictor to the probability of being observed: the link functions of a mechanism.

Each gives the logarithms of both probabilities, accurate where one of them rounds to 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_mnar.messages import check_is, shown

Predictor = Float[Tensor, "*shape"]


class Link(NamedTuple):
    """A link function.

    Attributes:
        name: Its name.
        log_observed: Log P(R = 1) of a predictor.
        log_missing: Log P(R = 0) of a predictor.
    """

    name: str
    log_observed: Callable[[Tensor], Tensor]
    log_missing: Callable[[Tensor], Tensor]


def link_of(link: str | Callable[[Tensor], Tensor] | Link) -> Link:
    """A link by name, or from a function that gives the probability of being observed.

    Raises:
        ValueError: If no link has this name.
        TypeError: If it is neither a name nor a function.
    """
    if isinstance(link, Link):
        return link
    if isinstance(link, str):
        if link not in LINKS:
            raise ValueError(
                f"link: expected one of {sorted(LINKS)}, or a function from the predictor to the probability of being"
                f" observed, got {shown(link)}"
            )
        return LINKS[link]
    if not callable(link):
        raise TypeError(f"link: expected a name such as 'logit', or a function of the predictor, got {shown(link)}")
    return Link(getattr(link, "__name__", "link"), _log_of(link), _log_of_rest(link))


def log_odds_of(name: str, given: Tensor | TorchDistributionMixin, link: Link) -> Tensor:
    """Log-odds of being observed, of a predictor or a Bernoulli.

    Args:
        name: Name of the site.
        given: What was given to it.
        link: From the predictor to the probability of being observed.

    Raises:
        ValueError: If a distribution is no Bernoulli, or has a link too.
    """
    if isinstance(given, Tensor):
        return given if link.name == "logit" else link.log_observed(given) - link.log_missing(given)
    fn = given.base_dist if isinstance(given, dist.Independent) else given
    if not isinstance(fn, torch.distributions.Bernoulli):
        raise ValueError(
            f"site {name!r}: expected log-odds, or a Bernoulli over rows and columns, got {type(fn).__name__}; a cell"
            " is observed or not"
        )
    if link.name != "logit":
        raise ValueError(f"site {name!r}: expected a Bernoulli or a link, got a Bernoulli and the link {link.name!r}")
    return fn.logits


def _log_of(link: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def log_observed(predictor: Tensor) -> Tensor:
        p = _answer(link, predictor)
        return p.clamp_min(torch.finfo(p.dtype).tiny).log()

    return log_observed


def _log_of_rest(link: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def log_missing(predictor: Tensor) -> Tensor:
        p = _answer(link, predictor)
        return torch.log1p(-p.clamp_max(1 - torch.finfo(p.dtype).eps))

    return log_missing


def _answer(link: Callable[[Tensor], Tensor], predictor: Tensor) -> Tensor:
    probability = link(predictor)
    check_is("link: the function's answer", probability, Tensor)
    return probability


def _cloglog_observed(predictor: Tensor) -> Tensor:
    """log(1 - exp(-e^η)), which is η far below zero."""
    low = predictor < -20
    inside = torch.where(low, 0.0, predictor).clamp_max(20.0)
    return torch.where(low, predictor, torch.log(-torch.expm1(-inside.exp())))


def _above(predictor: Tensor) -> Tensor:
    return torch.zeros_like(predictor).masked_fill(predictor <= 0, -torch.inf)


def _below(predictor: Tensor) -> Tensor:
    return torch.zeros_like(predictor).masked_fill(predictor > 0, -torch.inf)


LINKS = {
    "logit": Link("logit", logsigmoid, lambda predictor: logsigmoid(-predictor)),
    "probit": Link("probit", torch.special.log_ndtr, lambda predictor: torch.special.log_ndtr(-predictor)),
    "cloglog": Link("cloglog", _cloglog_observed, lambda predictor: -predictor.clamp_max(80.0).exp()),
    "threshold": Link("threshold", _above, _below),  # observed exactly where the predictor is positive
}
