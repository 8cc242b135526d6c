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
# # A model of your own: pupils in schools
#
# Pupils of thirty schools say how many hours a week they study, and sit a test. Schools differ, hours raise the score,
# and **whoever expects a low score stays at home**. No model that ships with the package says this: an effect that the
# pupils of a school share, one column that causes another, and a column that is missing because of its own value. So we
# write the model function: a few lines of Pyro, with the package's three words. Training, imputation, pooling and
# pictures come with it.
#
#     school → score      hours → score → R[score]      R[hours] by chance

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
from pyro.infer.autoguide import AutoNormal

from pyro_mnar import (
    Groups,
    Table,
    fit,
    impute,
    missingness_graph_of,
    observe_mask,
    partially_observed,
    rows,
    shared_latents,
)

smoke = "SMOKE" in os.environ  # a short run, to check that the notebook works
rng = np.random.default_rng(3)
schools, n = [f"school {i + 1:02d}" for i in range(30)], 300 if smoke else 1500
effects = pd.Series(rng.normal(0, 8, len(schools)), schools)
school = rng.choice(schools, n)
hours = rng.gamma(4, 1.5, n)
truth = pd.DataFrame(
    {"school": school, "hours": hours, "score": 40 + 3 * hours + effects[school] + rng.normal(0, 8, n)}
)
at_home = rng.random(n) < 1 / (1 + np.exp((truth.score - 50) / 5))
pupils = truth.mask(np.column_stack([np.zeros(n, bool), rng.random(n) < 0.15, at_home]))
pupils.describe().loc[["count", "mean"]].round(1)

# %% [markdown]
# ## The model
#
# What stands before `with rows(batch)` is shared by all pupils: the effects of schools, drawn from a common
# distribution whose spread is learned, so that a school of five pupils borrows from the others. The value of `hours`
# enters the distribution of `score`: that is the arrow between columns, missing hours included. Columns are in standard
# deviations.

# %%
table = Table.from_frame(pupils, auxiliary=["school"])
groups = Groups(table, "school")


def model(batch):
    one = batch.x.new_ones(())
    level, slope, by_score, willing = (
        pyro.sample(name, dist.Normal(0 * one, 2 * one)) for name in ["level", "slope", "by_score", "willing"]
    )
    spread, noise, width = (pyro.sample(name, dist.HalfNormal(one)) for name in ["spread", "noise", "width"])
    answers = pyro.sample("answers", dist.Normal(0 * one, 2 * one))
    with groups.plate():
        effect = pyro.sample("effect", dist.Normal(0 * one, spread))
    with rows(batch):
        studied = partially_observed(
            "hours", dist.Normal(batch.x.new_zeros(len(batch), 1), width), batch, columns=["hours"]
        )
        expected = level + effect[groups.of(batch)].unsqueeze(-1) + slope * studied
        score = partially_observed("score", dist.Normal(expected, noise), batch, columns=["score"])
        observe_mask("r_hours", answers.expand(len(batch), 1), batch, columns=["hours"])
        observe_mask("r_score", willing + by_score * score, batch, columns=["score"])


print(missingness_graph_of(model, table))

# %% [markdown]
# Who causes the missingness of what is read off the function, so what the package says of it is what the code does.
#
# ## Fit
#
# The guide holds what all pupils share, by one of Pyro's automatic guides; missing values are proposed from the model.

# %%
guide = AutoNormal(shared_latents(model), init_scale=0.05)
epochs = 2 if smoke else 100
result = fit(model, guide, table, epochs=epochs, num_particles=50, seed=0, progress=False)
result.plot()

# %% [markdown]
# ## Impute and pool
#
# Each completed table comes from a draw of the parameters of its own, so Rubin's rules have all they need. Who sat the
# test studied more than the rest and scored higher at the same hours; complete cases understate what an hour is worth.

# %%
imputations = impute(result, table, num_draws=20, seed=0)
pooled = imputations.pool("score ~ hours").to_frame()


def least_squares(frame):
    slope, intercept = np.polyfit(frame.hours, frame.score, 1)
    return [intercept, slope]


pooled[["estimate", "standard_error"]].assign(
    truth=least_squares(truth), complete_cases=least_squares(pupils.dropna())
).round(2)

# %% [markdown]
# ## Schools
#
# Average score of each school, of all its pupils: those who came, the imputed tables, and the truth.

# %%
means = pd.DataFrame([frame.groupby("school", observed=True).score.mean() for frame in imputations.frames()])
order = truth.groupby("school").score.mean().sort_values()
came = pupils.groupby("school").score.mean()[order.index]
at = np.arange(len(order))
fig, ax = plt.subplots(figsize=(9, 3.8), layout="constrained")
ax.errorbar(
    at, means.mean()[order.index], 2 * means.std()[order.index], fmt="o", ms=4, label="imputed, ± 2 sd of the draws"
)
ax.plot(at, came, "x", color="C1", label="pupils who came")
ax.plot(at, order, "_", color="0.2", ms=12, mew=2, label="truth")
ax.set(
    title="Pupils who came flatter weak schools most",
    xlabel="school, by its true average",
    ylabel="average score, points",
)
ax.legend()
