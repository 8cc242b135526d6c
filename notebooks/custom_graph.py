# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A missingness graph of your own
#
# Three questions of a test share one ability. The hard one is skipped because of the *ability*, not because of the
# answer that would have been given; the other two are skipped because of their own value. No model that ships with the
# package says just this, so we write the model function: ten lines of Pyro, with the package's three words.
#
#     Z → X_1, X_2, X_3      Z → R_3      X_1 → R_1      X_2 → R_2

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI
from pyro.nn import PyroModule, PyroParam

from pyro_mnar import Fit, ImportanceWeightedELBO, Table, impute, observe_mask, partially_observed, rows
from pyro_mnar.guides import ZeroImpute

smoke = "SMOKE" in os.environ  # a short run, to check that the notebook works


# %%
class Exam(PyroModule):
    def __init__(self):
        super().__init__()
        self.loading = torch.nn.Parameter(torch.ones(3))
        self.level = torch.nn.Parameter(torch.zeros(3))
        self.noise = PyroParam(torch.full((3,), 0.5), constraint=dist.constraints.positive)
        self.willing = torch.nn.Parameter(torch.zeros(3))
        self.slope = torch.nn.Parameter(torch.zeros(3))

    def forward(self, batch):
        with rows(batch):
            z = pyro.sample("z", dist.Normal(batch.x.new_zeros(1), 1.0).to_event(1))
            x = partially_observed("x", dist.Normal(self.level + self.loading * z, self.noise), batch)
            cause = torch.cat([x[..., :2], z], dim=-1)
            observe_mask("r", self.willing + self.slope * cause, batch)


# %% [markdown]
# ## Data that follow this graph

# %%
rng = np.random.default_rng(0)
ability = rng.normal(size=(2000, 1))
truth = pd.DataFrame(60 + 15 * (ability + 0.5 * rng.normal(size=(2000, 3))), columns=["easy", "medium", "hard"])
cause = np.column_stack([(truth[["easy", "medium"]] - 60) / 15, ability])
answered = rng.uniform(size=cause.shape) < 1 / (1 + np.exp(-(1 + 2 * cause)))
exam = truth.where(answered)
exam.describe().loc[["count", "mean"]]

# %% [markdown]
# ## Train with Pyro's own `SVI`
#
# The objective is an ordinary Pyro loss, the guide any guide that proposes `z`; `x_missing` is proposed from the model.

# %%
pyro.set_rng_seed(0)
table = Table.from_frame(exam, auxiliary=[])
model, guide = Exam(), ZeroImpute(table, latent_dim=1, hidden=(32,))
epochs = 2 if smoke else 150
with pyro.get_param_store().scope():
    adam = pyro.optim.ClippedAdam({"lr": 0.01, "lrd": 0.01 ** (1 / (16 * epochs))})
    svi = SVI(model, guide, adam, ImportanceWeightedELBO(num_particles=20))
    shuffle = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(epochs):
        steps = [svi.step(batch) for batch in table.batches(128, generator=shuffle)]
        losses.append(np.mean(steps) / len(table))
    trained = Fit.from_svi(model, guide, table)
plt.plot([-loss for loss in losses])
plt.gca().set(xlabel="epoch", ylabel="bound, nats per row")
# %% [markdown]
# ## Impute, and compare with the truth

# %%
imputations = impute(trained, table, num_draws=20, seed=0)
means = pd.DataFrame([frame.mean() for frame in imputations.frames()])
pd.DataFrame({"truth": truth.mean(), "answered": exam.mean(), "imputed": means.mean(), "sd": means.std()})

# %% [markdown]
# What the fit found out about the skipping: log-odds of answering per standard deviation of the cause (the truth is
# positive for all three; units differ, since columns are standardised by what was observed).

# %%
pd.Series(model.slope.detach().numpy(), index=["easy (own value)", "medium (own value)", "hard (ability)"]).round(2)
