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
# # The next best question
#
# Twenty diagnostic questions of known difficulty, right or wrong, and students who **skip what they get wrong**: the
# answers are missing not at random. Which question says most about a student, given the answers so far? (Ma & Zhang
# 2021, section 6.3 and Appendix I.) The students are simulated from an item-response model, so that the truth can be
# looked at.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from pyro_mnar import Table, fit, information_reward, next_best, simulate_acquisition
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.level_changes import level_changes
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.models import GINA

smoke = "SMOKE" in os.environ  # a short run, to check that the notebook works
rng = np.random.default_rng(4)
num_students, num_questions = 1200, 20
difficulty = pd.Series(np.linspace(-2, 2, num_questions), [f"Q{i + 1}" for i in range(num_questions)])
sharpness = rng.uniform(1.0, 2.5, num_questions)  # how well a question tells students apart
school_year = rng.integers(7, 12, num_students)
ability = 0.4 * (school_year - 9) + rng.normal(0, 1, num_students)
chance = 1 / (1 + np.exp(-sharpness * (ability[:, None] - difficulty.to_numpy())))
truth = pd.DataFrame(rng.uniform(size=chance.shape) < chance, columns=difficulty.index).astype("boolean")

# %% [markdown]
# Everyone was shown some of the questions, few or many, at random. Of these, a wrong answer was handed in only half
# the time, so weak students skip more. The guide learns from rows like those that it will meet: few answers, and many.

# %%
shown = rng.uniform(size=truth.shape) < rng.uniform(size=(num_students, 1))
handed_in = shown & (truth.to_numpy(bool) | (rng.uniform(size=truth.shape) < 0.5))
answers = truth.where(handed_in)
answers["year"] = school_year
train, test = slice(0, 1000), slice(1000, None)
not_shown = {q: ~shown[train, i] for i, q in enumerate(difficulty.index)}
table = Table.from_frame(answers[train], auxiliary=["year"], by_design=not_shown)
print(table)
print(
    "share right, of all:",
    round(truth.mean().mean(), 2),
    "of those handed in:",
    round(answers[difficulty.index].stack().mean(), 2),
)

# %%
model = GINA(table, latent_dim=2, mechanism=SelfMasking, seed=0)
guide = ZeroImpute(table, model.latent_dim, seed=0)
result = fit(model, guide, table, epochs=2 if smoke else 150, seed=0, progress=False)
result.history.plot(x="epoch", y="bound", ylabel="nats per row", legend=False)
# %% [markdown]
# ## One student
#
# Reward of each open question in nats: before the first answer, and after three answers, right or wrong.

# %%
nobody = pd.DataFrame(
    pd.NA, index=["nothing yet", "three right", "three wrong"], columns=difficulty.index, dtype="boolean"
)
nobody.loc["three right", ["Q8", "Q10", "Q12"]] = True
nobody.loc["three wrong", ["Q8", "Q10", "Q12"]] = False
nobody["year"] = 9
samples = {"num_samples": 20 if smoke else 400, "seed": 0}
rewards = information_reward(result, nobody, **samples)
fig, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
for student, row in rewards.iterrows():
    ax.plot(difficulty[row.notna()], row[row.notna()], marker="o", label=student)
ax.set(xlabel="difficulty", ylabel="information, nats")
ax.legend()
next_best(result, nobody, **samples)

# %% [markdown]
# ## New students, asked one by one
#
# Two hundred others, questioned from scratch; their own answers reply. The error is that of all answers, given and
# predicted.

# %%
students = truth[test].iloc[: 20 if smoke else 200].copy()
students["year"] = school_year[students.index]
steps = 3 if smoke else 8
curves = {
    policy: simulate_acquisition(result, students, policy, steps, num_samples=20, num_particles=20, seed=0)
    for policy in ["information", "variance", "random"]
}
fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for curve in curves.values():
    curve.plot(ax)
pd.Series({policy: curve.area for policy, curve in curves.items()}, name="area under the curve")

# %% [markdown]
# Asking where the answer is least certain does as well here: every question hangs on the same ability. It does not
# where most columns have little to do with the target (`docs/acquisition.md`).
#
# ## Does the next question get harder after a right answer?
#
# The paper's Table 2 reports the change of level from one question to the next, after right and after wrong answers.
# That number needs care: whoever got a question right was more likely asked an easy one, and whatever comes next is
# harder on average, chosen or not. So the level of the *current* question is held fixed beside it: the coefficient of
# "right" in a regression of the next level on the current level and on whether the answer was right.


# %%
def at_the_same_level(curve):
    """What a right answer adds to the next level beside a wrong one, at the same current level, and its error."""
    asked = curve.questions
    level = asked.apply(lambda column: column.map(difficulty)).to_numpy(float)
    right = np.array([[students.at[i, q] for q in row] for i, row in asked.iterrows()], dtype=bool)[:, :-1].ravel()
    current, following = level[:, :-1].ravel(), level[:, 1:].ravel()
    design = np.stack([np.ones_like(current), current, right], 1)
    inverse = np.linalg.pinv(design.T @ design)
    slopes = inverse @ design.T @ following
    residual = following - design @ slopes
    return {"same level: right adds": slopes[2], "standard error": np.sqrt(inverse[2, 2] * residual.var(ddof=3))}


def row(curve):
    changes = level_changes(curve.questions, students[difficulty.index].astype(float), difficulty)
    return {
        "change, right": changes.after_correct,
        "change, wrong": changes.after_incorrect,
        "p, clustered": changes.p_value_clustered,
        **at_the_same_level(curve),
    }


pd.DataFrame({policy: row(curve) for policy, curve in curves.items()}).T

# %% [markdown]
# By the first three columns, random questions look as adaptive as chosen ones. The coefficient tells them apart.
