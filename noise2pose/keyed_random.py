"""Random numbers that belong to a sample, not to a batch.

A number is a pure function of (sample key, stream, seed, position), so a prediction does not depend on the batch size,
the order of the samples, the process that computed it or what was drawn before. So two methods see the same detection
errors, and one process and four processes report the same metrics.

The generator is SplitMix64's finaliser applied to a counter (Steele, Lea and Flood, "Fast splittable pseudorandom
number generators", OOPSLA 2014), written in int64 tensor operations, which wrap around on every device.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX1 = -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
_MIX2 = -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
_Drawn = dict[tuple[str, tuple[int, ...], tuple[int, ...], int, int], Tensor]
_DRAWN: ContextVar[_Drawn | None] = ContextVar("drawn", default=None)
_SEED, _STREAM = 0xD1B54A32D192ED03, 0xABC98388FB8FAC03  # odd, so that no two seeds or streams coincide


def keys_of(names: Sequence[str], device: torch.device | str | None = None) -> Tensor:
    """Sample keys from sample names.

    Args:
        names: B names, for example `sample_id` of a batch.
        device: of the keys.

    Returns:
        (B,) int64; equal names give equal keys on every machine.
    """
    return torch.tensor([zlib.crc32(name.encode("utf-8")) for name in names], dtype=torch.int64, device=device)


def uniform(keys: Tensor, shape: Sequence[int], *, stream: int = 0, seed: int = 0) -> Tensor:
    """Uniform numbers in the open interval (0, 1), on a grid of 2^-23 (exact in float32, never 0 or 1).

    Args:
        keys: (B,) int64 sample keys.
        shape: shape of one sample's numbers.
        stream: which use of randomness this is; two uses of one sample must differ in it.
        seed: which repetition of the experiment this is.

    Returns:
        (B, *shape) float32.
    """
    return _once(_uniform, keys, shape, stream, seed)


def _uniform(keys: Tensor, shape: Sequence[int], stream: int, seed: int) -> Tensor:
    count = math.prod(shape)
    start = _mix(_mix(keys + _signed(seed * _SEED)) + _signed(stream * _STREAM))
    position = torch.arange(1, count + 1, dtype=torch.int64, device=keys.device)
    bits = _shift_right(_mix(start[:, None] + position * _GOLDEN), 41)
    return bits.to(torch.float32).add_(0.5).mul_(2.0**-23).reshape(len(keys), *shape)


def normal(keys: Tensor, shape: Sequence[int], *, stream: int = 0, seed: int = 0) -> Tensor:
    """Standard normal numbers, by inversion of `uniform`; arguments as there.

    Returns:
        (B, *shape) float32, bounded by 5.3 in absolute value.
    """
    return _once(_normal, keys, shape, stream, seed)


def _normal(keys: Tensor, shape: Sequence[int], stream: int, seed: int) -> Tensor:
    return torch.special.ndtri(_uniform(keys, shape, stream, seed))


@contextmanager
def drawn_once() -> Iterator[None]:
    """Within, the same numbers are drawn once, so that a graph traced after a first call has them as constants.

    The operations that draw them are none that graphs for other runtimes have.
    """
    token = _DRAWN.set({})
    try:
        yield
    finally:
        _DRAWN.reset(token)


def _once(draw: Callable[..., Tensor], keys: Tensor, shape: Sequence[int], stream: int, seed: int) -> Tensor:
    drawn = _DRAWN.get()
    if drawn is None:
        return draw(keys, shape, stream, seed)
    wanted = (draw.__name__, tuple(keys.tolist()), tuple(map(int, shape)), stream, seed)
    if wanted not in drawn:
        drawn[wanted] = draw(keys, shape, stream, seed)
    return drawn[wanted]


def _signed(value: int) -> int:
    """The int64 with the same lowest 64 bits."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift; the shift of signed tensors copies the sign bit."""
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = x + _GOLDEN  # a copy; on large tensors new memory for every operation would cost more than the operations
    x.bitwise_xor_(_shift_right(x, 30)).mul_(_MIX1)
    x.bitwise_xor_(_shift_right(x, 27)).mul_(_MIX2)
    return x.bitwise_xor_(_shift_right(x, 31))
