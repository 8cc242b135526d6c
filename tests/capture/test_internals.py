"""What a version of torch lacks inside is a reason not to capture, and nothing else fails for it."""

from __future__ import annotations

import contextvars
import gc
import importlib
import linecache
import logging
import re
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.fx import graph_module

import pyro_mnar
from checks import table_with_gaps
from pyro_mnar import fit, impute
from pyro_mnar.capture.inductor import compiled
from pyro_mnar.capture.internals import CannotCapture, internal, loops_unsaid
from pyro_mnar.capture.tracing import traced
from pyro_mnar.guides import ZeroImpute
from pyro_mnar.models import NotMIWAE

PRIVATE = re.compile(r"\btorch(\.\w+)*\._[a-z]|\btorch\.fx\.experimental")
HIDDEN = {
    "torch.utils._python_dispatch": "TorchDispatchMode",
    "torch.fx.experimental.proxy_tensor": "make_fx",
    "torch._functorch.compile_utils": "fx_graph_cse",
    "torch._inductor.compile_fx": "compile_fx_inner",
}


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(CannotCapture, match=r"torch 2\.\d+.* has no torch\._functorch\.compile_utils\.no_such_name"):
        internal("torch._functorch.compile_utils", "no_such_name")
    with pytest.raises(CannotCapture, match=r"has no torch\._no_such_module\.name"):
        internal("torch._no_such_module", "name")


def test_no_other_room_touches_private_parts_of_torch() -> None:
    package = Path(pyro_mnar.__file__).parent
    places = [package, package.parent / "models", package.parent / "guides"]
    sources = {file for place in places for file in place.rglob("*.py")} - set((package / "capture").iterdir())
    assert len(sources) > 80
    assert not [file.name for file in sources if PRIVATE.search(file.read_text())]


def test_no_text_of_graphs_is_kept_after_a_capture() -> None:
    """torch and linecache would keep it as long as the process lives."""
    batch = table_with_gaps(6, 2).batch()
    before = set(graph_module._loader.eval_cache), set(linecache.cache)
    captured = traced(lambda given: (given.x.exp().sum(),), batch)
    assert captured.graph.code
    assert set(graph_module._loader.eval_cache) <= before[0]
    assert not {name for name in set(linecache.cache) - before[1] if "eval_with_key" in name}


@pytest.mark.slow
def test_nothing_is_kept_of_compiling_but_the_code() -> None:
    """Inductor would keep the module, and a variable of the context for each of a hundred changes of settings."""
    inputs = [torch.arange(3.0)]
    compiled(lambda x: (x.exp(),), inputs)  # torch takes once what it takes once
    from torch._inductor.codecache import PyCodeCache

    before = len(PyCodeCache.modules), list(contextvars.copy_context())
    code = compiled(lambda x: (2.0 * x.sin(),), inputs)
    assert (len(PyCodeCache.modules), list(contextvars.copy_context())) == before
    gc.collect()
    torch.testing.assert_close(code(list(inputs))[0], 2.0 * inputs[0].sin())


def test_operators_without_a_rule_for_batches_are_not_told_of_but_by_torch_itself(
    capfd: pytest.CaptureFixture[str],
) -> None:
    loop = torch.func.vmap(torch.special.log_ndtr)
    with loops_unsaid():
        torch.testing.assert_close(loop(torch.zeros(2)).exp(), torch.full((2,), 0.5))
    assert capfd.readouterr() == ("", "")
    with pytest.warns(UserWarning, match="batching rule for aten::special_log_ndtr"):
        loop(torch.zeros(2))


@pytest.mark.slow
@pytest.mark.parametrize("module", HIDDEN)
def test_without_them_the_package_trains_and_imputes_and_the_log_says_why(
    module: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for used in ("torch._dynamo", *HIDDEN):  # by torch itself; they are hidden from the package alone
            importlib.import_module(used)
    without = types.ModuleType(module)
    vars(without).update(vars(importlib.import_module(module)))
    delattr(without, HIDDEN[module])
    monkeypatch.setitem(sys.modules, module, without)
    table = table_with_gaps(20, 2)
    with caplog.at_level(logging.INFO, logger="pyro_mnar"):
        for mode in ("eager", "inductor"):
            model, guide = NotMIWAE(table, latent_dim=1, seed=0), ZeroImpute(table, 1, hidden=[2], seed=0)
            fitted = fit(model, guide, table, epochs=2, restarts=2, held_out=0.2, compile=mode, progress=False)
            assert np.isfinite(fitted.history["bound"]).all()
            assert len(fitted.members) == 2
            assert not np.isnan(impute(fitted, table, num_draws=2, compile=mode).draws).any()
    for what in ("training steps", "imputation"):
        lines = [line for line in caplog.messages if line.startswith(what)]
        assert any(line.endswith(f"has no {module}.{HIDDEN[module]})") for line in lines), caplog.text
