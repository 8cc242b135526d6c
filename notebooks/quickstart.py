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
# # Quickstart: a survey in which high incomes are withheld
#
# A thousand people are asked for income, savings and rent. Age and schooling are known for everyone. The more somebody
# earns or has saved, the less likely the answer: the data are **missing not at random**, and no method that ignores the
# mechanism can get the averages right. Here the answers are simulated, so that we can look at the truth afterwards.

# %%
import os

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from pyro_mnar import Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.models import GINA

smoke = "SMOKE" in os.environ  # a short run, to check that the notebook works
rng = np.random.default_rng(1)
n = 1000
age, school = rng.uniform(20, 70, n), rng.normal(12, 3, n)
standing = 0.04 * (age - 45) + 0.25 * (school - 12) + rng.normal(0, 0.5, n)
truth = pd.DataFrame(
    {
        "age": age,
        "school": school,
        "income": 3000 + 800 * standing + rng.normal(0, 250, n),
        "savings": 20 + 12 * standing + rng.normal(0, 4, n),
        "rent": 900 + 200 * standing + rng.normal(0, 100, n),
    }
)
survey = truth.copy()
for column in ["income", "savings"]:
    z = (truth[column] - truth[column].mean()) / truth[column].std()
    survey.loc[rng.uniform(size=n) < 1 / (1 + np.exp(-3 * z)), column] = np.nan
survey.head()

# %% [markdown]
# ## Declare the mechanism, fit
#
# `auxiliary` names U: known for everyone, and no cause of the missingness in its own right. `SelfMasking` declares that
# an answer is withheld because of its own value; whether high or low ones are withheld, the fit has to find out.

# %%
table = Table.from_frame(survey, auxiliary=["age", "school"])
model = GINA(table, mechanism=SelfMasking, seed=0)
guide = ZeroImpute(table, model.latent_dim, seed=0)
result = fit(model, guide, table, epochs=5 if smoke else None, num_particles=20, seed=0, progress=False)
result.history.plot(x="epoch", y="bound", ylabel="nats per row", legend=False)
# %% [markdown]
# ## Impute
#
# Twenty completed tables, drawn given that the missing answers *were withheld*.

# %%
imputations = impute(result, table, num_draws=20, seed=0)
next(imputations.frames()).head()

# %% [markdown]
# Averages over the whole survey, in the user's own units. The respondents' averages are far too low.
#
# `sd` is how far the twenty tables differ, and **no standard error**: all of them come from one fit, whose parameters
# they take for known, so that the truth lies six or seven `sd` away. `fit(..., bootstrap=20)` and
# `imputations.pool("income ~ age")` give intervals that hold the uncertainty of the fit
# ([Pooling](../docs/pooling.md), and [the whole way](messy_csv.ipynb)).

# %%
columns = ["income", "savings"]
means = pd.DataFrame([frame[columns].mean() for frame in imputations.frames()])
averages = {"truth": truth[columns], "respondents": survey[columns], "imputed": means}
pd.DataFrame({name: frame.mean() for name, frame in averages.items()} | {"sd": means.std()})

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for ax, column in zip(axes, columns, strict=True):
    gaps = survey[column].isna()
    ax.scatter(truth.loc[gaps, column], imputations.mean().loc[gaps, column], s=4)
    ax.axline((truth[column].mean(),) * 2, slope=1, color="0.5")
    ax.set(title=column, xlabel="true", ylabel="imputed (posterior mean)")

# %% [markdown]
# ## On to ArviZ
#
# Draws, observed data and auxiliaries with named dimensions.

# %%
data = imputations.to_inference_data()
az.summary(data.posterior["x_missing"].isel(cell=slice(4)), kind="stats")
