"""Copies of what was trained: a model, its guide, and the parameters that they keep in Pyro's store."""

from __future__ import annotations

import copy
import weakref
from typing import Any

import torch
from pyro.infer.autoguide import AutoGuide
from torch import nn

from pyro_mnar.infer.parameters import unmirrored
from pyro_mnar.infer.session import locked


def copied_modules(model: Any, guide: Any) -> tuple[Any, Any]:
    """The pair copied while no thread runs it, modules that both hold still shared."""
    memo: dict[int, Any] = {}
    with locked():
        held = [(one, one._model, one.master) for one in _automatic(guide)]
        copied = copy.deepcopy((model, guide), memo)
        # Pyro's guides lose their model, and lists of guides their parts, when they are copied, the original as well.
        for (one, of, master), its_copy in zip(held, _automatic(copied[1]), strict=True):
            one._model, one.master = of, master
            its_copy._model = copy.deepcopy(of, memo)
            its_copy.master = None if master is None else weakref.ref(memo[id(master())])
    return copied


def copied_store(store: dict[str, Any], *owners: Any, device: torch.device | str | None = None) -> dict[str, Any]:
    """A parameter store without what it only mirrors; its tensors are new leaves, by default where they were."""
    with locked():
        own = unmirrored(store, *owners)
        return {
            "params": {
                n: v if isinstance(v, nn.Parameter) else v.detach().to(device, copy=True).requires_grad_()
                for n, v in own.items()
            },
            "constraints": {name: store["constraints"][name] for name in own},
        }


def _automatic(guide: Any) -> list[AutoGuide]:
    """Pyro's own guides, where a guide is one or holds some."""
    return [one for one in guide.modules() if isinstance(one, AutoGuide)] if isinstance(guide, nn.Module) else []
