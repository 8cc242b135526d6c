"""A graph of tensor operations as machine code, made by inductor."""

from __future__ import annotations

import contextlib
import contextvars
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from pyro_mnar.capture.internals import CannotCapture, internal, modules_forgotten, sources_forgotten
from pyro_mnar.capture.tracing import in_one_line, operations
from pyro_mnar.capture.two_forms import compiled_forms

RECURSION = 2000  # inductor's own choice
OfTensors = Callable[..., tuple[Tensor, ...]]
Code = Callable[[list[Tensor]], Sequence[Tensor]]


def compiled(function: OfTensors, inputs: Sequence[Tensor], **options: Any) -> Code:
    """A function of tensors as machine code for inputs of these shapes.

    Args:
        function: Made of tensor operations only; may change its inputs in place.
        inputs: An example, which stays as it is.
        options: Inductor's own.

    Returns:
        The code; it may empty the list of inputs that it is given.

    Raises:
        CannotCapture: If there is no compiler, or it fails; says why.
    """
    if inputs[-1].device.type == "cpu" and (reason := no_compiler()) is not None:
        raise CannotCapture(reason)
    try:
        with warnings.catch_warnings(), _deep_recursion(), sources_forgotten(), modules_forgotten():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, about its own parts
            warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)  # advice that costs digits
            # In a context of its own: every change of a setting leaves a variable in the caller's, for ever.
            return contextvars.copy_context().run(_compiled, function, inputs, options)
    except CannotCapture:
        raise
    except Exception as error:  # inductor's inside has many ways to fail, none of which need stop what Python can do
        raise CannotCapture(in_one_line(error)) from error


def no_compiler() -> str | None:
    """Why inductor could not compile for the CPU, if no C++ compiler is in sight; looks, but runs nothing."""
    wanted = os.environ.get("CXX")
    names = [wanted] if wanted else ["g++", "clang++"]
    return None if any(shutil.which(name) for name in names) else f"no C++ compiler: looked for {' and '.join(names)}"


@contextlib.contextmanager
def _deep_recursion() -> Iterator[None]:
    """As inductor asks for when it is first imported."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, RECURSION))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _compiled(function: OfTensors, inputs: Sequence[Tensor], options: dict[str, Any]) -> Code:
    compile_fx_inner = internal("torch._inductor.compile_fx", "compile_fx_inner")
    config = internal("torch._inductor", "config")
    context, tracing = (internal("torch._guards", name) for name in ("TracingContext", "tracing"))
    decompositions = internal("torch._inductor.decomposition", "select_decomp_table")() | compiled_forms()
    fake = internal("torch._subclasses", "FakeTensorMode")(allow_non_fake_inputs=True)
    propagation = internal("torch.fx.passes.fake_tensor_prop", "FakeTensorProp")
    with torch.no_grad():
        kept = [tensor.clone() for tensor in inputs]
        graph = operations(torch.func.functionalize(function), kept, decomposition_table=decompositions)
        examples = [fake.from_tensor(tensor) for tensor in inputs]
        with tracing(context(fake)), config.patch({"size_asserts": False, **options}):
            propagation(graph, fake).propagate_dont_convert_inputs(*examples)
            # Called without its wrapper, which checks on every call what here never changes; there, and not here, the
            # option of a wrapper in C++ would be read from the options.
            code: Any = compile_fx_inner(graph, examples, cpp_wrapper=config.cpp_wrapper)
    return code.current_callable
