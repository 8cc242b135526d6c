"""GINA: an identifiable VAE with a mechanism of the missingness (Ma & Zhang 2021, section 4).

    U → Z → X → R        p(Z|U) · Π_d p(X_d|Z) · Π_d p(R_d|X, Z)
        └───────↗

What of X and Z reaches R_d is the mechanism's business: swap it in the constructor, or declare a missingness graph.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Hashable
from functools import partial
from typing import Any, cast

import pyro
import torch
from pyro.nn import PyroModule
from pyro.poutine.runtime import am_i_wrapped
from torch import nn

from pyro_mnar import mechanisms
from pyro_mnar.graphs.graph import MissingnessGraph
from pyro_mnar.graphs.likely import likely_causes
from pyro_mnar.graphs.nodes import listed
from pyro_mnar.infer.construction import remembered
from pyro_mnar.infer.data_start import LatentStart
from pyro_mnar.infer.session import seeded
from pyro_mnar.mechanisms import Blocks, log_odds
from pyro_mnar.messages import check_boolean, whole_number
from pyro_mnar.models.data_start import start_from_data
from pyro_mnar.models.decoding import (
    check_discrete,
    default_decoder,
    default_mechanism,
    default_prior,
    given_or,
    graph_of,
    latent_dim_of,
    own_value_mechanism,
    score_prior,
    shrinkage_of,
    summed_columns,
    telling_columns,
    weight_of,
)
from pyro_mnar.models.prior_forests import forests_of
from pyro_mnar.models.prior_groups import as_many_groups, groups_by_u, groups_that_tell
from pyro_mnar.models.shared_slopes import share_slopes_of_atoms
from pyro_mnar.nn.likelihoods import Decoder
from pyro_mnar.primitives import observe_events, observe_mask, partially_observed, rows
from pyro_mnar.tables.batch import Batch
from pyro_mnar.tables.blocks import EVENTS
from pyro_mnar.tables.dense import DenseStorage
from pyro_mnar.tables.schema import Schema
from pyro_mnar.tables.table import Table, schema_of

LEAST_SHARE = 1e-3  # of rows with an event
ONE_CAUSE = (
    "columns that go missing together: {}; taken as one event that nothing in the row causes, so these gaps are imputed"
    " as missing at random (mechanism= or graph= says otherwise)"
)


@remembered
class GINA(PyroModule):
    """The paper's model.

    Args:
        table: The table (or its schema) that the model is for.
        latent_dim: H; by default one less than the number of columns, at most 32 and at least 1, and one more for each
            group of rows beyond the first (``groups``) and each of the ``forests``.
        mechanism: p(R|X,Z): a class of :mod:`pyro_mnar.mechanisms` or anything that makes a module of
            ``(num_columns, latent_dim)``, or the module itself.  One that names its parents
            (:class:`~pyro_mnar.mechanisms.Mechanism`) has missing values summed out.  Where neither a mechanism nor a
            graph is declared, a dense table says what is likely (:func:`~pyro_mnar.graphs.likely.likely_causes`): a
            column's own values, complete columns or nothing; what was taken stands in ``causes``.  A schema alone
            and a sparse table say nothing: then :class:`~pyro_mnar.mechanisms.SelfMasking`.
        graph: A missingness graph to compile to the mechanism, instead of ``mechanism``; edges X → X are left to the
            latent (Lemma 1).
        blocks: Whether columns that are missing together (``table.schema.blocks``) are one event that nothing in the
            row causes; by default where nothing is declared.
        shrinkage: Whether priors shrink the default decoder's maps, so that it does not overfit tables of few rows
            (normal ones, with heavy tails for large maps); by default where the table says what is likely.
        groups: How many groups of rows, told apart by U, have a mean of their own in the default prior; 1 for none.  By
            default as many as make columns with gaps likelier, where the table says what is likely and no latent
            dimension, decoder or prior is given; else none.
        forests: Columns with gaps of which random forests on U say what the mean of the default prior is linear in,
            beside u and groups; True for those that are likelier with them, columns aside whose own values the table
            makes the likely cause of their gaps.  A forest expects what is seen.  By default True where groups are
            looked for by default, else none.
        decoder: p(X|Z): a module from z to a column-wise distribution; by default a linear map plus a small network,
            with noise learned for each column that does not serve as U.
        prior: p(Z|U): a module from u to a distribution; by default a factorised normal whose mean and scale a linear
            map of u, and of what tells groups of rows, gives, or a standard normal where there is no U.
        mechanism_weight: β, the power of p(R|X,Z) in the objective (B.3); other than 1, the objective bounds nothing.
        discrete: What becomes of missing levels in the gradient: ``"summed"`` out of the weight exactly, where no other
            column's mask depends on them (else sampled); ``"sampled"``, with a leave-one-out score-function term
            (VIMCO), unbiased; ``"straight-through"``, as if a draw were its mean, biased.
        numbers: What becomes of missing numbers, counts among them, where no other column's mask depends on them:
            ``"closed-form"``, summed out of the weight exactly where they are normal on the scale of their kind and the
            log-odds are linear in them, so that few particles do not pull slopes of self-masking towards zero;
            ``"summed"``, all others too, by quadrature or summation, which takes some two hundred passes over a cell;
            ``"sampled"``, none, each particle with a draw.
        seed: Of the initial parameters; None draws them from torch's global generator.

    Attributes:
        causes: What the table made likely of the causes of its gaps; None where they were declared, or nothing was
            there to judge by.

    Raises:
        ValueError: If both ``mechanism`` and ``graph`` are given, the graph does not fit the table, or ``discrete`` is
            unknown or asks for what a decoder of one's own decides.
    """

    def __init__(
        self,
        table: Table | Schema,
        *,
        latent_dim: int | None = None,
        mechanism: Any = None,
        graph: MissingnessGraph | None = None,
        decoder: nn.Module | None = None,
        prior: nn.Module | None = None,
        blocks: bool | None = None,
        shrinkage: bool | None = None,
        groups: int | None = None,
        forests: bool | Collection[Hashable] | None = None,
        mechanism_weight: float = 1.0,
        discrete: str = "summed",
        numbers: str = "closed-form",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.schema = schema = schema_of(table)
        self.mechanism_weight = mechanism_weight = weight_of(mechanism_weight)
        if mechanism is not None and graph is not None:
            raise ValueError("mechanism, graph: expected one of them, got both")
        check_discrete(discrete, decoder, numbers)
        for name, value in (("blocks", blocks), ("shrinkage", shrinkage)):
            if value is not None:
                check_boolean(name, value)
        if shrinkage and decoder is not None:
            raise ValueError("shrinkage, decoder: expected one of them, got both; shrink the decoder in a model around")
        if groups is not None and whole_number("groups", groups) > 1 and prior is not None:
            raise ValueError("groups, prior: expected one of them, got both")
        if not (forests is None or forests is False or prior is None):
            raise ValueError("forests, prior: expected one of them, got both")
        graph = graph_of(graph, schema)
        is_declared = mechanism is not None or graph is not None
        has_blocks = bool(schema.blocks) and (not is_declared if blocks is None else blocks)
        judged = table if isinstance(table, Table) and isinstance(table.storage, DenseStorage) else None
        judged = None if is_declared else judged
        self.shrinkage = decoder is None and (judged is not None if shrinkage is None else shrinkage)
        has_default_prior = judged is not None and latent_dim is None and decoder is None and prior is None
        self.causes = None
        in_prior = None if groups is None else as_many_groups(table, groups)
        if judged is not None:
            by_u = groups_by_u(judged)
            if groups is None and has_default_prior:
                in_prior = groups_that_tell(judged, by_u)
            self.causes = likely_causes(judged, by_u)
            graph = self.causes.graph
        num_groups = 0 if in_prior is None else in_prior.num_groups
        own = () if self.causes is None else self.causes.slopes
        of_columns, grown = forests_of(table, has_default_prior if forests is None else forests, in_prior, own)
        read: dict[str, Any] = {} if prior is not None else {"forests": of_columns}
        if self.causes is not None:
            read |= {"graph": graph, "blocks": has_blocks, "shrinkage": self.shrinkage, "groups": 1 + num_groups}
        self.read_off_data = read
        self.latent_dim = latent_dim_of(schema, latent_dim, num_groups + len(of_columns))
        self.graph = graph.on(schema) if graph is not None else None
        self.blocks = Blocks(schema) if has_blocks else None
        if self.blocks is not None and blocks is None:
            warnings.warn(ONE_CAUSE.format("; ".join(map(listed, schema.blocks))), stacklevel=3)  # past `remembered`
        has_own_parts = decoder is not None or isinstance(mechanism, nn.Module) or _is_learned(prior)
        self.starts_from_data = not has_own_parts and schema.auxiliary_source != "mask"
        with seeded(seed):
            self.prior = given_or("prior", prior, lambda: default_prior(schema, self.latent_dim, in_prior, grown))
            self.decoder = given_or(
                "decoder", decoder, lambda: default_decoder(schema, self.latent_dim, discrete=discrete)
            )
            mechanism = mechanisms.SelfMasking if mechanism is None else mechanism
            built: Any = default_mechanism(schema, self.latent_dim, mechanism, self.graph)
        self.mechanism = built
        if is_declared and not isinstance(mechanism, nn.Module):
            share_slopes_of_atoms(built, table)
        if self.causes is not None:
            self.causes.say()
            self.causes.put_intercepts(built, schema)
        # The weight of R is part of what is integrated, so a tempered one is drawn for.
        summed = summed_columns(schema, self.mechanism, discrete, numbers) if mechanism_weight == 1 else frozenset()
        self.summed_columns, self.numbers = summed, numbers
        self.telling_columns = telling_columns(schema, self.mechanism, summed)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Run the model on a batch; returns the completed rows, standardised, ``(..., rows, columns)``."""
        score_prior(self.mechanism)
        if self.shrinkage and am_i_wrapped():  # else nobody hears of it, and Pyro warns
            pyro.factor("shrinkage", shrinkage_of(cast(Decoder, self.decoder)))
        with rows(batch):
            z = pyro.sample("z", self.prior(batch.aux))
            if self.blocks is not None:
                chances, events, batch = self.blocks(batch)
                observe_events(EVENTS, chances, events)
            r_given = partial(log_odds, self.mechanism, z=z, batch=batch)
            own = own_value_mechanism(self.mechanism, self.summed_columns, self.telling_columns, r_given, self.numbers)
            x = partially_observed("x", self.decoder(z), batch, mechanism=own)
            observe_mask("r", r_given(x), batch, weight=self.mechanism_weight)
        return x

    def start_from(self, batch: Batch) -> LatentStart | None:
        """Start from rows of the table (:mod:`pyro_mnar.models.data_start`), as ``fit(start="data")`` asks for.

        None, and nothing is set, where these do not tell all parameters; where decoder, prior or mechanism are one's
        own; and where U is the mask, which latents that copy it would not explain.
        """
        if not self.starts_from_data:
            return None
        middles = {} if self.causes is None else self.causes.middles
        middles = {self.schema.names.index(name): middle for name, middle in middles.items()}
        events = None
        if self.blocks is not None:
            _, events, batch = self.blocks(batch)
        start = start_from_data(
            batch,
            self.prior,
            self.decoder,
            self.mechanism,
            shrinkage=self.shrinkage,
            middles=middles,
        )
        if start is not None and events is not None and self.blocks is not None:
            with torch.no_grad():
                share = events.double().mean(0).clamp(LEAST_SHARE, 1 - LEAST_SHARE)
                self.blocks.log_odds.copy_(torch.logit(share))
        return start


def _is_learned(part: nn.Module | None) -> bool:
    return isinstance(part, nn.Module) and any(True for _ in part.parameters())
