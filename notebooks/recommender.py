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
# # A recommender, from a notebook to a cluster
#
# People rate the films they like. Of twenty films, two thousand users rated a third, and the average of what was rated
# is far above what everybody would have said: ratings are **missing not at random**. First the whole way in memory;
# then the same model on the same rows in Parquet files, trained by Lightning and completed by Dask, which is what
# changes when the table outgrows the machine.

# %%
import logging
import os
import tempfile
import warnings
from functools import partial
from pathlib import Path

import dask
import dask.dataframe as dd
import lightning
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from pyro_mnar import ImportanceWeightedELBO, Table, fit, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.mechanisms import SelfMasking
from pyro_mnar.models import GINA, PartialVAE
from pyro_mnar.scale import MNARModule, ParquetRows, mean_partitions, parquet_schema

smoke = "SMOKE" in os.environ  # a short run, to check that the notebook works
rng = np.random.default_rng(5)
users, films = 400 if smoke else 2000, [f"film {i + 1:02d}" for i in range(20)]
age = rng.uniform(18, 70, users)
taste = np.column_stack([(age - 44) / 15, rng.normal(size=users)])
opinion = rng.normal(3, 0.5, 20) + taste @ rng.normal(0, 0.5, (2, 20)) + rng.normal(0, 0.5, (users, 20))
truth = pd.DataFrame(opinion.clip(0.5, 5.5), columns=films)  # stars, as on a slider
rated = rng.random(truth.shape) < 1 / (1 + np.exp(1.2 + 2.5 * (3.2 - truth)))
ratings = truth.where(rated).stack().dropna().rename_axis(["user", "film"]).rename("stars").reset_index()
print(f"{len(ratings):,} ratings, {rated.to_numpy().mean():.0%} of all")
print(f"average {ratings.stars.mean():.2f} stars, of all opinions {truth.to_numpy().mean():.2f}")

# %% [markdown]
# ## In memory
#
# A list of ratings, one line each, is a table. `SelfMasking` says that a film is rated because of the rating it gets,
# and `sign=1` that it is the likelier the better: who knows the side should say it, since without it one film of
# twenty ends on the wrong one. The model that ignores all this stands beside it.

# %%
people = pd.DataFrame({"age": age})
liked = partial(SelfMasking, sign=1)
table = Table.from_long(ratings, row="user", column="film", value="stars", auxiliary=people, columns=films)
options = {"epochs": 2 if smoke else 60, "num_particles": 10, "seed": 0, "progress": False}
fits = {}
for name, model in {
    "rated because liked": GINA(table, latent_dim=3, mechanism=liked, seed=0),
    "ignored": PartialVAE(table, latent_dim=3, seed=0),
}.items():
    fits[name] = fit(model, ZeroImpute(table, 3, seed=0), table, **options)

# %% [markdown]
# Average of every film, over all users:

# %%
means = {name: impute(one, table, num_draws=1, seed=0).mean()[films].mean() for name, one in fits.items()}
means["those who rated"] = table.frame[films].mean()
fig, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained", sharex=True, sharey=True)
axes[0].set_ylabel("average found, stars")
for ax, (name, found) in zip(axes, means.items(), strict=True):
    ax.axline((3, 3), slope=1, color="0.6", lw=1)
    ax.scatter(truth.mean(), found, s=16)
    ax.set(title=f"{name}: off by {abs(found - truth.mean()).mean():.2f}", xlabel="true average, stars")

# %% [markdown]
# ## What would they say of a film that we choose?
#
# Whoever is asked at random has withheld nothing, so predictions leave the mechanism out: `use_mechanism=False`. The
# error over all unrated pairs of a user and a film, in stars:

# %%
unrated = ~table.frame[films].notna().to_numpy()
errors = {}
for name, one in fits.items():
    predicted = impute(one, table, num_draws=1, use_mechanism=False, seed=0).mean()[films].to_numpy()
    errors[name] = np.sqrt(np.mean((predicted - truth.to_numpy())[unrated] ** 2))
errors["a film's average rating"] = np.sqrt(np.mean((means["those who rated"] - truth).to_numpy()[unrated] ** 2))
pd.Series(errors, name="root mean squared error").round(3)

# %% [markdown]
# ## On files
#
# Now the rows stand in Parquet files, four row groups here. The schema comes from two passes over them, minibatches
# from a few row groups at a time. On a cluster the line to change is `Trainer(accelerator="gpu", devices=4,
# num_nodes=2, strategy="ddp")`.

# %%
folder = Path(tempfile.mkdtemp())
table.frame.reset_index(drop=True).to_parquet(folder / "rows.parquet", row_group_size=users // 4)
schema = parquet_schema(folder / "rows.parquet", auxiliary=["age"])
minibatches = ParquetRows(folder / "rows.parquet", schema, batch_size=128, buffer_rows=users)
model = GINA(schema, latent_dim=3, mechanism=liked, seed=0)
module = MNARModule(model, ZeroImpute(schema, 3, seed=0), schema, ImportanceWeightedELBO(num_particles=10), seed=0)
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
trainer = lightning.Trainer(max_epochs=1 if smoke else 60, accelerator="cpu", **quiet)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Lightning's advice on validation and loaders
    trainer.fit(module, minibatches.loader())

# %% [markdown]
# Dask completes partition by partition, on one process here and on many after `Client("tcp://scheduler:8786")`; the
# numbers are the same.

# %%
rows = dd.read_parquet(folder / "rows.parquet", split_row_groups=True)
with dask.config.set(scheduler="synchronous"):
    from_files = mean_partitions(module.fit(), rows, seed=0).compute()[films].mean()
pd.DataFrame({"truth": truth.mean(), "in memory": means["rated because liked"], "from files": from_files}).round(
    2
).head()
