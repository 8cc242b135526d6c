"""Imputing rows chunk by chunk: by Python, or by a captured graph on several threads; which of the two, and why.

The choice depends on the number of particles × rows × columns ahead and on nothing that a clock says, and a captured
chunk takes its random numbers from a seed of its own, so that the same seed gives the same numbers however many threads
there are.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray

from pyro_mnar.capture.inductor import no_compiler
from pyro_mnar.capture.internals import CannotCapture
from pyro_mnar.imputation.averages import Weighted
from pyro_mnar.imputation.captured_sampler import CapturedSampler, Resampled
from pyro_mnar.imputation.common_particles import POINTS_OF_A_ROW, CommonParticles
from pyro_mnar.imputation.sampler import Chunk, Sampler, refuse_unusable
from pyro_mnar.infer.session import threads
from pyro_mnar.memory import keep_freed_memory
from pyro_mnar.tables.batch import Batch

# From how many numbers (draws × particles × rows × features) on it pays; docs/speed.md has the measurements.
ELEMENTS_TO_CAPTURE = 500_000_000
ELEMENTS_TO_COMPILE = 1_500_000_000

log = logging.getLogger(__name__)


class Part(NamedTuple):
    """Some rows, by position, and what is imputed to them."""

    rows: Int[NDArray, " rows"]
    chunk: Chunk


def imputed(
    sampler: Sampler, batch: Batch, rows: Int[NDArray, " rows"], device: torch.device, mode: str
) -> Generator[Part, None, None]:
    """Impute rows of a table in whichever mode was asked for or serves best; says which in one line of the log.

    Args:
        sampler: What draws and weighs particles.
        batch: The whole table.
        rows: Positions of the rows to impute, in the order in which they are given back.
        device: Where to compute.
        mode: ``"eager"``, ``"graph"``, ``"inductor"`` or ``"auto"``.

    Raises:
        ValueError: As :meth:`~pyro_mnar.imputation.sampler.Sampler.particle_sets`.
    """
    if sampler.is_free and mode in ("auto", "eager"):
        common = _common_parts(sampler, batch, rows, device)
        if common is not None:
            log.info("imputation: eager (draws of a row have particles in common, near its own mode)")
            return common
    particles = sampler.num_draws * sampler.num_particles * sampler.averages.num_features
    wanted, reason = mode, "as asked for"
    if sampler.row_keys is not None:
        wanted, reason = "eager", "each row has random numbers of its own"
    elif wanted == "auto":
        wanted, reason = imputation_mode(particles * len(rows), device)
    mode, captured = wanted, None
    if wanted != "eager" and len(rows):
        try:
            captured = _Chunks(sampler, batch, rows, device)
            if mode == "inductor" and (cause := captured.not_compiled()) is not None:
                mode, reason = "graph", f"not compiled: {cause}"
            captured.check()
        except CannotCapture as cause:
            mode, reason, captured = "eager", f"not captured: {cause}", None
    log.log(logging.INFO if mode == wanted else logging.WARNING, "imputation: %s (%s)", mode, reason)
    return _eager_parts(sampler, batch, rows, device) if captured is None else captured.run()


def imputation_mode(elements: int, device: torch.device) -> tuple[str, str]:
    """Which mode is fastest for so many particles × rows × features, and why."""
    if elements < ELEMENTS_TO_CAPTURE:
        return "eager", f"{elements:,} particle cells are too few to pay for a capture"
    if elements < ELEMENTS_TO_COMPILE:
        return "graph", f"{elements:,} particle cells pay for a capture, not for compiling"
    if device.type != "cpu":
        return "graph", f"{elements:,} particle cells take a GPU less time than compiling"
    if (reason := no_compiler()) is not None:
        return "graph", reason
    return "inductor", f"{elements:,} particle cells pay for compiling"


def _common_parts(
    sampler: Sampler, batch: Batch, rows: Int[NDArray, " rows"], device: torch.device
) -> Generator[Part, None, None] | None:
    """None where draws cannot have particles in common."""
    at_once = max(1, sampler.limits.elements // (POINTS_OF_A_ROW * sampler.averages.num_features))
    blocks = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]

    common = CommonParticles.of(sampler, _taken(batch, blocks[0], device)) if blocks else None
    if common is None:
        return None

    def parts() -> Generator[Part, None, None]:
        keep_freed_memory()
        for here in blocks:
            done = 0
            for chunk in common.chunks(_taken(batch, here, device)):
                stop = done + len(chunk.mean)
                yield Part(here[done:stop], chunk)
                done = stop

    return parts()


def _eager_parts(
    sampler: Sampler, batch: Batch, rows: Int[NDArray, " rows"], device: torch.device
) -> Generator[Part, None, None]:
    at_once = max(1, sampler.limits.elements // (sampler.num_particles * sampler.averages.num_features))
    for start in range(0, len(rows), at_once):
        here = rows[start : start + at_once]
        yield Part(here, sampler.impute(_taken(batch, here, device)))


class _Chunks:
    """Chunks of one size, the last one filled up with rows that are then cut off."""

    def __init__(self, sampler: Sampler, batch: Batch, rows: Int[NDArray, " rows"], device: torch.device) -> None:
        self.batch, self.rows, self.device = batch, rows, device
        a_draw = sampler.num_particles * sampler.averages.num_features
        self.size = min(len(rows), max(1, sampler.limits.elements_of_a_graph // (a_draw * sampler.num_draws)))
        most = max(1, sampler.limits.elements_of_a_graph // (a_draw * self.size))
        # Draws are run in equal groups, so that one graph serves.
        divisors = (n for n in range(1, sampler.num_draws + 1) if sampler.num_draws % n == 0)
        self.groups = next(n for n in divisors if sampler.num_draws // n <= most)
        self.session = sampler.session
        with self.session.rewinding():
            self.seed = int(torch.randint(2**63 - 1, ()))
        # Not of the first rows, which are those that are checked: rows that the model keeps in Python then show.
        self.example = self._taken(rows[-self.size :])
        self.sampler = CapturedSampler(sampler, self.example, sampler.num_draws // self.groups)

    def not_compiled(self) -> CannotCapture | None:
        """Compile, or say why not."""
        try:
            with self.session.running():  # one at a time: inductor's own state belongs to the whole process
                self.sampler.compile(self.example)
        except CannotCapture as cause:
            return cause
        return None

    def check(self) -> None:
        """Compare the first chunk with what Python makes of it; CannotCapture if that is something else."""
        self.sampler.check(self._taken(self.rows[: self.size]), (self.seed, 0))

    def run(self) -> Generator[Part, None, None]:
        """Impute all chunks, in order."""
        keep_freed_memory()
        starts = range(0, len(self.rows), self.size)
        jobs = ((start, group) for start in starts for group in range(self.groups))
        results = self._results(enumerate(jobs))
        for start in starts:
            here = self.rows[start : start + self.size]
            yield Part(here, _chunk([next(results) for _ in range(self.groups)], len(here)))

    def _results(self, jobs: Iterable[tuple[int, tuple[int, int]]]) -> Iterator[Resampled]:
        if self.device.type != "cpu":
            yield from map(self._result, jobs)  # CUDA graphs belong to the thread that recorded them
            return
        workers = torch.get_num_threads()
        with threads(1), ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from _in_order(pool, self._result, jobs, 2 * workers)

    def _result(self, job: tuple[int, tuple[int, int]]) -> Resampled:
        number, (start, _) = job
        return self.sampler(self._taken(self.rows[start : start + self.size]), (self.seed, number))

    def _taken(self, rows: Int[NDArray, " rows"]) -> Batch:
        return _taken(self.batch, np.resize(rows, self.size), self.device)


def _taken(batch: Batch, rows: Int[NDArray, " rows"], device: torch.device) -> Batch:
    return batch.take(torch.from_numpy(rows)).to(device)


def _chunk(parts: list[Resampled], count: int) -> Chunk:
    for part in parts:
        refuse_unusable(part.log_total, part.possible)
    of_all = reduce(Weighted.joined, [part.weighted for part in parts])
    draws = torch.cat([part.draws for part in parts])
    return Chunk(draws[:, :count], of_all.mean[:count], of_all.effective_sample_size()[:count])


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Any], Any], jobs: Iterable[Any], ahead: int
) -> Iterator[Any]:
    """Results in the order of the jobs, with no more of them in flight than so many."""
    pending: deque[Future] = deque()
    try:
        for job in jobs:
            pending.append(pool.submit(function, job))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
