"""Samples of the posterior, as NUTS leaves them, in the place of a guide.

    mcmc = MCMC(NUTS(model), num_samples=1_000)
    mcmc.run(table.batch())
    fit = Fit.from_posterior(model, mcmc.get_samples(), table)

Each imputation takes one sample of the latents that all rows share.  Latents of rows come from the same sample where
the rows are those that were sampled; in new rows, and where there are no samples of them (enumerated levels), they are
proposed from the model and weighed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pyro_mnar.infer.session import random_numbers_kept
from pyro_mnar.infer.sites import is_shared, missing_sites, stochastic_sites
from pyro_mnar.messages import shown
from pyro_mnar.primitives import rows
from pyro_mnar.tables.batch import Batch

NUMBER = "_posterior_sample"  # auxiliary site: which sample a draw takes


class PosteriorDraws(nn.Module):
    """A guide that takes one of the samples at random.

    Attributes:
        values: Samples by site, placeholders of observed entries among them; ``(samples, ...)``.
        event_dims: Of each site of the rows, its event dimensions; sites that all rows share are not in it.
        told: What the samples were told: ``x``, ``mask`` and ``mask_modelled`` of the rows.
        missing: Of each site of missing values, where it holds a gap; ``(rows, columns)``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, Tensor] = {}
        self.event_dims: dict[str, int] = {}
        self.told: dict[str, Tensor] = {}
        self.missing: dict[str, Tensor] = {}

    @classmethod
    def of(cls, model: Callable[[Batch], Any], samples: Mapping[str, Tensor], batch: Batch) -> PosteriorDraws:
        """Samples of a model's latents given a whole table.

        Raises:
            ValueError: If there are none, a shape is another than the model's, a site is no latent of it, or a latent
                that all rows share has no samples; names the site.
        """
        with torch.no_grad(), random_numbers_kept(), poutine.block():
            trace = poutine.trace(model).get_trace(batch)
        latents = {name: site for name, site in stochastic_sites(trace).items() if not site["is_observed"]}
        counts = {len(values) for values in samples.values()}
        if len(counts) != 1:
            raise ValueError(f"samples: expected as many of each site, and at least one, got {sorted(counts)}")
        for name, values in samples.items():
            if name not in latents:
                raise ValueError(f"samples: site {name!r} is no latent of the model, whose latents are {[*latents]!r}")
            expected = tuple(latents[name]["value"].shape)
            if tuple(values.shape[1:]) != expected:
                raise ValueError(
                    f"samples of site {name!r}: expected (samples, {', '.join(map(str, expected))}) for this table,"
                    f" got {tuple(values.shape)}; flatten chains, and sample with the whole table"
                )
        for name, site in latents.items():
            if is_shared(site) and name not in samples:
                raise ValueError(f"samples: site {name!r} stands outside the row plate and has no samples")
        draws = cls()
        draws.values = {name: values.detach().to(batch.x) for name, values in samples.items()}
        draws.event_dims = {n: latents[n]["fn"].event_dim for n in samples if not is_shared(latents[n])}
        draws.told = {name: getattr(batch, name) for name in ("x", "mask", "mask_modelled")}
        of_gaps = {name: site for name, site in missing_sites(trace).items() if name in samples}
        draws.missing = {name: ~site["fn"].base_dist.mask_observed for name, site in of_gaps.items()}
        return draws

    @property
    def samples(self) -> dict[str, Tensor]:
        """Samples by site; missing values are NaN where there is no gap."""
        return {
            name: values.masked_fill(~self.missing[name], torch.nan) if name in self.missing else values
            for name, values in self.values.items()
        }

    def forward(self, batch: Batch) -> None:
        """Put one sample in the place of the model's latents."""
        count = len(next(iter(self.values.values())))
        weights = batch.x.new_ones(count)
        number = pyro.sample(NUMBER, dist.Categorical(weights), infer={"is_auxiliary": True})
        drawn = {name: values.to(batch.x)[number] for name, values in self.values.items()}
        for name in drawn.keys() - self.event_dims.keys():
            pyro.sample(name, dist.Delta(drawn[name]).to_event(drawn[name].dim()))
        if not self._was_told(batch):
            return
        with rows(batch):
            for name, event_dim in self.event_dims.items():
                here = drawn[name].index_select(-1 - event_dim, batch.index)
                pyro.sample(name, dist.Delta(here).to_event(event_dim))

    def _was_told(self, batch: Batch) -> bool:
        """Whether these are rows of the table that was sampled, with the same gaps for the same reasons."""
        if not self.event_dims or batch.size != len(self.told["x"]):
            return False
        at = batch.index
        return all(torch.equal(values.to(at.device)[at], getattr(batch, name)) for name, values in self.told.items())

    def get_extra_state(self) -> dict[str, Any]:
        """Everything, as tensors and plain data."""
        names = ("values", "event_dims", "told", "missing")
        return {name: getattr(self, name) for name in names}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """The inverse."""
        for name, value in state.items():
            setattr(self, name, value)


def flat_samples(samples: Mapping[str, Any]) -> dict[str, Float[Tensor, "samples ..."]]:
    """Samples as tensors.

    Raises:
        TypeError: If they are no mapping of arrays, such as ``mcmc.get_samples()`` gives.
    """
    if not isinstance(samples, Mapping):
        raise TypeError(f"samples: expected a mapping such as mcmc.get_samples(), got {type(samples).__name__}")
    found = {}
    for name, values in samples.items():
        try:
            found[name] = torch.as_tensor(values)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"samples of site {shown(name)}: expected an array, got {shown(values)}") from None
        if not found[name].ndim:
            raise ValueError(f"samples of site {shown(name)}: expected (samples, ...), got a single number")
    return found
