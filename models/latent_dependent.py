"""Latent-dependent self-masking: the value and the latent decide together (the paper's data sets B and C, section 6.1).

    U → Z → X_d → R_d        p(Z|U) · Π_d p(X_d|Z) · Π_d p(R_d|X_d, Z)
        └─────────↗

A respondent's disposition drives both what is measured and what is answered.
"""

from __future__ import annotations

from pyro_mnar import mechanisms
from pyro_mnar.infer.construction import remembered
from pyro_mnar.models.linear_gaussian import LinearGaussian


@remembered
class LatentDependent(LinearGaussian):
    """A linear-Gaussian model of X whose R_d depends on X_d and Z, logistically.

    Args and errors are those of :class:`~pyro_mnar.models.SelfMasking`; a sign is one of x_d's slope.
    """

    mechanism_class = mechanisms.LatentDependent
