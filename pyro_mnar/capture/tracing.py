"""A function of a batch as one graph with explicit inputs: what training steps and imputation are captured by.

The function of any static model and guide is traced once by ``make_fx``: Python, Pyro's handlers and autograd run at
that time, and what they did to tensors stays as a list of operations.  Whatever changes from call to call has to enter
the graph as an input, since a Python number or a tensor met on the way is baked in: the parameters (the real leaves,
whoever made them: module, ``PyroParam``, ``pyro.param``, autoguide), random numbers (:mod:`pyro_mnar.capture.noise`)
and rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, fx

from pyro_mnar.capture.internals import CannotCapture, internal, sources_forgotten
from pyro_mnar.capture.noise import Noise
from pyro_mnar.capture.two_forms import num_results
from pyro_mnar.tables.batch import Batch

OfBatch = Callable[[Batch], tuple[Tensor, ...]]
Spans = list[tuple[int, int]]
MODES = ("auto", "inductor", "graph", "eager")  # what a user may ask for


@dataclass(frozen=True)
class Captured:
    """A function of a batch as a graph without side effects.

    Attributes:
        graph: ``(parameters, normal, uniform, *rows, *constants)`` to what the function returns; parameters are one
            flat tensor, ``rows`` the fields of a batch that have one entry a row.
        constants: Tensors that the function holds, such as a model's buffers.
        normal: Which of the function's standard normal numbers matter; the others are dead (as are draws that stand in
            for observed values), and need not be drawn.
        uniform: The same for uniform numbers.
        counts: How many numbers of each kind the function itself draws.
        others: Random operations that are left in the graph and draw from torch's default generator.
    """

    graph: fx.GraphModule
    constants: list[Tensor]
    normal: Spans
    uniform: Spans
    counts: tuple[int, int]
    others: list[str]

    def __call__(
        self,
        theta: Float[Tensor, " parameters"],
        normal: Float[Tensor, " _"],
        uniform: Float[Tensor, " _"],
        batch: Batch,
    ) -> tuple[Tensor, ...]:
        """What the function returns of a batch, given its random numbers."""
        return self.graph(theta, normal, uniform, *batch.of_rows().values(), *self.constants)

    def noise(self, steps: int, like: Tensor) -> tuple[Float[Tensor, "steps _"], Float[Tensor, "steps _"]]:
        """Numbers for several calls, from torch's default generator; one call a kind."""
        options: Any = {"dtype": like.dtype, "device": like.device}
        normal, uniform = self.num_random
        return torch.randn(steps, normal, **options), torch.rand(steps, uniform, **options)

    @property
    def num_random(self) -> tuple[int, int]:
        """How many normal and uniform numbers a call takes from outside."""
        return _total(self.normal), _total(self.uniform)

    @property
    def num_results(self) -> int:
        """Numbers that the graph's operations give in all: a measure of what a run of it moves through memory."""
        return sum(num_results(node) for node in self.graph.graph.nodes if node.op == "call_function")

    def replayed(self, normal: Float[Tensor, " _"], uniform: Float[Tensor, " _"]) -> Noise:
        """A context in which the function itself, run by Python, takes one call's numbers."""
        return Noise(_spread(normal, self.normal, self.counts[0]), _spread(uniform, self.uniform, self.counts[1]))


def traced(
    function: OfBatch, batch: Batch, parameters: Sequence[Tensor] = (), buffers: Sequence[Tensor] = ()
) -> Captured:
    """Trace a function of a batch.

    Args:
        function: Draws from torch's default generator; has no other effect that lasts.
        batch: An example; the graph holds for batches of its shape.
        parameters: Tensors that change from call to call.
        buffers: Other tensors of the model, put back should running it change them.

    Raises:
        CannotCapture: If no fixed graph does what the function does; says why.
    """
    kept = [buffer.clone() for buffer in buffers]
    try:
        with torch.random.fork_rng(devices=[]), sources_forgotten():
            return _captured(function, batch, parameters)
    except CannotCapture:
        raise
    except Exception as error:  # whatever stops the trace of a model stops nothing that Python can do
        raise CannotCapture(in_one_line(error)) from error
    finally:
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)


def flat(tensors: Sequence[Tensor]) -> Float[Tensor, " numbers"]:
    """All numbers in one row, without a gradient."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]) if tensors else torch.empty(0)


def views(row: Float[Tensor, " numbers"], like: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of :func:`flat`, sharing its memory."""
    parts = row.split([tensor.numel() for tensor in like])
    return [part.view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]


def simplified(functional: fx.GraphModule) -> fx.GraphModule:
    """Common subexpressions once, what changes nothing or is never read not at all."""
    graph = internal("torch._functorch.compile_utils", "fx_graph_cse")(functional.graph)
    for node in graph.nodes:
        if str(node.target) == "aten.fill.Scalar":
            node.target = torch.ops.aten.full_like.default  # the same, and vmap has a rule for it
        simpler = _simpler(node)
        if isinstance(simpler, fx.Node) and _form(simpler) == _form(node):
            node.replace_all_uses_with(simpler)
    graph.eliminate_dead_code()
    return fx.GraphModule(functional, graph)


def operations(function: Callable[..., Any], inputs: Sequence[Tensor], **options: Any) -> fx.GraphModule:
    """What a function does to tensors, as a list of torch's operations."""
    context, tracing = (internal("torch._guards", name) for name in ("TracingContext", "tracing"))
    # A fake tensor describes each operation's result; without a context every one of them would make a mode of its own.
    with tracing(context(internal("torch._subclasses", "FakeTensorMode")())):
        return internal("torch.fx.experimental.proxy_tensor", "make_fx")(function, **options)(*inputs)


def differ(first: Tensor, second: Tensor) -> bool:
    """Whether two results of one computation differ by more than rounding makes them."""
    return bool((first - second).abs().max() > torch.finfo(first.dtype).eps ** 0.5 * (1e-3 + second.abs().max()))


def in_one_line(error: Exception) -> str:
    """What is said of another library's failure."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _captured(function: OfBatch, batch: Batch, parameters: Sequence[Tensor]) -> Captured:
    with Noise() as counted:
        function(batch)
    options: Any = {"dtype": batch.x.dtype, "device": batch.x.device}
    normal, uniform = (torch.rand(counted.taken[kind], **options) for kind in ("normal", "uniform"))

    def of_inputs(normal: Tensor, uniform: Tensor, *rows: Tensor) -> tuple[Tensor, ...]:
        with Noise(normal, uniform):
            # The example's entries stand elsewhere than those of the rows to come.
            given = replace(batch, entries=None, **dict(zip(batch.of_rows(), rows, strict=True)))
            return function(given)

    rows = list(batch.of_rows().values())
    graph, constants = _lifted(operations(of_inputs, (normal, uniform, *rows)), parameters, len(rows))
    with torch.no_grad():
        inputs = (flat(parameters), normal, uniform, *rows, *constants)
        functional = operations(torch.func.functionalize(graph), inputs)
    functional = simplified(functional)
    spans = _compacted(functional, 1), _compacted(functional, 2)
    functional.recompile()
    return Captured(functional, constants, *spans, (len(normal), len(uniform)), counted.others)


def _lifted(
    traced: fx.GraphModule, parameters: Sequence[Tensor], num_fields: int
) -> tuple[Callable[..., Any], list[Tensor]]:
    """The traced function as one of parameters, noise, rows and the other tensors that it met."""
    position = {id(parameter): number for number, parameter in enumerate(parameters)}
    graph = traced.graph
    met: dict[int, Tensor] = {}
    sources: dict[fx.Node, int] = {}
    for node in graph.find_nodes(op="get_attr"):
        tensor = getattr(traced, str(node.target))
        met[id(tensor)], sources[node] = tensor, id(tensor)
    _refuse_writes(graph)
    constants = [tensor for tensor in met.values() if id(tensor) not in position]

    def lifted(theta: Tensor, normal: Tensor, uniform: Tensor, *others: Tensor) -> Any:
        rows, given = others[:num_fields], others[num_fields:]
        values = dict(zip(map(id, constants), given, strict=True))
        values |= zip(position, views(theta, parameters), strict=True)
        return _Lifted(traced, {node: values[key] for node, key in sources.items()}).run(normal, uniform, *rows)

    return lifted, constants


class _Lifted(fx.Interpreter):
    """Runs a graph with other tensors in place of those that it holds."""

    def __init__(self, traced: fx.GraphModule, values: dict[fx.Node, Tensor]) -> None:
        super().__init__(traced)
        self._values = values

    def run_node(self, n: fx.Node) -> Any:
        return self._values[n] if n.op == "get_attr" else super().run_node(n)


def _refuse_writes(graph: fx.Graph) -> None:
    """A model that writes into its parameters or buffers has another state after each step."""
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        for argument, value in zip(schema.arguments if schema else (), node.args, strict=False):
            if (
                argument.alias_info is not None
                and argument.alias_info.is_write
                and _origin(value).op != "call_function"
            ):
                name = node.target.overloadpacket.__name__
                raise CannotCapture(f"the model changes a buffer, parameter or row as it runs ({name!r})")


def _origin(node: Any) -> Any:
    """What a node is a view of."""
    while node.op == "call_function":
        schema = getattr(node.target, "_schema", None)
        if schema is None or not schema.arguments or schema.arguments[0].alias_info is None:
            break
        node = node.args[0]
    return node


def _simpler(node: Any) -> Any:
    """A node of the same values, if it has the same shape, type and layout too."""
    args, target = node.args, str(node.target)
    if target in _KEEPS_VALUES:
        return args[0]
    if target in _NEUTRAL and args[1] == _NEUTRAL[target]:
        return args[0]
    if target == "aten.copy.default":
        return args[1]
    if target == "aten.t.default" and str(args[0].target) == target:
        return args[0].args[0]
    if target == "aten.where.self":  # where(c, a, where(c, b, d)) is where(c, a, d)
        for position in (1, 2):
            inner = args[position]
            if str(inner.target) == target and inner.args[0] is args[0]:
                taken = inner.args[position]
                if _form(taken) == _form(inner):
                    node.update_arg(position, taken)
    return None


def _form(node: Any) -> Any:
    meta = node.meta.get("tensor_meta")
    return meta and (meta.shape, meta.dtype, meta.stride)


def _compacted(functional: fx.GraphModule, position: int) -> Spans:
    """Close the gaps between the numbers of a supply that the graph reads; returns where these were."""
    supply = functional.graph.find_nodes(op="placeholder")[position]
    spans: Spans = []
    users: list[Any] = sorted(supply.users, key=lambda node: cast(int, node.args[2]))
    for node in users:
        start, stop = node.args[2], node.args[3]
        if str(node.target) != "aten.slice.Tensor" or node.args[1] != 0:
            raise CannotCapture(f"random numbers are read by {node.target}")
        at = _total(spans)
        spans.append((start, stop))
        node.args = (supply, 0, at, at + stop - start)
    return spans


def _total(spans: Spans) -> int:
    return sum(stop - start for start, stop in spans)


def _spread(numbers: Float[Tensor, " _"], spans: Spans, count: int) -> Float[Tensor, " count"]:
    spread = numbers.new_zeros(count)
    for (start, stop), part in zip(spans, numbers.split([stop - start for start, stop in spans]), strict=True):
        spread[start:stop] = part
    return spread


_KEEPS_VALUES = {
    "aten.detach.default",
    "aten.alias.default",
    "aten.lift_fresh_copy.default",
    "aten.lift_fresh.default",
    "aten.expand.default",
    "aten.view.default",
}
_NEUTRAL = {"aten.mul.Tensor": 1.0, "aten.mul.Scalar": 1.0, "aten.add.Tensor": 0.0, "aten.pow.Tensor_Scalar": 1.0}
