"""Running Pyro without touching the caller's state: random numbers, parameter store, validation, one thread at a time.

Pyro's handler stack and torch's default generator belong to the whole process.  A :class:`Session` takes one
process-wide lock for as long as it runs a model, swaps in random states and a parameter store of its own, and puts
back what it found.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import pyro
import pyro.distributions
import pyro.infer
import pyro.poutine
import torch
from pyro.params.param_store import StateDict
from pyro.poutine.runtime import _PYRO_STACK

from pyro_mnar.infer.arguments import thread_count
from pyro_mnar.messages import seed_of

TORCHS_VARIABLES = ("TORCHINDUCTOR_CACHE_DIR", "_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR")
_LOCK = threading.RLock()


class _Outside(NamedTuple):
    """What a running session has put aside, for a child process that is forked meanwhile by another thread."""

    random_state: torch.Tensor
    store: dict[str, Any]
    depth: int
    validates: tuple[bool, bool, bool]

    @classmethod
    def now(cls) -> _Outside:
        """What there is before the session begins."""
        validates = (
            pyro.distributions.is_validation_enabled(),
            pyro.infer.is_validation_enabled(),
            pyro.poutine.is_validation_enabled(),
        )
        return cls(
            torch.get_rng_state(),
            dict(pyro.get_param_store().get_state()),
            len(_PYRO_STACK),
            validates,
        )

    def restore(self) -> None:
        """Put it back."""
        torch.set_rng_state(self.random_state)
        pyro.get_param_store().set_state(cast(StateDict, self.store))
        del _PYRO_STACK[self.depth :]
        for module, validates in zip((pyro.distributions, pyro.infer, pyro.poutine), self.validates, strict=True):
            module.enable_validation(validates)


_outside: _Outside | None = None  # while a session runs


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold the process-wide lock, under which models run, and know what was before."""
    global _outside
    with _LOCK:
        if _outside is not None:
            yield
            return
        _outside = _Outside.now()
        try:
            with surroundings_kept():
                yield
        finally:
            _outside = None


def callers_store() -> dict[str, Any]:
    """The state of Pyro's parameter store, once no other thread has one of its own in the place."""
    with locked():
        return dict(pyro.get_param_store().get_state())


@contextlib.contextmanager
def surroundings_kept() -> Iterator[None]:
    """Put back what torch and tqdm leave in the process when an optimiser, a compiler or a bar is first used:
    variables of the environment, the recursion limit, the start method of processes.
    """
    before = {name: os.environ.get(name) for name in TORCHS_VARIABLES}
    limit, method = sys.getrecursionlimit(), multiprocessing.get_start_method(allow_none=True)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if sys.getrecursionlimit() != limit:
            sys.setrecursionlimit(limit)
        if method is None and multiprocessing.get_start_method(allow_none=True) is not None:
            multiprocessing.set_start_method(None, force=True)


def _in_child() -> None:
    """A forked child has the forking thread alone: nobody there could release what another thread held."""
    global _LOCK, _outside
    if _LOCK.acquire(blocking=False):
        _LOCK.release()
        return
    _LOCK = threading.RLock()
    if _outside is not None:
        _outside.restore()
        _outside = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class Session:
    """A stream of random numbers and a parameter store for one fit or one imputation.

    Args:
        seed: Seed of the stream; the caller's generators neither influence it nor feel it.
        device: Device whose generator is swapped beside the CPU's.
        store: State of a parameter store to start from (what ``store`` was at another session's end).
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu", store: dict[str, Any] | None = None) -> None:
        seed = seed_of(seed)
        self.device = torch.device(device)
        self.generator = torch.Generator().manual_seed(seed)
        self.store = store or {"params": {}, "constraints": {}}
        with locked(), self._random_state_kept():
            torch.random.default_generator.manual_seed(seed)
            if self.device.type == "cuda":
                with torch.cuda.device(self.device):
                    torch.cuda.manual_seed(seed)
            self._states = self._random_states()

    @contextlib.contextmanager
    def running(self, *, validate: bool = False) -> Iterator[None]:
        """Hold the lock and run Pyro in this session's state, with Pyro's validation on or off."""
        with locked(), self._random_state_kept():
            self._set_random_states(self._states)
            try:
                with pyro.validation_enabled(validate), pyro.get_param_store().scope(cast(StateDict, self.store)):
                    yield
            finally:
                self._states = self._random_states()

    def random_state(self) -> dict[str, Any]:
        """Where the stream of random numbers and the generator of minibatches are, as tensors."""
        return {"streams": [state.clone() for state in self._states], "generator": self.generator.get_state()}

    def put_random_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`random_state` of a session on a device of the same type."""
        self._states = [one.clone() for one in state["streams"]]
        self.generator.set_state(state["generator"])

    @contextlib.contextmanager
    def rewinding(self) -> Iterator[None]:
        """Run, then put the stream of random numbers back to where it was: for attempts that may fail."""
        states = self._states
        try:
            with self.running():
                yield
        finally:
            self._states = states

    @contextlib.contextmanager
    def _random_state_kept(self) -> Iterator[None]:
        states = self._random_states()
        try:
            yield
        finally:
            self._set_random_states(states)

    def _random_states(self) -> list[torch.Tensor]:
        states = [torch.get_rng_state()]
        return [*states, torch.cuda.get_rng_state(self.device)] if self.device.type == "cuda" else states

    def _set_random_states(self, states: list[torch.Tensor]) -> None:
        torch.set_rng_state(states[0])
        if len(states) > 1:
            torch.cuda.set_rng_state(states[1], self.device)


def random_numbers_kept() -> contextlib.AbstractContextManager[None]:
    """Put torch's generators back afterwards: the processor's, and those of GPUs if this process uses any.

    ``torch.random.fork_rng()`` by itself would begin to use every GPU of the machine, which takes memory of each, warns
    where there are several, and fails in a forked child.
    """
    return torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_initialized() else [])


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Draw initial parameters from a seed of their own; with None, from torch's global generator."""
    if seed is None:
        yield
        return
    seed = seed_of(seed)
    with locked(), torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch compute with so many threads, and put back what was set.

    Raises:
        ValueError: If there is to be less than one, or far more than there are cores.
    """
    count = thread_count(count)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
