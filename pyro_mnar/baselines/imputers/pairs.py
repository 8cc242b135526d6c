"""Any Pyro pair as an imputer, and the paper's systems as configurations of the models, one line each (section 6).

What the papers leave open is chosen alike for all of them: the zero-imputing guide, `fit`'s defaults, posterior means
given the mask.  K is 5 for the paper's own systems (B.1), and 20 for MIWAE and not-MIWAE (Ipsen et al. 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd
from torch import nn

from pyro_mnar.baselines.protocol import check_table, made_module
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.imputation import impute
from pyro_mnar.infer.session import seeded
from pyro_mnar.mechanisms import FullyConnected, General, SelfMasking
from pyro_mnar.messages import check_function, check_is
from pyro_mnar.models import GINA, NotMIWAE, PartialVAE
from pyro_mnar.models import SelfMasking as SelfMaskingModel
from pyro_mnar.models.decoding import default_latent_dim, ppca_decoder
from pyro_mnar.tables.table import Table
from pyro_mnar.training.fitted import Fit
from pyro_mnar.training.svi import fit

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Fitted:
    """Train a model and a guide, impute by posterior means.

    Attributes:
        name: What tables and figures call it.
        model: Makes the model, ``model(table, seed=seed)``; any class of :mod:`pyro_mnar.models` does.
        guide: Makes the guide, ``guide(table, model.latent_dim, seed=seed)``.
        fit_options: Options of :func:`~pyro_mnar.fit`, such as ``epochs``, ``num_particles``, ``restarts``.
        impute_options: Options of :func:`~pyro_mnar.impute`, such as ``num_draws``, ``use_mechanism``.
    """

    name: str
    model: Callable[..., Any]
    guide: Callable[..., Any] = ZeroImpute
    fit_options: Options = field(default_factory=dict)
    impute_options: Options = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_function("model", self.model)
        check_function("guide", self.guide)
        check_is("fit_options", self.fit_options, Mapping)
        check_is("impute_options", self.impute_options, Mapping)

    def train(self, table: Table, *, seed: int) -> Fit:
        """Make the pair in the table's floating type and fit it."""
        check_table(table)
        model: Any = made_module("model", self.model(table, seed=seed)).to(table.dtype)
        guide = made_module("guide", self.guide(table, model.latent_dim, seed=seed)).to(table.dtype)
        return fit(model, guide, table, **{"seed": seed, "progress": False, **self.fit_options})

    def complete(self, table: Table, *, seed: int) -> pd.DataFrame:
        """Train, and fill the gaps by posterior means."""
        return self.completed_by(self.train(table, seed=seed), table, seed=seed)

    def completed_by(self, trained: Fit, table: Table, *, seed: int) -> pd.DataFrame:
        """Fill the gaps by a fit's posterior means."""
        options: Any = {"seed": seed, **self.impute_options}
        return impute(trained, table, **options).mean()


def _fitted(name: str, model: Callable[..., Any], num_particles: int, options: Options) -> Fitted:
    """As published: trained from parameters drawn at random, unless options say otherwise."""
    return Fitted(name, model, fit_options={"start": "random", "num_particles": num_particles, **options})


def gina(**options: Any) -> Fitted:
    """GINA as in B.1: identifiable prior p(Z|U), mechanism a network of (X, Z).  Options are those of `fit`."""
    return _fitted("GINA", partial(GINA, mechanism=General), 5, options)


def gina_self_masking(**options: Any) -> Fitted:
    """GINA told that each value decides on its own gap, sign of the slopes free."""
    return _fitted("GINA, self-masking", partial(GINA, mechanism=SelfMasking), 20, options)


def self_masking(**options: Any) -> Fitted:
    """The linear-Gaussian self-masking model from a random start, else at all defaults, sign of the slopes free."""
    return Fitted("self-masking model", SelfMaskingModel, fit_options={"start": "random", **options})


def i_not_miwae(**options: Any) -> Fitted:
    """Ablation: identifiable prior, mechanism a network of X alone."""
    return _fitted("i-NotMIWAE", partial(GINA, mechanism=FullyConnected), 5, options)


def gina_standard_normal(**options: Any) -> Fitted:
    """Ablation: GINA's mechanism, standard normal prior."""
    return _fitted("GINA, standard normal prior", partial(NotMIWAE, mechanism=General), 5, options)


def pvae(**options: Any) -> Fitted:
    """Partial VAE, importance-weighted."""
    return _fitted("PVAE", PartialVAE, 5, options)


def pvae_without_weights(**options: Any) -> Fitted:
    """Partial VAE trained by the plain bound, K = 1."""
    return _fitted("PVAE w/o IW", PartialVAE, 1, options)


def miwae(**options: Any) -> Fitted:
    """MIWAE (Mattei & Frellsen 2019): a VAE of the observed values with zeros for the gaps in its encoder."""
    return _fitted("MIWAE", PartialVAE, 20, options)


def not_miwae_linear(**options: Any) -> Fitted:
    """Not-MIWAE, log-odds of each R linear in all of X."""
    return _fitted("not-MIWAE, linear", partial(NotMIWAE, mechanism=partial(FullyConnected, hidden=())), 20, options)


def not_miwae_mlp(**options: Any) -> Fitted:
    """Not-MIWAE, log-odds of each R a network of all of X."""
    return _fitted("not-MIWAE, MLP", partial(NotMIWAE, mechanism=FullyConnected), 20, options)


def not_miwae_self_masking(**options: Any) -> Fitted:
    """Not-MIWAE, self-masking, sign of the slopes free."""
    return _fitted("not-MIWAE, self-masking", NotMIWAE, 20, options)


def not_miwae_known_sign(sign: int | Sequence[int] = -1, **options: Any) -> Fitted:
    """Not-MIWAE, self-masking, told the sign: -1 if high values go missing, +1 if low ones do."""
    mechanism = partial(SelfMasking, sign=sign)
    return _fitted("not-MIWAE, known sign", partial(NotMIWAE, mechanism=mechanism), 20, options)


def not_miwae_ppca(**options: Any) -> Fitted:
    """Not-MIWAE with a linear decoder and one noise for all columns, self-masking, sign of the slopes free."""
    return _fitted("not-MIWAE PPCA", partial(_ppca, sign=0), 20, options)


def not_miwae_ppca_known_sign(sign: int | Sequence[int] = -1, **options: Any) -> Fitted:
    """Not-MIWAE with a linear decoder and one noise for all columns, self-masking, told the sign."""
    return _fitted("not-MIWAE PPCA, known sign", partial(_ppca, sign=sign), 20, options)


def _ppca(table: Table, *, sign: int | Sequence[int], seed: int) -> nn.Module:
    latent_dim = default_latent_dim(table.schema)
    with seeded(seed):
        decoder = ppca_decoder(table.schema, latent_dim)
    mechanism = partial(SelfMasking, sign=sign)
    return NotMIWAE(table, latent_dim=latent_dim, mechanism=mechanism, decoder=decoder, seed=seed)
