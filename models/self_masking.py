"""Self-masking: every column's own value decides whether it is seen (Ma & Zhang 2021, Figure 1 c).

    U → Z → X_d → R_d        p(Z|U) · Π_d p(X_d|Z) · Π_d p(R_d|X_d)

The standard story of incomes, weights and exam marks.  With Gaussian columns and a logistic mechanism nobody need say
whether high or low values go missing; under a hard threshold the data alone cannot tell how far the unseen side
reaches.
"""

from __future__ import annotations

from pyro_mnar import mechanisms
from pyro_mnar.infer.construction import remembered
from pyro_mnar.models.linear_gaussian import LinearGaussian


@remembered
class SelfMasking(LinearGaussian):
    """A linear-Gaussian model of X with a logistic self-masking mechanism.

    Args:
        table: The table (or its schema) that the model is for.
        latent_dim: H, as for :class:`~pyro_mnar.models.GINA`.
        sign: What is known of the slopes: -1 if high values go missing, +1 if low ones do, 0 if unknown; one number, or
            one per column.
        slope: Slopes that are known, or have a prior, as for :class:`~pyro_mnar.mechanisms.SelfMasking`.
        decoder: p(X|Z): a module from z to a column-wise distribution; by default linear with learned noise.
        mechanism_weight: β, as for :class:`~pyro_mnar.models.GINA`.
        discrete: What becomes of missing levels in the gradient, as for :class:`~pyro_mnar.models.GINA`.
        numbers: What becomes of missing numbers, as for :class:`~pyro_mnar.models.GINA`.
        seed: Of the initial parameters; None draws them from torch's global generator.
    """

    mechanism_class = mechanisms.SelfMasking
