"""What the models take for p(Z|U), p(X|Z) and p(R|X,Z) when nothing else is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

import pyro
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pyro_mnar import mechanisms
from pyro_mnar.distributions import OwnValueMechanism
from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.graphs.presets import rule_of
from pyro_mnar.memory import check_room
from pyro_mnar.messages import is_one_of, positive_number, shown, whole_number
from pyro_mnar.nn import MLP, ResidualMLP, priors
from pyro_mnar.nn.forests import Forests
from pyro_mnar.nn.indicators import Indicators
from pyro_mnar.nn.likelihoods import Decoder, GaussianNoise, likelihood_of
from pyro_mnar.nn.row_groups import RowGroups
from pyro_mnar.tables.schema import Schema

DISCRETE = ("summed", "sampled", "straight-through")
BYTES_OF_A_PARAMETER = 4
NUMBERS = ("closed-form", "summed", "sampled")
CURVATURE = 0.1  # standard deviation of the prior of the network's last layer


def default_latent_dim(schema: Schema) -> int:
    """One less than the number of columns, so that the decoder can be injective (A5), and 32 at most."""
    return max(1, min(schema.num_columns - 1, 32))


def latent_dim_of(schema: Schema, given: int | None, num_beside: int = 0) -> int:
    """H: the one that was given, or the default, with a latent more for each feature that the prior knows beside u.

    Raises:
        TypeError: If it is no whole number.
        ValueError: If it is less than 1, or a decoder of that width does not fit into memory.
    """
    if given is None:
        return default_latent_dim(schema) + num_beside
    latent_dim = whole_number("latent_dim", given)
    check_room("latent_dim", latent_dim, BYTES_OF_A_PARAMETER * schema.num_columns, "parameters of the decoder")
    return latent_dim


def weight_of(value: float) -> float:
    """β, checked; 0 leaves the mechanism out."""
    return (
        float(value) if isinstance(value, (int, float)) and value == 0 else positive_number("mechanism_weight", value)
    )


def default_decoder(schema: Schema, latent_dim: int, *, hidden: int = 10, discrete: str = "summed") -> Decoder:
    """A linear map plus a network that starts at zero, then each column's kind; noise learned if it is not also U."""
    likelihood, width = likelihood_of(schema, straight_through=discrete == "straight-through")
    return Decoder(ResidualMLP([latent_dim, hidden, width]), likelihood)


def shrinkage_of(decoder: Decoder) -> Float[Tensor, ""]:
    """Log prior of the default decoder's maps, without its constant, so that it only ever lowers a bound.

    A column's loadings are normal with variance 1/H, under which its own variance is about one, as long as their
    squares sum to one at most.  Beyond, the density falls as a power: columns that say nearly the same need large
    loadings of opposite signs, which data that tell them may have.  The network's last layer is held near zero, so that
    few rows are fitted by the linear map and many bend it.
    """
    network = cast(ResidualMLP, decoder.network)
    first, *_, last = (layer for layer in network.correction if isinstance(layer, nn.Linear))
    width = network.linear.in_features
    of_columns = network.linear.weight.square().sum(1)
    of_lines = torch.where(of_columns > 1.0, 1.0 + of_columns.clamp_min(1.0).log(), of_columns)
    held = width * (of_lines.sum() + first.weight.square().sum()) + last.weight.square().sum() / CURVATURE**2
    return -0.5 * held


def linear_decoder(schema: Schema, latent_dim: int, *, discrete: str = "summed") -> nn.Module:
    """Linear in z (factor analysis), then each column's kind; noise learned where a column is not also U."""
    likelihood, width = likelihood_of(schema, straight_through=discrete == "straight-through")
    return Decoder(MLP([latent_dim, width]), likelihood)


def ppca_decoder(schema: Schema, latent_dim: int) -> nn.Module:
    """Probabilistic PCA (Tipping & Bishop 1999): linear in z, one noise for all columns.

    As :func:`linear_decoder` where a column is not modelled as normal.
    """
    likelihood, width = likelihood_of(schema)
    if isinstance(likelihood, GaussianNoise):
        likelihood = GaussianNoise([True] * width, shared=[True] * width)
    return Decoder(MLP([latent_dim, width]), likelihood)


def default_prior(
    schema: Schema, latent_dim: int, groups: RowGroups | None = None, forests: Forests | None = None
) -> nn.Module:
    """A factorised normal whose mean and scale are linear in u, and in groups of rows that u tells apart and what
    forests expect by u, if there are any; or a standard normal where there is no U.
    """
    if schema.num_auxiliaries == 0:
        return priors.StandardNormal(latent_dim)
    return priors.LinearNormal(schema.num_auxiliaries, latent_dim, groups, forests)


def graph_of(given: Any, schema: Schema) -> MissingnessGraph | None:
    """A missingness graph matched to a schema, if one was given; TypeError for anything else."""
    if given is None:
        return None
    if not isinstance(given, MissingnessGraph):
        name = f"{given!r}: MissingnessGraph.preset({given!r}, table) makes one" if isinstance(given, str) else ""
        raise TypeError(f"graph: expected a MissingnessGraph, got {name or type(given).__name__}")
    return given.on(schema)


def default_mechanism(schema: Schema, latent_dim: int, mechanism: Any, graph: MissingnessGraph | None) -> nn.Module:
    """p(R|X,Z) from a graph, or from a mechanism's class; columns without an order enter as indicators of their levels.

    A mechanism of one's own sees the standardised x, where such a column's level is only its position.

    Raises:
        ValueError: If a sign is given and a column's levels have no order, or as the mechanism and the graph do.
    """
    if graph is None and not callable(mechanism):
        raise TypeError(f"mechanism: expected a class of pyro_mnar.mechanisms or a module, got {shown(mechanism)}")
    indicators = Indicators(schema)
    if graph is None and len(indicators):
        graph = _declared_graph(schema, mechanism)
    if graph is not None:
        return graph.mechanism(latent_dim, indicators=indicators)
    return mechanisms.build(mechanism, schema.num_columns, latent_dim)


def score_prior(mechanism: nn.Module) -> None:
    """Score the prior of a mechanism's slopes, if it has one: once for the table, so outside the rows."""
    log_prior = getattr(mechanism, "log_prior", None)
    value: Any = log_prior() if callable(log_prior) else None
    if value is not None:
        pyro.factor("prior_of_slopes", value)


def given_or(name: str, module: nn.Module | None, default: Callable[[], nn.Module]) -> nn.Module:
    """A module of the caller's own, or if there is none, the default; TypeError for what is no module."""
    if module is None:
        return default()
    if not isinstance(module, nn.Module):
        raise TypeError(f"{name}: expected a torch module, got {shown(module)}")
    return module


def check_discrete(discrete: str, decoder: nn.Module | None, numbers: str = "closed-form") -> None:
    """Raise ValueError unless the names are known and, if it is the decoder's business, no decoder is given."""
    if not is_one_of(numbers, NUMBERS):
        raise ValueError(f"numbers: expected one of {list(NUMBERS)!r}, got {shown(numbers)}")
    if not is_one_of(discrete, DISCRETE):
        raise ValueError(f"discrete: expected one of {list(DISCRETE)!r}, got {shown(discrete)}")
    if discrete == "straight-through" and decoder is not None:
        raise ValueError(
            "discrete, decoder: expected one of them, got both; make the decoder's likelihood straight_through=True"
        )


def summed_columns(
    schema: Schema, mechanism: nn.Module, discrete: str = "summed", numbers: str = "closed-form"
) -> frozenset[int]:
    """Columns whose missing values are summed out of the weight, by position: those that cause no R but their own.

    Args:
        schema: The columns.
        mechanism: p(R|X,Z); one that does not name whose R a value causes has none such.
        discrete: What becomes of levels; unless ``"summed"``, they are drawn.
        numbers: What becomes of numbers and counts; if ``"sampled"``, they are drawn.
    """
    if not isinstance(mechanism, mechanisms.NamesParents):
        return frozenset()
    return frozenset(
        d
        for d, column in enumerate(schema.columns)
        if (discrete == "summed" if column.kind.has_levels else numbers != "sampled") and mechanism.causes_only_own([d])
    )


def telling_columns(schema: Schema, mechanism: nn.Module, summed: frozenset[int]) -> frozenset[int]:
    """Columns that can go missing because of their own value, so that something has to be integrated; by position.

    Args:
        schema: The columns.
        mechanism: p(R|X,Z); unless it names the columns' own causes, every value counts as one.
        summed: Positions of the columns to be summed out.
    """
    own = mechanism if isinstance(mechanism, mechanisms.NamesOwnCauses) else None
    return frozenset(d for d in summed if schema.columns[d].incomplete and (own is None or own.causes_own(d)))


def own_value_mechanism(
    mechanism: nn.Module,
    summed: frozenset[int],
    telling: frozenset[int],
    log_odds: Callable[[Tensor], Tensor],
    numbers: str = "closed-form",
) -> OwnValueMechanism | None:
    """What :func:`~pyro_mnar.partially_observed` needs to sum missing values out; None if there are none such.

    Args:
        mechanism: p(R|X,Z).
        summed: Positions of the columns to be summed out.
        telling: Of these, the positions of :func:`telling_columns`.
        log_odds: Those of the mechanism, as a function of the row.
        numbers: ``"summed"`` if numbers are to be summed out whose integral has no closed form, too.
    """
    if not summed:
        return None
    is_linear = isinstance(mechanism, mechanisms.LinearInOwnValue)
    slope = mechanism.slope_in_own_value(sorted(summed)) if is_linear else None
    effects = mechanism.effects_of_levels if isinstance(mechanism, mechanisms.AddsByLevel) else None
    return OwnValueMechanism(
        log_odds, slope, columns=summed, telling=telling, effects=effects, by_quadrature=numbers == "summed"
    )


def _declared_graph(schema: Schema, mechanism: Any) -> MissingnessGraph | None:
    """The graph of the parents that one of the declared mechanisms names; None for a mechanism of one's own."""
    made, options = (mechanism.func, mechanism.keywords) if isinstance(mechanism, partial) else (mechanism, {})
    nominal = next((column.name for column in schema.columns if column.is_nominal), None)
    if made is mechanisms.TwoSided:
        raise ValueError(f"mechanism: column {nominal!r} has levels without an order, which have no ends: use a graph")
    if made not in mechanisms.DECLARED:
        return None
    sign = options.get("sign", 0)
    if not all(is_one_of(one, (0,)) for one in (sign if isinstance(sign, Iterable) else [sign])):
        raise ValueError(f"sign: column {nominal!r} has levels without an order, so declare signs in a graph")
    if options.get("slope") is not None:
        raise ValueError(f"slope: column {nominal!r} has levels without an order, which have no slope in common")
    return MissingnessGraph.of_rule(rule_of(made.parents), schema)
