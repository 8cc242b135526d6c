"""What a run of guide and model leaves: weighed particles, their sites, and whether they bound anything."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from pyro.poutine import Trace
from torch import Tensor

from pyro_mnar.infer.shared import covers
from pyro_mnar.infer.sites import Site, is_shared, mechanism_weights, stochastic_sites
from pyro_mnar.primitives import ROWS


class Particles(NamedTuple):
    """One run of guide and model.

    Attributes:
        log_weights: log w_k per row, without the minibatch factor; ``(particles, rows)``.
        scale: The minibatch factor N/B.
        model_trace: The model's sites.
        guide_trace: The guide's sites.
        plate: Name of the row plate.
    """

    log_weights: Float[Tensor, "particles rows"]
    scale: float
    model_trace: Trace
    guide_trace: Trace
    plate: str = ROWS

    @property
    def is_untempered(self) -> bool:
        """Whether weights hold p(x_o, r | θ): β is 1, and no other scale inside the row plate tempers a site."""
        if any(weight != 1 for weight in mechanism_weights(self.model_trace)):
            return False
        of_rows = [site for sites in self._scored() for site in sites if not is_shared(site, self.plate)]
        return all(bool((torch.as_tensor(site["scale"]) == self.scale).all()) for site in of_rows)

    @property
    def is_bound(self) -> bool:
        """Whether the objective bounds log p(x_o, r): nothing is tempered, and the guide has a density of what all rows
        share.
        """
        shared = [[site for site in sites if is_shared(site, self.plate)] for sites in self._scored()]
        whole = all(bool((torch.as_tensor(site["scale"]) == 1).all()) for sites in shared for site in sites)
        return self.is_untempered and whole and covers(*shared)

    def _scored(self) -> tuple[list[Site], list[Site]]:
        """The sites of model and guide whose densities count."""
        of_model, of_guide = (stochastic_sites(trace) for trace in (self.model_trace, self.guide_trace))
        return [s for name, s in of_model.items() if s["is_observed"] or name in of_guide], list(of_guide.values())
