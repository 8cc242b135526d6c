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
# # A trial: what if who left the drug lost its effect?
#
# Depression scores of 200 patients at three visits; fewer is better. A third of them leave, above all those who
# improve less. *Missing at random* imputes the drug's full effect to who no longer takes it. Reference-based
# imputation asks what becomes of the result if they do as the control arm does, and a tipping point by how much
# worse they would have to do for the trial to have failed. The data are simulated.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display

from pyro_mnar import impute_trial, plots, sensitivity, tipping_point

smoke = "SMOKE" in os.environ  # a short run, to check that the notebook works
draws = 10 if smoke else 200
visits = ["week2", "week4", "week6"]

rng = np.random.default_rng(0)
n = 200
arm = np.where(np.arange(n) % 2, "drug", "placebo")
baseline = rng.normal(20, 4, n)
effect = np.outer(arm == "drug", [-1, -2, -4])  # of the drug, by visit
change = effect + np.array([-2, -4, -5]) - 0.3 * (baseline - 20)[:, None] + rng.normal(0, 3, (n, 3)).cumsum(1)
for visit in (1, 2):  # who improves less leaves more often
    leaves = rng.random(n) < np.where(change[:, visit - 1] > -2, 0.3, 0.1)
    change[np.isnan(change[:, visit - 1]) | leaves, visit] = np.nan
trial = pd.DataFrame({"arm": arm, "on_drug": arm == "drug", "baseline": baseline})
trial[visits] = change
trial.head()

# %% [markdown]
# ## Who left, and how they had done
#
# Mean change of those who come again, and of those who leave after a visit: the latter had improved less.

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained", sharey=True)
for ax, (name, patients) in zip(axes, trial.groupby("arm"), strict=True):
    for last in range(3):
        group = patients[patients[visits].notna().sum(axis=1) == last + 1]
        label = f"{len(group)} seen to week {visits[last][4:]}"
        ax.plot([2, 4, 6][: last + 1], group[visits[: last + 1]].mean(), marker="o", label=label)
    ax.set(title=f"{name}: who left early had improved less", xlabel="week", xticks=[2, 4, 6])
    ax.legend(frameon=False)
axes[0].set_ylabel("change from baseline (points)")
plt.show()

# %% [markdown]
# ## The analysis
#
# The drug's effect at week 6, adjusted for the baseline: least squares by hand, so that nothing is hidden. A
# formula would do as well, `"week6 ~ on_drug + baseline"`.


# %%
def effect_at_week_6(frame):
    """Estimate of the drug's effect, and its standard error."""
    x = np.stack([frame.on_drug, frame.baseline, np.ones(n)], axis=1).astype(float)
    coefficients = np.linalg.lstsq(x, frame.week6, rcond=None)[0]
    variance = ((frame.week6 - x @ coefficients) ** 2).sum() / (n - 3)
    error = np.sqrt(variance * np.linalg.inv(x.T @ x)[0, 0])
    return pd.Series({"effect": coefficients[0]}), pd.Series({"effect": error})


options = {"arm": "arm", "control": "placebo", "outcome": visits, "covariates": ["baseline"], "num_draws": draws}
references = {
    "missing at random": "MAR",
    "keeps what was gained": "copy increments",
    "never responded": "copy",
    "as placebo at once": "jump",
}
scenarios = {name: impute_trial(trial, reference=reference, **options) for name, reference in references.items()}
found = sensitivity(effect_at_week_6, scenarios, dfcom=n - 3)
display(found.to_frame().drop(columns=["delta", "coefficient"]).round(3))

# %% [markdown]
# The further down, the less is granted to who left. The estimate shrinks towards nothing, and the interval does not
# shrink with it.

# %%
ax = plots.forest(found)
ax.set(xlabel="effect of the drug at week 6, points (95% interval)", title="The effect under each assumption")
plt.show()

# %% [markdown]
# ## What a reference does to one patient
#
# Three patients on the drug who left after week 2, at the conditional means of each assumption.

# %%
left = trial[(trial.arm == "drug") & trial.week4.isna()].index[:3]
completed = {name: drawn.mean() for name, drawn in scenarios.items()}
fig, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained", sharey=True)
for ax, patient in zip(axes, left, strict=True):
    for name, frame in completed.items():
        ax.plot([2, 4, 6], frame.loc[patient, visits].astype(float), marker=".", label=name)
    ax.plot([2], [trial.loc[patient, "week2"]], "o", color="black", label="seen")
    ax.set(title=f"patient {patient} left after week 2", xlabel="week", xticks=[2, 4, 6])
axes[0].set_ylabel("change from baseline (points)")
axes[-1].legend(frameon=False, fontsize="small")
plt.show()

# %% [markdown]
# ## The tipping point
#
# From *as placebo at once*: how many points worse, on top, would those who left the drug have to be for the result
# to lose its significance, or from *missing at random*?

# %%
for name in ("missing at random", "as placebo at once"):
    tip = tipping_point(effect_at_week_6, scenarios[name], "drug", between=(0, 12), dfcom=n - 3)
    print(f"{name}: {tip}")
ax = tipping_point(effect_at_week_6, scenarios["missing at random"], "drug", between=(0, 12), dfcom=n - 3).plot()
ax.set(
    xlabel="points by which who left the drug is worse than imputed", ylabel="effect at week 6, points (95% interval)"
)
plt.show()

# %% [markdown]
# Is a delta of that size credible? That is for those who know the disease: the drug's whole effect at week 6 is
# four points. What `rbmi` gives for these assumptions is reproduced in the tests ([Trials](../docs/trials.md)).
