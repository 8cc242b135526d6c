"""How long `fit` trains and how large Adam's steps are, where nothing is said: by where parameters start.

From the data, near where training ends, the rate is so little that no step leads away from there.  Adam's first steps
move each weight of an encoder by the whole rate, and with 128 of them in a row the latents by many of their standard
deviations: at 1e-3 the bound of 500 rows fell by 29 nats a row before it rose again.  More steps have time for a
greater rate, up to the usual one with the usual steps.
"""

from __future__ import annotations

import math

DEFAULT_STEPS, DEFAULT_RATE = 3_000, 2e-2
STEPS_FROM_NEAR = 40
MOST_STEPS_NEAR, RATE_FROM_NEAR = 150, 1e-4  # more have a greater rate
LEAST_EPOCHS = 30


def steps_per_epoch(num_rows: int, batch_size: int) -> int:
    """How many minibatches hold all rows, in whole numbers of any size."""
    return -(-num_rows // batch_size)


def default_epochs(num_rows: int, batch_size: int, *, is_near: bool) -> int:
    """Enough for a number of steps, of which one holds all rows at most: few where the pair starts near the end."""
    batch_size = min(batch_size, num_rows)
    if is_near:
        return max(1, math.ceil(STEPS_FROM_NEAR * batch_size / num_rows))
    return max(LEAST_EPOCHS, math.ceil(DEFAULT_STEPS * batch_size / num_rows))


def default_rate(steps: int, *, is_near: bool) -> float:
    """The usual one; of few steps from near the end, a little one."""
    if not is_near:
        return DEFAULT_RATE
    share = math.log(max(steps, 1) / MOST_STEPS_NEAR) / math.log(DEFAULT_STEPS / MOST_STEPS_NEAR)
    return RATE_FROM_NEAR * (DEFAULT_RATE / RATE_FROM_NEAR) ** min(max(share, 0.0), 1.0)
