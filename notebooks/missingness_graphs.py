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
# # Missingness graphs
#
# Who causes the missingness of what? The answer decides whether an imputation is right, and mostly it is you who
# gives it. Here we draw the paper's graphs (Ma & Zhang 2021, Figure 1), recover its ANOVA example, fit one survey
# under three graphs, read what the package has to say about identifiability, and meet two sets of parameters that no
# data can tell apart.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from pyro_mnar import MissingnessGraph, Table, check_identifiability, compare, fit, impute
from pyro_mnar.datasets import ampute, anova
from pyro_mnar.datasets.anova import NOISE, TRUTH, Parameters, log_evidence, maximum_likelihood, twin
from pyro_mnar.guides import ANOVAConditional, ZeroImpute
from pyro_mnar.models import ANOVA, GINA

smoke = "SMOKE" in os.environ  # a short run, to check that the notebook works

# %% [markdown]
# ## Figure 1
#
# Nodes are columns, the latent Z and an R for each column that can go missing; here x3 is complete. Black arrows are
# declared, grey ones lead from Z to every column and are always there. The paper's text fixes the letters below; what
# (e) to (g) show it does not say.

# %%
columns, holes = ["x1", "x2", "x3"], {"incomplete": ["x1", "x2"]}
general = MissingnessGraph.general(columns, **holes)
drawings = [
    MissingnessGraph.mcar(columns, **holes),
    MissingnessGraph.mar(columns, **holes),
    MissingnessGraph.self_masking(columns, **holes),
    MissingnessGraph.fully_connected(columns, **holes),
    general,
    MissingnessGraph([*general.edges, ("x1", "x2"), ("x2", "x3")], columns, **holes),
    MissingnessGraph([("x1", "R[x1]"), ("R[x1]", "R[x2]")], columns, **holes),
]
fig, axes = plt.subplots(2, 4, figsize=(12, 6.5), layout="constrained")
for ax, graph in zip(axes.flat, drawings, strict=False):
    graph.plot(ax)
    ax.set_title(f"({graph.figure1().letter})  {graph.kind().overall}", fontsize=13)
axes.flat[-1].set_axis_off()

# %% [markdown]
# A graph says what it means, column by column. In the last one x2 is never looked at when x2 goes missing, and yet:

# %%
print(drawings[-1], drawings[-1].kind(), drawings[-1].figure1(), sep="\n\n")

# %% [markdown]
# ## The ANOVA example
#
# Appendix C: five columns measure five true values Z with a known error, and the higher a true value, the rarer it is
# observed. The model is not told so. Its likelihood is a product of one-dimensional integrals, so the exact maximum
# is there to compare with.

# %%
data = anova(seed=0, rows=500 if smoke else 5000)
table = Table.from_frame(data.frame, auxiliary=[])
model = ANOVA(table, noise=NOISE)
fit(model, ANOVAConditional(model), table, epochs=1 if smoke else 60, num_particles=20, progress=False)
exact = maximum_likelihood(data.frame)
pd.DataFrame(
    {
        "truth": TRUTH.vector(),
        "observed": [*data.frame.mean(), data.frame.var().mean() - NOISE**2, np.nan, np.nan],
        "fit": [*model.mu.tolist(), model.zeta.item() ** 2, model.intercept.item(), model.slope.item()],
        "exact maximum": exact.parameters.vector(),
        "its standard error": exact.standard_errors,
    },
    index=[*(f"mean of {name}" for name in data.frame), "variance of Z", "intercept", "slope"],
).round(2)

# %% [markdown]
# ## One survey, three graphs
#
# Income, savings and debts are withheld because of themselves: the truth is self-masking. Age and schooling are known
# for everyone; they drive the answers, not the willingness to answer. A thousand rows are kept for the comparison.

# %%
rng = np.random.default_rng(0)
rows = 200 if smoke else 4000
age, school = rng.uniform(20, 70, rows), rng.normal(12, 3, rows)
standing = 0.04 * (age - 45) + 0.2 * (school - 12) + rng.normal(0, 0.6, rows)
people = pd.DataFrame(
    {
        "age": age,
        "school": school,
        "income": 3000 + 800 * standing + rng.normal(0, 300, rows),
        "savings": 20 + 12 * standing + rng.normal(0, 6, rows),
        "debts": 9 - 2 * standing + rng.normal(0, 1, rows),
    }
)
asked = ["income", "savings", "debts"]
truth = MissingnessGraph.self_masking(list(people), incomplete=asked, sign="high")
survey = ampute(people, truth, rate=0.4, strength=3, seed=0).frame
table = Table.from_frame(survey.iloc[: 3 * rows // 4], auxiliary=["age", "school"])
held_out = table.new_rows(survey.iloc[3 * rows // 4 :])

graphs = {
    "own value": MissingnessGraph.self_masking(table),
    "latent": MissingnessGraph.latent(table),
    "age, school": MissingnessGraph.mar(table),
}
fits = {}
for name, graph in graphs.items():
    model = GINA(table, graph=graph, seed=0)
    guide = ZeroImpute(table, model.latent_dim, seed=0)
    fits[name] = fit(
        model, guide, table, epochs=1 if smoke else None, num_particles=20, seed=0, start="random", progress=False
    )

# %%
compare(fits, held_out)

# %% [markdown]
# What is known for everyone does not explain the gaps. But "own value" and "latent" lie within two standard errors of
# each other, and yet they impute different incomes: the bound alone does not choose between them.

# %%
means = {name: impute(result, table, seed=0).mean()[asked].mean() for name, result in fits.items()}
complete, seen = people.iloc[: len(table)], table.frame
pd.DataFrame({"truth": complete[asked].mean(), "respondents": seen[asked].mean(), **means}).round(1)

# %%
completed = {name: impute(result, table, num_draws=1, seed=0) for name, result in fits.items()}
gaps = seen["income"].isna()
fig, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained", sharey=True)
bins = np.linspace(1000, 6500, 50)
axes[0].set_ylabel("people")
for ax, (name, imputations) in zip(axes, completed.items(), strict=True):
    ax.hist(complete["income"][gaps], bins, color="0.8", label="withheld (truth)")
    ax.hist(next(imputations.frames())["income"][gaps], bins, histtype="step", color="C1", lw=1.5, label="imputed")
    ax.set(title=f"declared cause: {name}", xlabel="income, euros")
    ax.legend()

# %% [markdown]
# ## The report
#
# Which of the paper's assumptions do this table and this fit contradict? No line ever says that one holds.

# %%
options = {"epochs": 1} if smoke else {}
report = check_identifiability(fits["own value"], table, **options)
report

# %% [markdown]
# Line by line:
#
# - **Twins.** Refits that reached as good a bound, from the other side of the data among them, ended with about the
#   same imputed means. Had one reached it with other means, the line would say `not identified`.
# - **Positivity.** Hardly anything is imputed beyond the range that was observed: answers are rarer at the top, not
#   absent. Under a hard threshold this share comes close to 1, and the unseen side is the model's invention.
# - **Shadow variables.** Age and schooling drive each answer but, so says the graph, not the answering. This is what
#   tells "withheld because high" from "low": the strongest line here, and it rests on the declaration.
# - **Patterns** (A3). Each column is observed together with enough others, often enough.
# - **Decoder** (A5, two lines). There are no more latents than columns, and other latents mean other columns.
# - **U** (four lines). It moves the prior of the latent, in every direction that Theorem 1 asks for; it is no stand-in
#   for the mask; and columns are continuous, as the theorem has them.
# - **Assumed.** That being missing causes nothing, and that graph and families are right, no data can show.
#
# Lines that need no fit are there for a bare model. Five latents for these three columns, in the proportion of the
# paper's own synthetic experiment:

# %%
for line in check_identifiability(GINA(table, latent_dim=5, seed=0), table).lines:
    if line.verdict == "violated":
        print(f"{line.assumption} ({line.paper}): {line.evidence}. What to do: {line.advice}.")

# %% [markdown]
# ## A twin
#
# The ANOVA example again, with other parameters: high values go missing, slope −2. Its *twin* has means two lower and
# lets the low ones go missing, slope +2. Where log c = 0, both give everything that is observed the same probability,
# to the last digit:

# %%
one = Parameters(mu=np.zeros(3), zeta=1.0, intercept=-2.0, slope=-2.0)
other, log_c = twin(one)
data = anova(seed=0, rows=200 if smoke else 2000, truth=one)
difference = log_evidence(data.frame, one) - log_evidence(data.frame, other)
print(f"log c: {log_c}; largest difference of log p in any cell: {np.abs(difference).max():.1e}")
names = [*(f"mean of {name}" for name in data.frame), "variance of Z", "intercept", "slope"]
pd.DataFrame({"one": one.vector(), "the other": other.vector()}, index=names)

# %%
fig, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained", sharey=True)
at = np.linspace(-6, 4, 400)
spread = np.hypot(one.zeta, NOISE)
axes[0].set_ylabel("density")
observed = np.exp(log_evidence(at[:, None], Parameters(one.mu[:1], *one[1:]))[:, 0])  # p(x, R = 1), the same for both
for ax, (name, parameters) in zip(axes, {"one": one, "the other": other}.items(), strict=True):
    density = np.exp(-0.5 * ((at - parameters.mu[0]) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
    ax.fill_between(at, observed, density, color="C1", alpha=0.35, label="missing")
    ax.fill_between(at, observed, color="C0", alpha=0.6, label="observed: the same in both")
    ax.plot(at, density, color="0.2", lw=1)
    ax.set(title=f"{name}: mean {parameters.mu[0]:g}, slope {parameters.slope:g}", xlabel="x")
    ax.legend()

# %% [markdown]
# The paper's A1 to A3 hold for both, so Proposition 1 does not protect from this ([why](../docs/identifiability.md)).
# The twin search finds it from data, knowing nothing of the formula:

# %%
table = Table.from_frame(data.frame, auxiliary=[])
model = ANOVA(table, noise=NOISE)
result = fit(model, ANOVAConditional(model), table, epochs=1 if smoke else 60, num_particles=20, progress=False)
report = check_identifiability(result, table, **options)
print(report.lines[0].verdict, "-", report.lines[0].evidence)
pd.concat(
    [report.twins.bounds[["bound", "below_best", "below_best_error", "equal"]], report.twins.means], axis=1
).round(3)

# %% [markdown]
# Equal bounds, and imputed means (the last three columns) more than a standard deviation apart. Between the twins the
# bound is almost flat, so the refits stop at several places on the way. More rows like these would not help.
# Knowledge from outside does: a sign, or a complete column that drives the values and not the answering.
