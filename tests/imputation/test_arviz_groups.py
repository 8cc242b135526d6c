"""The object that holds draws is the one that each ArviZ works with: 1.x where an interpreter of Python 3.12 has it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pyro_mnar.imputation import arviz_groups

SCRIPT = """
import importlib.util, sys
import arviz, numpy as np, xarray

spec = importlib.util.spec_from_file_location("arviz_groups", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
draws = np.random.default_rng(0).normal(size=(1, 50, 2))
cells = {"chain": [0], "draw": np.arange(50), "cell": ["1, a", "2, b"], "row": ("cell", ["1", "2"])}
missing = xarray.DataArray(draws, dims=("chain", "draw", "cell"), coords=cells)
data = module.from_groups({"posterior": {"x_missing": missing}, "constant_data": {}})
data.to_netcdf(sys.argv[2])
loaded = arviz.from_netcdf(sys.argv[2])
np.testing.assert_array_equal(loaded["posterior"]["x_missing"], draws)
assert loaded["posterior"]["row"].values.tolist() == ["1", "2"]
means = arviz.summary(loaded, kind="stats", round_to="none")["mean"].to_numpy(dtype=float)
np.testing.assert_allclose(means, draws[0].mean(0))
print(arviz.__version__, type(data).__name__)
"""


def interpreter_with_arviz_1() -> str | None:
    python = shutil.which("python3.12")
    if python is None:
        return None
    asked = [python, "-c", "import arviz; print(arviz.__version__)"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    return python if found.stdout.startswith("1.") else None


def test_arviz_1_takes_saves_and_loads_the_groups(tmp_path: Path) -> None:
    python = interpreter_with_arviz_1()
    if python is None:
        pytest.skip("no python3.12 with ArviZ 1.x on the path")
    command = [python, "-W", "ignore", "-c", SCRIPT, str(arviz_groups.__file__), str(tmp_path / "draws.nc")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[0].startswith("1.") and run.stdout.split()[1] == "DataTree"
