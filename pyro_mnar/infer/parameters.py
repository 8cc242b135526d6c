"""Whose parameters? Modules own theirs; Pyro's global store only mirrors them.

A PyroModule mirrors its parameters in the store under their dotted names, so a second module of the same class finds
the first one's tensors there, and ``SVI`` would train those: the second module then never moves.  Library code
therefore runs models only inside a :class:`~pyro_mnar.infer.session.Session`, and the objective refuses a store that
holds somebody else's tensors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import pyro
import torch
from pyro.nn import PyroModule
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

IN_NETWORK = "$$$"  # in the name of a parameter that ``pyro.module`` puts into the store
_CURE = (
    "train each model in a parameter store of its own, `with pyro.get_param_store().scope():`, or call"
    " `pyro.clear_param_store()` before it"
)


def check_parameters(model: Any, guide: Any) -> None:
    """Refuse a parameter store in which a module's name stands for another tensor.

    Raises:
        ValueError: Names the parameter and the cure.
    """
    own, of_guide = mirrored_parameters(model), mirrored_parameters(guide)
    for name in own:
        if own[name] is not of_guide.get(name, own[name]):
            raise ValueError(
                f"parameter {name!r} is in the model and, another one, in the guide: rename that attribute in one"
            )
    own.update(of_guide)
    for stored_name, stored in pyro.get_param_store()._params.items():
        tensor = own.get(stored_name.replace(IN_NETWORK, "."))
        if tensor is not None and tensor is not stored:
            raise ValueError(f"parameter {stored_name!r}: Pyro's store holds the tensor of another module; {_CURE}")


def mirrored_parameters(module: Any) -> dict[str, Tensor]:
    """A PyroModule's parameters under the names by which the store mirrors them, with dots throughout."""
    if not isinstance(module, PyroModule):
        return {}
    prefix = f"{module._pyro_name}." if module._pyro_name else ""
    return {prefix + name.removesuffix("_unconstrained"): value for name, value in module.named_parameters()}


def unmirrored(store: dict[str, Any], *owners: Any) -> dict[str, Tensor]:
    """What a parameter store holds of its own: all but what it mirrors of PyroModules."""
    mirrored = {name for module in owners for name in mirrored_parameters(module)}
    return {name: value for name, value in store["params"].items() if name.replace(IN_NETWORK, ".") not in mirrored}


class NetworksAsStored(Messenger):
    """Refuses a network under ``pyro.module`` whose parameters are other than those of its name in the store.

    Pyro runs the network that the function has, and leaves the stored ones aside: so it is where a fit comes from a
    file, or from another process, and its function uses a network of its own module, which stays behind there.

    Args:
        owners: A model and its guide; the networks of those that are modules come along with them.
    """

    def __init__(self, *owners: Any) -> None:
        super().__init__()
        self.own = {id(parameter) for parameter in module_parameters(*owners)}

    def _pyro_post_param(self, msg: Any) -> None:
        if IN_NETWORK not in msg["name"] or len(msg["args"]) < 2:
            return
        given, stored = msg["args"][1], msg["value"]
        if stored is not given and id(given) not in self.own and not torch.equal(stored.to(given.device), given):
            raise ValueError(
                f"parameter {msg['name']!r}: the network of the model's (or guide's) function is not the trained one,"
                " which was left behind where it was trained: make the function a torch Module that has the network as"
                " an attribute, or put the trained numbers into the network before"
            )


def trainable_parameters(*modules: Any) -> list[nn.Parameter | Tensor]:
    """Every tensor to train, once: the modules' parameters, and what ``pyro.param`` put into the store."""
    stored = list(pyro.get_param_store()._params.values())
    unique = {id(value): value for value in [*module_parameters(*modules), *stored] if value.requires_grad}
    return list(unique.values())


@contextlib.contextmanager
def buffers_kept(*modules: Any) -> Iterator[None]:
    """Put back what running modules changes of their buffers, such as running means."""
    buffers = [buffer for module in modules if isinstance(module, nn.Module) for buffer in module.buffers()]
    kept = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)


@contextlib.contextmanager
def perturbed(parameters: Iterable[Tensor], scale: float) -> Iterator[None]:
    """Add normal noise of a standard deviation to parameters, and put back what they held.

    Their memory is exchanged and not written to, so that a graph that holds them stays valid.
    """
    kept = [(parameter, parameter.data) for parameter in parameters]
    try:
        for parameter, value in kept:
            parameter.data = value + scale * torch.randn_like(value)
        yield
    finally:
        for parameter, value in kept:
            parameter.data = value


def module_parameters(*modules: Any) -> list[nn.Parameter]:
    """Parameters of those that are modules at all; a model may be a plain function."""
    return [value for module in modules if isinstance(module, nn.Module) for value in module.parameters()]
