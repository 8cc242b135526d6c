"""Arguments of the words that a model is written in, and of what an objective does with one, for :mod:`fuzz.arguments`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import pyro
import pyro.distributions as dist
import torch

import pyro_mnar as pm
from bad_inputs.case import FRAME, of_frame, pair
from pyro_mnar import scale
from pyro_mnar.primitives import observe_events, propose_missing

Calls = dict[str, tuple[Callable[..., Any], dict[str, Any]]]


def in_rows(word: Callable[..., Any], outer: Any, /, **given: Any) -> Any:
    """A word where it belongs: in the plate over rows; outside of a trace, which would add its shapes to a message."""
    with pm.rows(outer):
        return word(**given)


def of_objective(method: str, /, **given: Any) -> Any:
    """A method of an objective that takes a model and, last, the arguments of that."""
    with pyro.get_param_store().scope():
        return getattr(pm.ImportanceWeightedELBO(2, max_plate_nesting=1), method)(*given.values())


def word_calls() -> Calls:
    """All of them, by name."""
    table = of_frame(FRAME)
    batch = table.batch()
    model, guide = pair(table)
    with pyro.get_param_store().scope():
        run = pm.ImportanceWeightedELBO(2).particles(model, guide, batch)
    normal = dist.Normal(torch.zeros(4, 2), 1.0)
    rows_of = dist.MultivariateNormal(torch.zeros(4, 2), torch.eye(2))
    found: Calls = {
        "partially_observed": (partial(in_rows, pm.partially_observed, batch), {"name": "x", "fn": normal, "batch": batch, "columns": None, "mechanism": None}),
        "partially_observed of rows": (partial(in_rows, pm.partially_observed, batch), {"name": "x", "fn": rows_of, "batch": batch, "columns": None, "mechanism": pm.OwnValueMechanism(lambda x: x, torch.ones(2), "probit")}),
        "propose_missing": (partial(in_rows, propose_missing, batch), {"name": "x", "fn": normal, "batch": batch, "columns": None}),
        "observe_mask": (partial(in_rows, pm.observe_mask, batch), {"name": "r", "logits": torch.zeros(4, 2), "batch": batch, "columns": None, "weight": 1.0, "link": "logit"}),
        "observe_events": (partial(in_rows, observe_events, batch), {"name": "e", "log_odds": torch.zeros(2), "events": batch.mask}),
        "OwnValueMechanism(...)": (lambda **k: in_rows(pm.partially_observed, batch, name="x", fn=normal, batch=batch, mechanism=pm.OwnValueMechanism(**k)),
                                   {"predictor": lambda x: x, "slope": torch.ones(2), "link": "logit", "columns": None, "telling": None, "effects": None, "by_quadrature": True}),
        "shared_latents": (pm.shared_latents, {"model": model, "plate": "rows"}),
        "ImportanceWeightedELBO.moved": (partial(of_objective, "moved"), {"run": run, "values": {"z": torch.zeros(2, 4, 1)}, "model": model, "batch": batch}),
        "ImportanceWeightedELBO.log_joint": (partial(of_objective, "log_joint"), {"values": {"z": torch.zeros(2, 4, 1)}, "model": model, "batch": batch}),
        "ImportanceWeightedELBO.reweighed": (partial(of_objective, "reweighed"), {"run": run, "model": model, "batch": batch}),
    }  # fmt: skip
    try:
        import dask.dataframe as dask
    except ImportError:
        return found
    big = pd.concat([FRAME] * 5, ignore_index=True)
    fit = pm.fit(*pair(of_frame(big)), of_frame(big), epochs=1, progress=False, compile="eager")
    frame = dask.from_pandas(big, npartitions=2)
    short = {"num_particles": 3, "compile": "eager"}
    options = {"device": None, "use_mechanism": True}
    return found | {
        "scale.impute_partitions of Dask": (lambda **k: scale.impute_partitions(**k).compute(scheduler="sync"), {"fit": fit, "frame": frame, "num_draws": 1, "seed": 0, **short, **options}),
        "scale.mean_partitions of Dask": (lambda **k: scale.mean_partitions(**k).compute(scheduler="sync"), {"fit": fit, "frame": frame, "seed": 0, **short, **options}),
    }  # fmt: skip
