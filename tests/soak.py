"""Fit, save, load and impute again and again, and see that nothing grows: ``make soak``.

    python tests/soak.py             for two hours
    python tests/soak.py 10          for ten minutes

Each round trains a small pair on a table of its own values in one of three execution modes (by Python, by a captured
graph, by a compiled one), saves it, loads the file and imputes.  Memory, threads, open files, temporary files and the
compiler's cache are read from Linux when every mode has run twice, then ten times more until the end.  What a process
takes once (libraries, compiled code, pools of memory) is there by the first reading; what grows afterwards, grows with
rounds.  Ends with status 1 where something grew by more than LIMITS allow.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

MODES = ("eager", "graph") * 3 + ("eager", "inductor")  # a compiled round takes as long as many others
WARM_ROUNDS = 2 * len(MODES)  # before the first reading
READINGS = 10


class Held(NamedTuple):
    """What the process holds."""

    resident_mib: float
    threads: int
    open_files: int
    temporary_files: int
    cache_mib: float
    stored_parameters: int


LIMITS = Held(resident_mib=50.0, threads=0, open_files=0, temporary_files=0, cache_mib=5.0, stored_parameters=0)


def held(temporary: Path, cache: Path) -> Held:
    import pyro

    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    kept = [path for path in cache.rglob("*") if path.is_file()]
    return Held(
        int(status["VmRSS"].split()[0]) / 2**10,
        int(status["Threads"]),
        len(os.listdir("/proc/self/fd")),
        sum(path.is_file() for path in temporary.rglob("*")),
        sum(path.stat().st_size for path in kept) / 2**20,
        len(pyro.get_param_store()),
    )


def one_round(number: int, folder: Path) -> None:
    import numpy as np
    import pandas as pd

    from pyro_mnar import Fit, Table, fit, impute
    from pyro_mnar.guides import ZeroImpute
    from pyro_mnar.models import GINA

    mode = MODES[number % len(MODES)]
    random = np.random.default_rng(number)
    frame = pd.DataFrame(random.normal(size=(60, 3)), columns=["a", "b", "u"])
    frame.loc[::3, "a"] = np.nan  # as many gaps in every table: graphs are of sizes
    frame.loc[::4, "b"] = np.nan
    table = Table.from_frame(frame, auxiliary=["u"])
    pair = GINA(table, latent_dim=1, seed=number), ZeroImpute(table, 1, hidden=[8], seed=number)
    made = fit(*pair, table, epochs=5, batch_size=30, seed=number, compile=mode, progress=False)
    made.save(folder / "fit")
    completed = impute(Fit.load(folder / "fit"), table, num_draws=3, num_particles=20, seed=number, compile=mode)
    if not np.isfinite(completed.draws).all():
        raise AssertionError(f"round {number} ({mode}): draws that are not finite")
    (folder / "fit").unlink()


def main(minutes: float) -> int:
    with tempfile.TemporaryDirectory() as folder:
        temporary, cache, files = (Path(folder) / name for name in ("temporary", "cache", "files"))
        for path in (temporary, cache, files):
            path.mkdir()
        os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
        logging.getLogger("pyro_mnar").setLevel(logging.ERROR)
        start, number, readings = time.monotonic(), 0, list[Held]()
        while (passed := time.monotonic() - start) < 60 * minutes or len(readings) < 2:
            one_round(number, files)
            number += 1
            if number >= WARM_ROUNDS and passed >= 60 * minutes * len(readings) / READINGS:
                readings.append(held(temporary, cache))
                told = "  ".join(f"{name} {value:g}" for name, value in readings[-1]._asdict().items())
                sys.stdout.write(f"{passed / 60:6.1f} min  {number:6} rounds  {told}\n")
                sys.stdout.flush()
    grown = {
        name: f"{first:g} -> {last:g}"
        for name, first, last, limit in zip(Held._fields, readings[0], readings[-1], LIMITS, strict=True)
        if last - first > limit
    }
    sys.stdout.write(f"{number} rounds in {(time.monotonic() - start) / 60:.0f} minutes; grown: {grown or 'nothing'}\n")
    return bool(grown)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if sys.argv[1:] else 120.0))
