"""Random numbers as functions of random bits, so that a compiled graph makes its own from bits that it is given.

Bits come from a generator that is fast but knows no normal law (SFC64); the law is put on them by tensor operations,
which inductor fuses.  With u on (0, 1] and v on [-1, 1),

    √(-2 log u) · cos πv   and   √(-2 log u) · sin πv

are independent and standard normal (Box & Muller 1958).  In float32, u has the 24 bits that torch's own normal numbers
have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

CPU = torch.device("cpu")
MANTISSA = {torch.float32: 24, torch.float64: 53}  # bits of a number, by the types that are known
_WORD = {torch.float32: torch.int32, torch.float64: torch.int64}


def random_bits(
    count: int, seed: Sequence[int], dtype: torch.dtype, device: torch.device = CPU
) -> Int[Tensor, " count"]:
    """Words of random bits, one for a number of a type; independent from seed to seed.

    A GPU makes its own, which are others than a processor's of the same seed: handed over, they would take longer than
    all that is computed from them.
    """
    word, whole, sequence = _WORD[dtype], np.iinfo(np.int64), np.random.SeedSequence(list(seed))
    count_of_64 = -(-count * word.itemsize // 8)
    if device.type == "cpu":
        generator = np.random.Generator(np.random.SFC64(sequence))
        bits = torch.from_numpy(generator.integers(whole.min, whole.max, count_of_64, dtype=np.int64, endpoint=True))
    else:
        own = torch.Generator(device).manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
        bits = torch.empty(count_of_64, dtype=torch.int64, device=device).random_(whole.min, None, generator=own)
    return bits.view(word)[:count]


def uniform_of(bits: Int[Tensor, " count"], dtype: torch.dtype) -> Float[Tensor, " count"]:
    """Numbers on [0, 1)."""
    return 0.5 + 0.5 * _centred(bits, dtype)


def normal_of(bits: Int[Tensor, " count"], dtype: torch.dtype) -> Float[Tensor, " count"]:
    """Standard normal numbers, of an even number of words."""
    half = len(bits) // 2
    first, second = _centred(bits[:half], dtype), _centred(bits[half:], dtype)
    radius = (0.5 - 0.5 * first).log().mul(-2).sqrt()
    angle = math.pi * second
    return torch.cat([radius * angle.cos(), radius * angle.sin()])


def _centred(bits: Int[Tensor, " count"], dtype: torch.dtype) -> Float[Tensor, " count"]:
    """Numbers on [-1, 1), as fine as the type can tell apart near its ends, so that none is rounded to 1."""
    mantissa = MANTISSA[dtype]
    return (bits >> (8 * bits.dtype.itemsize - mantissa)).to(dtype) * 2.0 ** (1 - mantissa)
