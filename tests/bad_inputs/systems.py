"""The systems that the paper compares, and the words of a model: one case of each kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyro.distributions as dist
import torch

from bad_inputs.case import FRAME, Case, of_frame, pair, refused, taken, untrained
from pyro_mnar import (
    ImportanceWeightedELBO,
    OwnValueMechanism,
    baselines,
    fit,
    observe_mask,
    partially_observed,
    scale,
    search_twins,
    shared_latents,
)
from pyro_mnar.baselines.heckman import heckman

TABLE = of_frame(FRAME)
BATCH = TABLE.batch()
BIG = of_frame(pd.concat([FRAME] * 5, ignore_index=True))
NORMAL = dist.Normal(torch.zeros(4, 2), 1.0)
RATINGS = pd.DataFrame({"row": [0, 0, 1, 2], "column": [0, 1, 0, 1], "value": [1.0, 2.0, 3.0, 5.0]})


def learnt(**ratings: Any) -> Any:
    return baselines.AutoRec(steps=2, hidden=2).fit(RATINGS.assign(**ratings), (3, 2), seed=0)


def diverged() -> Any:
    return fit(*pair(BIG), BIG, epochs=2, progress=False, compile="eager", learning_rate=2**63, clip=None, bootstrap=2)


CASES: list[Case] = [
    refused("a system completes a frame", lambda: baselines.mean().complete(FRAME, seed=0), "table: expected a Table", "DataFrame"),
    refused("a system with seed=-1", lambda: baselines.mice().complete(TABLE, seed=-1), "seed", "-1"),
    taken("a system with seed=2**63 - 1", lambda: baselines.mice().complete(TABLE, seed=2**63 - 1), "completed",
          lambda found: bool(found.notna().all(axis=None))),
    refused("knn(neighbours=1.5)", lambda: baselines.knn(1.5), "neighbours: expected a whole number", "1.5"),
    refused("miss_forest(trees=2**63)", lambda: baselines.miss_forest(2**63), "trees", "GiB", "at most"),
    refused("LowRankJoint(penalty='a')", lambda: baselines.LowRankJoint(penalty="a"), "penalty", "'a'"),
    refused("Fitted of a model's name", lambda: baselines.Fitted("a", "GINA"), "model: expected something to call", "'GINA'"),
    refused("Averaged of numbers", lambda: baselines.Averaged("a", [1, 2]), "systems", "1"),
    refused("normal mixtures of a sign in words", lambda: baselines.hide_further(TABLE, "up"), "sign: expected -1 or 1", "'up'"),
    refused("SelfMaskedMixture(burn_in=None)", lambda: baselines.SelfMaskedMixture("a", burn_in=None), "burn_in", "None"),
    refused("propensities of words", lambda: baselines.InverseProbabilityWeighting(propensities=["a"] * 4).moments(TABLE), "propensities", "'a'"),
    refused("ratings as a list", lambda: baselines.AutoRec().fit([1, 2], (3, 2), seed=0), "ratings: expected a DataFrame", "list"),
    refused("ratings in words", lambda: learnt(value=["a", "b", "c", "d"]), "ratings, column 'value'", "numbers"),
    refused("ratings of the shape 3", lambda: baselines.AutoRec().fit(RATINGS, 3, seed=0), "shape", "3"),
    refused("ratings of a shape beyond memory", lambda: baselines.AutoRec().fit(RATINGS, (10**9, 10**9), seed=0), "shape", "GiB"),
    refused("ratings of more levels than there are", lambda: baselines.pmf_mar(2).fit(RATINGS, (3, 2), seed=0), "2 levels", "5"),
    refused("predict before fit", lambda: baselines.AutoRec().predict(np.array([0]), np.array([0])), "fit"),
    refused("predict of a row that is not there", lambda: learnt().predict(np.array([3]), np.array([0])), "rows", "3"),
    refused("predict of columns by name", lambda: learnt().predict(np.array([0]), np.array(["a"])), "columns", "whole numbers"),
    refused("cpt_v(steps=1.5)", lambda: baselines.cpt_v(steps=1.5), "steps: expected a whole number", "1.5"),
    refused("pmf(latent_dim=2**63)", lambda: baselines.pmf(latent_dim=2**63).fit(RATINGS, (3, 2), seed=0), "latent_dim", "GiB"),
    refused("heckman of a list", lambda: heckman([1.0], FRAME, FRAME), "outcome: expected a Series", "list"),
    refused("partially_observed(3, ...)", lambda: partially_observed(3, NORMAL, BATCH), "name: expected a str", "int"),
    refused("partially_observed of a frame", lambda: partially_observed("x", NORMAL, FRAME), "batch: expected a Batch", "DataFrame"),
    refused("observe_mask(weight=nan)", lambda: observe_mask("r", BATCH.x, BATCH, weight=float("nan")), "weight", "nan"),
    refused("observe_mask(link=3)", lambda: observe_mask("r", BATCH.x, BATCH, link=3), "link", "3"),
    refused("OwnValueMechanism(slope='x')", lambda: OwnValueMechanism(lambda x: x, "x"), "slope", "str"),
    refused("shared_latents(plate=3)", lambda: shared_latents(pair()[0], 3), "plate", "int"),
    refused("log_joint at numbers", lambda: ImportanceWeightedELBO(2, max_plate_nesting=1).log_joint({"z": 1.0}, pair()[0], BATCH), "'z'", "Tensor"),
    refused("mean_partitions of a model", lambda: scale.mean_partitions(pair()[0], None), "fit", "GINA"),
    refused("fit(learning_rate=2**63, bootstrap=2)", diverged, "finite"),
    refused("search_twins(learning_rate=2**63)", lambda: search_twins(untrained(BIG), BIG, epochs=1, profile=False, learning_rate=2**63), "learning_rate"),
]  # fmt: skip
