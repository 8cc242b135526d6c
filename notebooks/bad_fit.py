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
# # Diagnosing a bad fit
#
# Three fits to the same table, of which two are wrong in different ways: one was stopped early, one has a graph
# that lacks an arrow. Each looks harmless by itself. What shows that something is wrong, and what does no check
# show?

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display

from pyro_mnar import MissingnessGraph, Table, check_identifiability, compare, diagnose, fit, impute, plots
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA

plt.rcParams["figure.dpi"] = 64
smoke = "SMOKE" in os.environ  # a short run, to check that the notebook works
epochs, replicates = (12, 10) if smoke else (150, 100)

rng = np.random.default_rng(0)
n = 800
age = rng.normal(0, 1, n)
health = 0.6 * age + 0.8 * rng.normal(size=n)
cost = 0.7 * health + 0.3 * age + 0.6 * rng.normal(size=n)
truth = pd.DataFrame({"age": age, "health": health, "cost": cost})
seen = truth.copy()
seen.loc[rng.random(n) < 1 / (1 + np.exp(1.0 - 2.0 * health)), "health"] = np.nan  # by its own value
seen.loc[rng.random(n) < 1 / (1 + np.exp(1.5 - 1.5 * age)), "cost"] = np.nan  # by age
rows = np.arange(n)
table = Table.from_frame(seen[rows % 5 > 0], auxiliary=["age"])
held_out = table.new_rows(seen[rows % 5 == 0])
plots.missingness_pattern(table)
plt.show()

# %% [markdown]
# ## Three fits
#
# The graph of the third says that cost goes missing by chance; in truth it does by age.

# %%
right = MissingnessGraph([("health", "R[health]"), ("age", "R[cost]")], table)
lacking = MissingnessGraph([("health", "R[health]")], table)


def fitted(graph, epochs):
    """GINA with a graph, and its imputations."""
    model = GINA(table, latent_dim=1, graph=graph, seed=0)
    found = fit(
        model, ZeroImpute(table, 1, seed=0), table, epochs=epochs, start="random", num_particles=20, progress=False
    )
    return found, impute(found, table, seed=0)


fits = {
    "as it should be": fitted(right, epochs),
    "stopped early": fitted(right, epochs // 12),
    "lacks an arrow": fitted(lacking, epochs),
}
gaps = seen.loc[table.frame.index, "health"].isna()
for name, (_, imputations) in fits.items():
    error = imputations.mean()["health"][gaps].mean() - truth.loc[table.frame.index, "health"][gaps].mean()
    print(f"{name}: the missing values of health are {error:+.2f} off their true mean")

# %% [markdown]
# ## The bound: was training finished?
#
# A curve that still rises at the end says so in its title. The one that was stopped early does not: its learning
# rate fell to zero on schedule, so that it ends flat. Its level betrays it, more than a nat a row below the others.

# %%
fig, axes = plt.subplots(1, 3, figsize=(13, 3.2), layout="constrained")
for ax, (name, (result, _)) in zip(axes, fits.items(), strict=True):
    result.plot(ax)
    ax.set_title(f"{name}\n{ax.get_title()}")
plt.show()

# %% [markdown]
# ## What the model does not reproduce
#
# Tables drawn from each model, with their gaps, beside the one that was seen. The fit that lacks an arrow makes
# cost go missing as often as it does, but among people of every age: *U[0] where cost is missing* is what it cannot
# make.

# %%
found = {name: diagnose(result, drawn, replicates=replicates) for name, (result, drawn) in fits.items()}
fig, axes = plt.subplots(1, 3, figsize=(15, 4), layout="constrained")
for ax, (name, diagnosis) in zip(axes, found.items(), strict=True):
    plots.predictive_checks(diagnosis, ax)
    ax.set_title(f"{name}\n{ax.get_title()}")
plt.show()

# %% [markdown]
# ## The page
#
# All of it in words, worst first, each line with what to do.

# %%
for name in ("stopped early", "lacks an arrow"):
    print(f"--- {name}\n{found[name]}\n")

# %% [markdown]
# ## Which says more of rows that none has seen?

# %%
comparison = compare({name: result for name, (result, _) in fits.items()}, held_out)
display(comparison.to_frame().round(3))

# %% [markdown]
# ## What no check shows
#
# Health goes missing by its own value. A model that takes it for missing by age and cost, and never by health
# itself, makes tables like these, too, and imputes otherwise. No statistic of what was seen separates the two: the
# curve on the right is an assumption.

# %%
edges = [("age", "R[health]"), ("cost", "R[health]"), ("age", "R[cost]")]
fits["by age and cost"] = fitted(MissingnessGraph(edges, table), epochs)
result, drawn = fits["by age and cost"]
diagnosis = diagnose(result, drawn, replicates=replicates)
fig, axes = plt.subplots(1, 3, figsize=(14, 3.4), layout="constrained")
plots.predictive_checks(diagnosis, axes[0])
plots.imputed_against_ignorable(fits["as it should be"][1], drawn, "health", axes[1])
axes[1].get_legend().get_texts()[2].set_text("imputed, by age and cost")
plots.response_curve(fits["as it should be"][0], table, "health", ax=axes[2])
plt.show()

# %%
print(check_identifiability(fits["as it should be"][0], table, search=False))

# %% [markdown]
# So: train until the curve is flat; add the arrows that the checks ask for; and report how far the result depends
# on the arrows that no check can ask for ([Sensitivity](../docs/sensitivity.md)).
