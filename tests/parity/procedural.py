"""Deterministic "weights" for the parity fixtures.

A fixture does not carry the weights of the network it was recorded with.  Every tensor of the official
state dict is a pure function of (official key, shape, salt), so a test rebuilds it here:

    tensors, meta = read_fixture("diffpose_gcndiff.safetensors")
    weights = procedural_state_dict(meta["state_dict"], salt=meta["salt"])   # {official key: float32 array}

How a tensor is made: the Philox-4x64 counter-based bit generator is keyed with
`(salt << 32) | crc32(key)` and its raw 64-bit words are used in C order, one word per element.  The four
16-bit lanes of a word are added (Irwin-Hall, n = 4), centred and scaled to unit variance: a bell-shaped
number in [-3.47, 3.47].  Only integer sums and single IEEE multiplications are involved, so the values are
identical to the last bit on every platform and numpy version, and independent of any framework's RNG.
The unit numbers are then scaled by what the key denotes, see `procedural_tensor`.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

__all__ = ["procedural_tensor", "procedural_state_dict", "read_fixture"]

_LANES = 4
_MEAN = _LANES * 65535 / 2.0
_UNIT = 1.0 / math.sqrt(_LANES * (65536.0**2 - 1.0) / 12.0)


def _words(key: str, count: int, salt: int) -> np.ndarray:
    if salt < 0:
        raise ValueError("salt must be >= 0")
    seed = (salt << 32) | zlib.crc32(key.encode("utf-8"))
    return np.random.Philox(key=seed).random_raw(count)


def _bell(words: np.ndarray) -> np.ndarray:
    """Zero-mean, unit-variance numbers (float64) from 64-bit words."""
    total = np.zeros(words.shape, np.int64)
    for lane in range(_LANES):
        total += ((words >> np.uint64(16 * lane)) & np.uint64(0xFFFF)).astype(np.int64)
    return (total - _MEAN) * _UNIT


def _uniform(words: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) (float64) from 64-bit words."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def procedural_tensor(key: str, shape: Sequence[int], salt: int = 0) -> np.ndarray:
    """Return the float32 tensor that belongs to `key`.

    z is a unit-variance number, u a uniform one in [0, 1).  The first matching row wins:

    =============================================  ===============================================
    last part of the key (or stated condition)     value
    =============================================  ===============================================
    num_batches_tracked                            0 (cast to int64 when loading)
    running_var                                    0.5 + u
    running_mean                                   0.1 z
    key starts with "noise/"                       z (noise and large inputs, not weights)
    A_hat (learnable adjacency)                    identity + 0.1 |z|  (column sums stay positive)
    init_pose (n x 6 values)                       (1, 0, 0, 1, 0, 0) repeated + 0.1 z
    init_shape / init_cam                          0.2 z / (0.9, 0, 0) + 0.05 z
    exponent                                       3 + 0.25 z
    ema_cluster_size                               1 + u
    bias, *_bias, b_2                              0.1 z
    a_2, or a 1-D weight (norm gain)               1 + 0.1 z
    query.weight (embedding table)                 0.5 z
    gconv*.weight of 4 axes [K, 1, in, out]        z / sqrt(K in)
    weight, *_weight of two or more axes           z / sqrt(product of all axes but the first)
    anything else (tokens, position tables, ...)   0.5 z
    =============================================  ===============================================
    """
    shape = tuple(int(n) for n in shape)
    last = key.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return np.zeros(shape, np.float32)
    words = _words(key, math.prod(shape), salt)
    if last in ("running_var", "ema_cluster_size"):
        value = _uniform(words) + (0.5 if last == "running_var" else 1.0)
        return np.asarray(value.reshape(shape), np.float32)
    z = _bell(words).reshape(shape)
    if last == "running_mean":
        value = 0.1 * z
    elif key.startswith("noise/"):
        value = z
    elif last == "A_hat":
        value = np.eye(*shape) + 0.1 * np.abs(z)
    elif last == "init_pose":
        value = 0.1 * z + np.resize(np.array([1.0, 0, 0, 1.0, 0, 0]), shape)
    elif last == "init_shape":
        value = 0.2 * z
    elif last == "init_cam":
        value = 0.05 * z + np.resize(np.array([0.9, 0, 0]), shape)
    elif last == "exponent":
        value = 3.0 + 0.25 * z
    elif last.endswith("bias") or last == "b_2":
        value = 0.1 * z
    elif last == "a_2" or (last.endswith("weight") and len(shape) == 1):
        value = 1.0 + 0.1 * z
    elif key.endswith("query.weight"):
        value = 0.5 * z
    elif last.endswith("weight") and len(shape) == 4 and "gconv" in key:
        value = z / math.sqrt(shape[0] * shape[2])
    elif last.endswith("weight") and len(shape) >= 2:
        value = z / math.sqrt(math.prod(shape[1:]))
    else:
        value = 0.5 * z
    return np.asarray(value, np.float32)


def procedural_state_dict(spec: Mapping[str, Sequence[int]], salt: int = 0) -> dict[str, np.ndarray]:
    """All tensors of a `{key: shape}` table, as found in a fixture's `state_dict` metadata."""
    return {key: procedural_tensor(key, shape, salt) for key, shape in spec.items()}


_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?"}


def read_fixture(path: str | Path) -> tuple[dict[str, np.ndarray], dict]:
    """Read a fixture: `{"input/...": array, "output/...": array}` and its metadata (JSON values decoded).

    Inputs that are too big to store are listed under metadata `procedural_inputs` as
    `{name: {"key", "shape", "scale"}}`; they are generated here and returned as `input/<name>` as well.
    """
    raw = Path(path).read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    meta = {name: json.loads(text) for name, text in header.pop("__metadata__", {}).items()}
    body, tensors = raw[8 + size :], {}
    for name, info in header.items():
        start, stop = info["data_offsets"]
        flat = np.frombuffer(body[start:stop], dtype=_DTYPES[info["dtype"]])
        tensors[name] = flat.reshape(info["shape"]).copy()
    for name, how in meta.get("procedural_inputs", {}).items():
        value = procedural_tensor(how["key"], how["shape"], meta["salt"]) * np.float32(how.get("scale", 1.0))
        tensors[f"input/{name}"] = value
    return tensors, meta
