"""Rules for every test: float64, a fixed seed, and no test leaves global state changed.

``THOROUGH=1``, as `make test` sets it, has beartype check the annotations of the package while quick tests run, and
Hypothesis try four times as many examples.  That takes its time, so `make quick` does without.  Slow tests are never
checked so: they go the same ways thousands of times.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping

import typechecking

THOROUGH = bool(os.environ.get("THOROUGH"))
if THOROUGH:
    jaxtyping.install_import_hook("pyro_mnar", "typechecking.checked")  # before the package's first import

import beartype.roar  # noqa: E402
import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pyro  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from pyro.poutine import runtime  # noqa: E402

# Pyro's own classes use typing.Callable.
PYRO_HINTS = "ignore::beartype.roar.BeartypeDecorHintPep585DeprecationWarning"

with warnings.catch_warnings():
    warnings.simplefilter("ignore", beartype.roar.BeartypeDecorHintPep585DeprecationWarning)
    from pyro_mnar import *  # noqa: F403  (each name loads its room: now, so that no test is the one that pays for it)
    from pyro_mnar.infer.session import random_numbers_kept
gc.collect()
gc.freeze()  # what was imported stays: the collector need not look at it again, half a million objects each time

SEED = 20210
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
collect_ignore = ["fuzz/covered.py"]  # it needs atheris, and doctests are looked for in every file
QUICK_SECONDS = 5  # on an idle machine; what takes longer is listed after a run

# A pause of a busy machine is no failure.
hypothesis.settings.register_profile("chosen", deadline=None, max_examples=100 if THOROUGH else 25)
hypothesis.settings.load_profile("chosen")


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors; this one is another library's, and comes up at a module's first import."""
    config.addinivalue_line("filterwarnings", PYRO_HINTS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first in each worker's half, so that small ones are left to even out the end."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    slow = [file for file in files if any(item.get_closest_marker("slow") for item in files[file])]
    quick = [file for file in files if file not in slow]
    order = [*slow[::2], *quick[::2], *slow[1::2], *quick[1::2]]
    items[:] = [item for file in order for item in files[file]]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List the quick tests that are not quick, so that `make quick` stays what it says."""
    seconds: dict[str, float] = {}
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        if isinstance(report, pytest.TestReport) and "slow" not in report.keywords:
            seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + report.duration
    slow = sorted(((taken, test) for test, taken in seconds.items() if taken > QUICK_SECONDS), reverse=True)
    if slow:
        terminalreporter.section(f"quick tests of more than {QUICK_SECONDS} s: shrink them, or mark them slow")
        for taken, test in slow:
            terminalreporter.write_line(f"{taken:6.1f} s  {test}")


@pytest.fixture(autouse=True)
def no_checks_in_slow_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Of shapes and types, which cost the most where a fit takes thousands of steps."""
    typechecking.start(checks=request.node.get_closest_marker("slow") is None)
    yield
    typechecking.start(checks=True)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Imports a module of the benchmarks."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def no_type_checker(no_checks_in_slow_tests: None) -> None:
    """As users have it: no type checker stands before the message."""
    typechecking.start(checks=False)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    """Bounds and gradients are compared to 1e-10, which float32 cannot resolve."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    """Tests draw from torch's global generator, from one seed; it is put back afterwards."""
    with random_numbers_kept():
        torch.manual_seed(SEED)
        yield


@pytest.fixture(autouse=True)
def global_state_kept(float64: None, fixed_seed: None) -> Iterator[None]:
    """Fail a test that leaves Pyro's or torch's global state changed, and mend it for the next one."""
    before = _global_state()
    yield
    after = _global_state()
    changed = [name for name in before if before[name] != after[name]]
    if changed:
        pyro.clear_param_store()
        runtime._PYRO_STACK.clear()
        pyro.settings.set(**{name: value for name, value in before.items() if name in pyro.settings.get()})
        torch.set_default_dtype(before["default dtype"])
        torch.set_grad_enabled(before["gradients"])
        torch.set_num_threads(before["threads"])
        pytest.fail("global state changed: " + ", ".join(f"{n}: {before[n]!r} -> {after[n]!r}" for n in changed))


@pytest.fixture(autouse=True)
def no_figure_left() -> Iterator[None]:
    """Pyplot keeps figures, and warns of many."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def own_store() -> Iterator[None]:
    """A parameter store for tests that run Pyro by hand: PyroModules mirror theirs in the global one."""
    with pyro.get_param_store().scope():
        yield


@pytest.fixture
def generators_untouched(fixed_seed: None) -> Iterator[None]:
    """Fail a test during which torch's or NumPy's global generator moves (beartype itself draws from Python's)."""
    before = _generator_states()
    yield
    after = _generator_states()
    moved = [name for name in before if before[name] != after[name]]
    assert not moved, f"global generators moved: {', '.join(moved)}"


def _global_state() -> dict[str, Any]:
    return {
        **pyro.settings.get(),  # validation of distributions, inference and poutine among them
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),  # too many made tests that followed five times as long
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "validation in torch": torch.distributions.Distribution._validate_args,
        "parameter store": sorted(pyro.get_param_store().keys()),
        "handler stack": list(runtime._PYRO_STACK),
    }


def _generator_states() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002  (the global one is the point)
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": (name, keys.tolist(), *rest),
    }
