"""Adam around a captured gradient, as a call from one step's inputs to its loss: interpreted, or compiled by inductor.

    m ← β₁m + (1 - β₁)g,   v ← β₂v + (1 - β₂)g²,   θ ← θ - a_t·m / (√v·b_t + ε)

with a_t the learning rate over 1 - β₁ᵗ and b_t = (1 - β₂ᵗ)^-½, which enter as inputs.  θ, m and v are one flat tensor
each, changed in place; θ stays as it is where the loss is not finite.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_mnar.captured import Captured
from pyro_mnar.noise import CannotCapture

BETAS, EPSILON = (0.9, 0.999), 1e-8  # torch's defaults
Step = Callable[[list[Tensor]], Tensor]  # inputs: State, Adam's pair, normal, uniform, rows, constants; output: loss


class State(NamedTuple):
    """What Adam keeps, all parameters in one row: θ and the first and second moments of its gradient."""

    parameters: Float[Tensor, "*members parameters"]
    first: Float[Tensor, "*members parameters"]
    second: Float[Tensor, "*members parameters"]


def bias_corrected(rates: Float[Tensor, " steps"], done: int = 0) -> Float[Tensor, "steps 2"]:
    """Adam's pair (a_t, b_t) for steps at the given learning rates, after so many steps done."""
    t = torch.arange(done + 1, done + 1 + len(rates), dtype=torch.float64)
    return torch.stack([rates.double() / (1 - BETAS[0] ** t), (1 - BETAS[1] ** t).rsqrt()], dim=1)


def interpreted(captured: Captured) -> Step:
    """The graph as it was captured, one operation of torch after another."""

    def step(inputs: list[Tensor]) -> Tensor:
        with torch.no_grad():
            return _adam_step(captured, *inputs)

    return step


def compiled(captured: Captured, inputs: list[Tensor]) -> Step:
    """The step as machine code, made by inductor for inputs of these shapes.

    Raises:
        CannotCapture: If there is no compiler, or it fails; says why.
    """
    if inputs[0].device.type != "cpu":
        return _compiled_for_gpu(captured)
    if (reason := no_compiler()) is not None:
        raise CannotCapture(reason)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, about its own parts
            return _compiled_for_cpu(captured, inputs)
    except Exception as error:  # inductor's inside has many ways to fail, none of which need stop the training
        raise CannotCapture(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}") from error


def no_compiler() -> str | None:
    """Why inductor could not compile for the CPU, if no C++ compiler is in sight; looks, but runs nothing."""
    wanted = os.environ.get("CXX")
    names = [wanted] if wanted else ["g++", "clang++"]
    return None if any(shutil.which(name) for name in names) else f"no C++ compiler: looked for {' and '.join(names)}"


def _compiled_for_cpu(captured: Captured, inputs: list[Tensor]) -> Step:
    import torch._inductor.config as config
    from torch._guards import TracingContext, tracing
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._inductor.decomposition import select_decomp_table
    from torch._subclasses import FakeTensorMode
    from torch.fx.passes.fake_tensor_prop import FakeTensorProp

    def step(*inputs: Tensor) -> tuple[Tensor]:
        return (_adam_step(captured, *inputs),)

    with torch.no_grad():
        kept = [tensor.clone() for tensor in inputs]
        graph = make_fx(torch.func.functionalize(step), decomposition_table=select_decomp_table())(*kept)
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        examples = [fake.from_tensor(tensor) for tensor in inputs]
        with tracing(TracingContext(fake)), config.patch(size_asserts=False):
            FakeTensorProp(graph, fake).propagate_dont_convert_inputs(*examples)
            # Called without its wrapper, which checks on every call what here never changes.
            code: Any = compile_fx_inner(graph, examples)
            call = code.current_callable

    def run(inputs: list[Tensor]) -> Tensor:
        return call(inputs)[0]

    return run


def _compiled_for_gpu(captured: Captured) -> Step:
    """By torch.compile with CUDA graphs, which launch all kernels at once."""

    def step(*inputs: Tensor) -> Tensor:
        return _adam_step(captured, *inputs)

    code = torch.compile(step, fullgraph=True, dynamic=False, mode="reduce-overhead")

    def run(inputs: list[Tensor]) -> Tensor:
        with torch.no_grad():
            return code(*inputs).clone()  # the next replay overwrites its outputs

    return run


def _adam_step(
    captured: Captured, theta: Tensor, first: Tensor, second: Tensor, pair: Tensor, *inputs: Tensor
) -> Float[Tensor, "*members"]:
    loss, gradient = captured.graph(theta, *inputs)
    first.lerp_(gradient, 1 - BETAS[0])
    second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
    change = pair[0] * first / (second.sqrt() * pair[1] + EPSILON)
    theta.sub_(torch.where(loss.isfinite().unsqueeze(-1), change, 0.0))
    return loss
