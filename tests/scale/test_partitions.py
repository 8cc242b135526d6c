"""Partitions are imputed as the whole is: the same law, the same numbers wherever they are computed."""

from __future__ import annotations

import os
import pickle
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from checks import z_limit
from pyro_mnar import Fit, Table, impute
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.infer.session import Session
from pyro_mnar.models import GINA

dask = pytest.importorskip("dask")
cloudpickle = pytest.importorskip("cloudpickle")
dd = pytest.importorskip("dask.dataframe")
distributed = pytest.importorskip("dask.distributed")
from pyro_mnar.scale import impute_partitions, mean_partitions  # noqa: E402
from pyro_mnar.scale.partitions import _Carried  # noqa: E402

NUM_ROWS = 240
OPTIONS = {"num_particles": 30, "seed": 3}


def survey(num_rows: int = NUM_ROWS) -> pd.DataFrame:
    random = np.random.default_rng(0)
    x = random.normal(size=(num_rows, 1)) @ np.ones((1, 3)) + random.normal(size=(num_rows, 3))
    frame = pd.DataFrame(x, columns=["a", "b", "u"])
    frame["count"] = pd.array(random.poisson(20, num_rows), dtype="Int64")
    frame["word"] = random.choice(["ash", "elm", "oak"], num_rows)
    for name, step in (("a", 2), ("b", 3), ("count", 5), ("word", 7)):
        frame.loc[::step, name] = pd.NA
    return frame


@pytest.fixture(scope="module")
def fitted() -> Fit:
    table = Table.from_frame(survey(), auxiliary=["u"], kinds={"count": "count"}, dtype=torch.float64)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    model = GINA(table, seed=0)
    guide = ZeroImpute(table, model.latent_dim, hidden=[8], seed=1)
    torch.set_default_dtype(before)
    return Fit(model, guide, table.schema)


@pytest.fixture
def frame():
    with dask.config.set(scheduler="synchronous"):
        yield dd.from_pandas(survey(), npartitions=4)


def test_completed_tables_keep_what_was_observed_and_their_dtypes(fitted, frame):
    lazy = impute_partitions(fitted, frame, num_draws=3, **OPTIONS)
    completed = lazy.compute()
    assert completed["draw"].value_counts().to_dict() == dict.fromkeys(range(3), NUM_ROWS)
    original = frame.compute()
    observed = original.notna()
    for _, draw in completed.groupby("draw"):
        draw = draw.drop(columns="draw").loc[original.index]
        assert draw.notna().all(axis=None)
        pd.testing.assert_frame_equal(draw.where(observed), original.where(observed))
    assert completed.dtypes.to_dict() == lazy.dtypes.to_dict() == {"draw": np.dtype("int64"), **frame.dtypes.to_dict()}


@pytest.mark.slow
def test_means_have_the_same_dtypes_in_every_partition(fitted, frame):
    lazy = mean_partitions(fitted, frame, **OPTIONS)
    for part in lazy.partitions:
        assert part.compute().dtypes.to_dict() == lazy.dtypes.to_dict()
    assert lazy.dtypes["count"] == "Float64"
    assert lazy.compute().notna().all(axis=None)


@pytest.mark.slow
def test_numbers_depend_on_seed_and_partition_alone(fitted, frame):
    whole = impute_partitions(fitted, frame, **OPTIONS)
    first = whole.compute()
    pd.testing.assert_frame_equal(first, impute_partitions(fitted, frame, **OPTIONS).compute())
    pd.testing.assert_frame_equal(first.loc[whole.divisions[2] : whole.divisions[3] - 1], whole.partitions[2].compute())
    other = impute_partitions(fitted, frame, **{**OPTIONS, "seed": 4}).compute()
    gaps = survey()["a"].isna()
    assert (other["a"] != first["a"])[gaps].all()
    # A partition's numbers are those of `impute` with a seed of its own, and two partitions differ.
    again = pd.concat([survey()[:60]] * 2, ignore_index=True)
    twice = impute_partitions(fitted, dd.from_pandas(again, npartitions=2), **OPTIONS).compute()
    assert (twice["a"].to_numpy()[:60] != twice["a"].to_numpy()[60:])[gaps[:60]].all()


@pytest.mark.slow
def test_other_partitions_agree_within_monte_carlo_error(fitted, frame):
    names, draws = ["a", "b"], 100
    gaps = survey()[names].isna().to_numpy()
    options = {"num_draws": draws, "num_particles": 20}
    means, errors = [], []
    for parts, seed in ((1, 0), (5, 1)):
        completed = impute_partitions(fitted, frame.repartition(npartitions=parts), seed=seed, **options).compute()
        values = completed[names].to_numpy().reshape(-1, NUM_ROWS, 2) if parts == 1 else _by_draw(completed, names)
        means.append(values.mean(0)[gaps])
        errors.append(values.std(0)[gaps] / draws**0.5)
    distance = np.abs(means[0] - means[1]) / np.hypot(*errors)
    assert distance.max() < z_limit(len(distance))


def _by_draw(completed: pd.DataFrame, names: list[str]) -> np.ndarray:
    return np.stack([part[names].sort_index().to_numpy() for _, part in completed.groupby("draw")])


def test_a_worker_passes_a_fit_on_while_it_imputes(fitted):
    """Without waiting, since it has to answer meanwhile; one that failed to left the cluster waiting forever."""
    rows = survey()[:40]
    expected = impute(fitted, rows, num_draws=1, seed=0).draws
    carried = pickle.loads(pickle.dumps(_Carried(fitted)))
    with ThreadPoolExecutor(1) as pool, Session(0).running():  # as if it imputed
        content = pool.submit(pickle.dumps, carried).result(60)
    again = pickle.loads(content).fit
    np.testing.assert_array_equal(impute(again, rows, num_draws=1, seed=0).draws, expected)


def test_neither_restarts_nor_the_trained_rows_travel(fitted, frame):
    table = Table.from_frame(survey(2000), schema=fitted.schema, dtype=torch.float64)
    weighty = replace(fitted, table=table, members=[fitted])
    sizes = [len(cloudpickle.dumps(dict(impute_partitions(one, frame).__dask_graph__()))) for one in (fitted, weighty)]
    assert sizes[0] == sizes[1]


@pytest.mark.slow
def test_a_cluster_of_two_workers_writes_what_one_process_computes(fitted, tmp_path):
    """Parquet in, Parquet out; the fit travels to the workers by pickle.  Then once more, and one worker is killed."""
    survey().to_parquet(tmp_path / "in.parquet", row_group_size=40)
    read = dd.read_parquet(tmp_path / "in.parquet", split_row_groups=True)
    assert read.npartitions == 6
    with dask.config.set(scheduler="synchronous"):
        expected = impute_partitions(fitted, read, num_draws=2, **OPTIONS).compute()
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50, env={"OMP_NUM_THREADS": "1"}
    )
    with cluster, distributed.Client(cluster) as client:
        assert len(client.scheduler_info()["workers"]) == 2
        lazy = impute_partitions(fitted, read, num_draws=2, **OPTIONS)
        lazy.to_parquet(tmp_path / "out")
        victim, other = client.run(os.getpid).values()
        parts = client.compute(lazy.to_delayed())
        for done, _ in enumerate(distributed.as_completed(parts), 1):
            if done == 3:  # of six; what the victim had done or begun is done again
                os.kill(victim, signal.SIGKILL)
                break
        undisturbed = pd.concat(client.gather(parts))
        alive = client.run(os.getpid).values()
    assert other in alive and victim not in alive
    pd.testing.assert_frame_equal(undisturbed.reset_index(drop=True), expected.reset_index(drop=True), check_exact=True)
    written = dd.read_parquet(tmp_path / "out").compute(scheduler="synchronous")
    pd.testing.assert_frame_equal(written.reset_index(drop=True), expected.reset_index(drop=True))


def test_what_cannot_be_is_refused_by_name(fitted, frame):
    with pytest.raises(TypeError, match="expected a Dask DataFrame, got DataFrame"):
        impute_partitions(fitted, survey())
    with pytest.raises(ValueError, match="column 'draw': expected another name"):
        impute_partitions(fitted, frame.rename(columns={"a": "draw"}))
    with pytest.raises(ValueError, match="seed: expected a whole number from 0, got -1"):
        mean_partitions(fitted, frame, seed=-1)
    with pytest.raises(ValueError, match="column 'a': expected as in the training table"):
        impute_partitions(fitted, frame.drop(columns="a")).compute()


def test_an_empty_partition_stays_empty(fitted, frame):
    some = frame[frame["u"] > frame["u"].max().compute() - 1e-9]
    completed = impute_partitions(fitted, some, **OPTIONS).compute()
    assert len(completed) == 1
    assert completed.notna().all(axis=None)


def test_one_partition_is_imputed_as_impute_does(fitted, frame):
    completed = impute_partitions(fitted, frame.repartition(npartitions=1), **OPTIONS).compute().drop(columns="draw")
    seed = int(np.random.SeedSequence([OPTIONS["seed"], 0]).generate_state(1)[0])
    (expected,) = impute(fitted, frame.compute(), num_draws=1, num_particles=30, seed=seed).frames()
    pd.testing.assert_frame_equal(completed, expected)
