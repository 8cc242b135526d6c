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
# # From a messy CSV to a publishable table
#
# A file as it came: semicolons, decimal commas, codes for "refused" and "does not apply", an id, a comment, words
# in the wrong order, a page that some never turned. At the end stands a regression with intervals, and what becomes
# of it if the missing values are worse than assumed. The answers are simulated, so the truth can be shown at the
# end.

# %%
import os
import warnings
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display

from pyro_mnar import (
    MissingnessGraph,
    Table,
    check_identifiability,
    diagnose,
    fit,
    impute,
    plots,
    report,
    sensitivity,
    tipping_point,
)
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA, PartialVAE

plt.rcParams["figure.dpi"] = 72
smoke = "SMOKE" in os.environ  # a short run, to check that the notebook works
epochs, draws = (2, 3) if smoke else (150, 20)
folder = Path(mkdtemp())

# %% [markdown]
# ## The file
#
# 900 people. Who earns much tends to refuse (code -98); who never worked has no income (-97).

# %%
rng = np.random.default_rng(0)
n = 900
age = rng.integers(20, 75, n)
school = rng.choice(["primary", "secondary", "tertiary"], n, p=[0.25, 0.5, 0.25])
years = pd.Series(school).map({"primary": 8, "secondary": 12, "tertiary": 16}).to_numpy()
log_income = 6.4 + 0.06 * years + 0.012 * (age - 45) + 0.3 * rng.normal(size=n)
income = np.exp(log_income).round()
rent = (250 + 0.18 * income + 60 * rng.normal(size=n)).round(2)
heating = (60 + 0.03 * income + 15 * rng.normal(size=n)).round(2)
refuses = rng.random(n) < 1 / (1 + np.exp(-3.0 * (log_income - 7.3)))
no_page = rng.random(n) < 0.12
file = pd.DataFrame(
    {
        "id": [f"P{number:04}" for number in range(n)],
        "age": age,
        "school": school,
        "income": np.where(rng.random(n) < 0.04, -97, np.where(refuses, -98, income)).astype(int),
        "rent": np.where(no_page, np.nan, rent),
        "heating": np.where(no_page, np.nan, heating),
        "comment": rng.choice(["", "thanks", "too long"], n),
    }
)
file.to_csv(folder / "survey.csv", sep=";", decimal=",", index=False)
print((folder / "survey.csv").read_text()[:230])

# %% [markdown]
# ## What is in it
#
# Codes are declared, and what they mean: *refused* is missing, *never worked* has no value to miss. The order of
# schooling is declared too; the id and the comment are carried through and seen by no model. The page is found.

# %%
warnings.simplefilter("ignore", UserWarning)  # on columns missing together, which are looked at below
table = Table.from_csv(
    folder / "survey.csv",
    sep=";",
    decimal=",",
    na_values={"income": [-98]},
    not_applicable={"income": [-97]},
    kinds={"income": "positive"},
    carry=["id", "comment"],
    auxiliary=["age", "school"],
)
print(table.schema.describe_kinds()[["kind", "because"]].to_string())
fig, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
plots.missingness_pattern(table, axes[0])
plots.co_missingness(table, axes[1])
plt.show()

# %% [markdown]
# ## What is assumed
#
# Whether income is told depends on income: high ones are withheld. The page was lost by chance. Both are
# *assumptions*, and the graph says so in a form that can be printed.

# %%
graph = MissingnessGraph([("income", "R[income]", {"sign": "high"})], table)
print(graph)
ax = graph.plot()
plt.show()

# %% [markdown]
# ## Fit, and what the fit says
#
# Twenty fits to bootstrap weights, one for each draw, so that intervals hold what the parameters leave open.

# %%
model = GINA(table, latent_dim=2, graph=graph, seed=0)
options = {"epochs": epochs, "num_particles": 20, "progress": False}
result = fit(model, ZeroImpute(table, 2, seed=0), table, bootstrap=draws, held_out=0.1, **options)
imputations = impute(result, table, seed=0)
print(imputations, "\n")
fig, axes = plt.subplots(1, 3, figsize=(13, 3.4), layout="constrained")
result.plot(axes[0])
plots.response_curve(result, table, "income", ax=axes[1])
imputations.plot("income", axes[2])
plt.show()

# %% [markdown]
# ## Does anything speak against it?

# %%
diagnosis = diagnose(result, imputations, replicates=20 if smoke else 100)
print(diagnosis, "\n")
print(check_identifiability(result, table, search=False))

# %% [markdown]
# ## The table to publish
#
# The gradient of income over schooling, in logarithms. Rows without an income (never worked) are no gaps and are
# left out.


# %%
def gradient(frame):
    """Least squares of log income on years of schooling and age: estimates and their covariance."""
    earning = frame[frame["income"] > 0]
    at_school = earning["school"].map({"primary": 8, "secondary": 12, "tertiary": 16}).astype(float)
    x = np.column_stack([np.ones(len(earning)), at_school, earning["age"].astype(float)])
    y = np.log(earning["income"].astype(float))
    beta = np.linalg.lstsq(x, y, rcond=None)[0]
    covariance = ((y - x @ beta) ** 2).sum() / (len(y) - 3) * np.linalg.inv(x.T @ x)
    return pd.Series(beta, ["intercept", "year of school", "year of age"]), covariance


ignorable_model = PartialVAE(table, latent_dim=2, seed=0)
ignorable = fit(ignorable_model, ZeroImpute(table, 2, seed=0), table, bootstrap=draws, **options)
scenarios = {"as declared": imputations, "cause ignored": impute(ignorable, table, seed=0)}
found = sensitivity(gradient, scenarios, deltas={"": {}, "refusers earn 0.5 sd more": {"income": 0.5}})
display(found.to_frame("year of school").drop(columns=["fmi", "monte_carlo_error"]).round(4))
complete = gradient(pd.DataFrame({"income": income, "school": school, "age": age}))[0]
print(f"the truth: 0.06; had everybody answered: {complete['year of school']:.4f}")
ax = plots.forest(found, "year of school")
ax.axvline(0.06, color="0.5", linestyle="--")
plt.show()

# %% [markdown]
# ## How wrong may the assumption be?
#
# By how much would refusers have to earn less than the fit says, in standard deviations, for a year of schooling to
# be worth less than five per cent?

# %%
tip = tipping_point(gradient, imputations, "income", conclusion=0.05, between=(0, -3), coefficient="year of school")
print(tip)

# %% [markdown]
# ## The supplement
#
# One page with all of it: what was missing, what was assumed, how it was imputed, what speaks against it, what came
# out.

# %%
pooled = {"log income": imputations.pool(gradient)}
page = report(
    result,
    imputations,
    pooled=pooled,
    sensitivity=found,
    tipping=tip,
    diagnostics=diagnosis,
    seeds={"fit": 0, "impute": 0},
)
page.save(folder / "report.html")
print(page, f"{(folder / 'report.html').stat().st_size // 1000} kB")
