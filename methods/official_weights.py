"""Weights as their authors published them: read, freed of wrappers, checked against a network and loaded.

A method's `official.py` says what its authors call each tensor; the rest is written here once.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from methods.checkpoints import read_torch_file
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError

# Where releases keep their weights, and the moving average of them.
_WEIGHTS = ("state_dict", "model", "model_pos", "model_state_dict", "network")
_AVERAGES = ("ema", "ema_state_dict")
_AVERAGE_IN_LIST = 4  # of DiffPose's [weights, optimizer, epoch, step, average]
# What trainings put before the name of every tensor: DistributedDataParallel, torch.compile, LightningModule.
_WRAPPERS = r"(?:(?:module|_orig_mod|model|net)\.)*?"
_COUNTER = "num_batches_tracked"  # of batch normalisation: no answer depends on it, and old files lack it
_NAMED = 5  # tensors of each kind that a message names, at most

# Objects that trainings save beside the weights; they are not needed, and not made.
_LEFT_OUT = (
    *(f"numpy.random._pickle.__{kind}_ctor" for kind in ("randomstate", "bit_generator", "generator")),
    *("numpy.random._mt19937.MT19937", "numpy.random._pcg64.PCG64", "numpy.random._pcg64.PCG64DXSM"),
    *("numpy.random._philox.Philox", "numpy.random._sfc64.SFC64"),
    *("numpy.random.bit_generator.SeedSequence", "numpy.random.bit_generator.__pyx_unpickle_SeedSequence"),
    *("argparse.Namespace", "datetime.datetime", "datetime.timedelta"),
    *("pathlib.PosixPath", "pathlib.WindowsPath", "pathlib.PurePosixPath", "pathlib.PureWindowsPath"),
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
)

_Network = TypeVar("_Network", bound=nn.Module)


class _LeftOut:
    """Stands for an object of `_LEFT_OUT`."""

    def __init__(self, *args: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


class Imported(NamedTuple):
    """What `scripts/import_checkpoint.py` makes a checkpoint of.

    Attributes:
        class_path: of the method.
        arguments: of its constructor.
        state_dict: all its tensors, or those of one part.
        next_commands: that can be run with the checkpoint.
    """

    class_path: str
    arguments: dict[str, Any]
    state_dict: Mapping[str, Tensor]
    next_commands: str = ""


def read_published(path: Path) -> Any:
    """Reads a file that `torch.save` wrote, without running code that may be hidden in it.

    Besides tensors and plain values, it may hold NumPy's numbers, arrays and random states, times, paths and options.

    Raises:
        InputError: if the file is missing or broken, or holds anything else.
    """
    scalar, array = np.float64(0.0).__reduce__()[0], np.zeros(0).__reduce__()[0]
    # NumPy 1 called the same functions by another address.
    functions = [
        (function, f"numpy.{core}.multiarray.{name}")
        for function, name in ((scalar, "scalar"), (array, "_reconstruct"))
        for core in ("core", "_core")
    ]
    kinds = [type(np.dtype(code)) for code in ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")]
    kinds += [type(np.dtype(code)) for code in ("c8", "c16", "U", "S", "M8", "m8")]
    left_out = [(_LeftOut, name) for name in _LEFT_OUT]
    return read_torch_file(path, [*functions, np.ndarray, np.dtype, *kinds, *left_out])


def state_dict_in(
    content: Any, first: Iterable[str], ema: bool = False, beside: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Finds the tensors in a published checkpoint and removes the prefixes of wrappers from their names.

    Args:
        content: the state dict itself, a dictionary that holds it, or the release's list that begins with it.
        first: how some tensor's name begins without wrappers; wrappers before such a name are removed from all names.
        ema: take the moving average of the weights instead.
        beside: how names begin that have no wrappers beside others that have.

    Raises:
        InputError: if there is no state dict or no average, or if names disagree about the wrappers.
    """
    found = _find(content, ema)
    weights = {str(key): _tensor(str(key), value) for key, value in found.items()}
    beginning = re.compile(rf"({_WRAPPERS})(?:{'|'.join(map(re.escape, first))})")
    prefix = next((match[1] for key in weights if (match := beginning.match(key))), "")
    if without := [key for key in weights if not key.startswith((prefix, *beside))]:
        raise InputError(f"some names begin with {prefix} and some do not: {_some(without)}")
    return {key.removeprefix(prefix): value for key, value in weights.items()}


def _find(content: Any, ema: bool) -> Mapping[Any, Any]:
    if isinstance(content, list | tuple) and content:
        if not ema or len(content) > _AVERAGE_IN_LIST:
            return _find(content[_AVERAGE_IN_LIST if ema else 0], False)
    elif isinstance(content, Mapping):
        keys = _AVERAGES if ema else _WEIGHTS
        if inner := next((content[key] for key in keys if isinstance(content.get(key), Mapping)), None):
            return _find(inner, False)
        if not ema and any(isinstance(value, Tensor | np.ndarray) for value in content.values()):
            return content
    if ema:
        raise InputError(
            f"there is no moving average of the weights ({' or '.join(_AVERAGES)}, or a list's fifth entry): leave "
            "--ema out, or give the file that holds the average"
        )
    held = f"keys {_some(map(str, content))}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
    raise InputError(f"the file holds no state dict of tensors; it has {held}")


def _tensor(key: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor | np.ndarray) and not key.endswith(_COUNTER):
        raise InputError(f"{key} is of type {type(value).__name__}, expected a tensor")
    return torch.as_tensor(value)


def without_parts(weights: Mapping[str, Tensor], reasons: Mapping[str, str]) -> dict[str, Tensor]:
    """Weights without parts that are not wanted; notes on the standard error what is left out.

    Args:
        weights: under their published names.
        reasons: how names begin that are left out, and what they are.
    """
    kept = {key: value for key, value in weights.items() if not key.startswith(tuple(reasons))}
    for reason in sorted({what for start, what in reasons.items() if any(key.startswith(start) for key in weights)}):
        print(f"note: left out {reason}", file=sys.stderr)
    return kept


def published_names(ours: Iterable[str], table: Mapping[str, str]) -> dict[str, str]:
    """What a release calls each of our tensors.

    Args:
        ours: names of tensors.
        table: regular expressions for the beginnings of our names, with what the release has there. The first that fits
            is taken; a name that none fits is the same in the release.
    """
    names = {}
    for name in ours:
        pattern = next((pattern for pattern in table if re.match(pattern, name)), None)
        names[name] = name if pattern is None else re.sub(f"^{pattern}", table[pattern], name)
    return names


def check(
    network: nn.Module, weights: Mapping[str, Tensor], what: str, names: Mapping[str, str] | None = None
) -> dict[str, Tensor]:
    """The weights under the names and in the types of the network, if they are exactly its tensors.

    Args:
        network: which the weights are for; may be on the meta device.
        weights: under their published names.
        what: the network is, for messages.
        names: published name of each tensor of the network; None where they are the same.

    Raises:
        InputError: if a tensor is missing, superfluous or of the wrong shape.
    """
    expected = network.state_dict()
    names = {name: name for name in expected} if names is None else names
    found = {name: weights.get(names[name]) for name in expected}
    unknown = sorted(weights.keys() - set(names.values()))
    missing = [names[name] for name, value in found.items() if value is None and not name.endswith(_COUNTER)]
    misshapen = [
        f"{names[name]} has shape {tuple(value.shape)}, expected {tuple(expected[name].shape)}"
        for name, value in found.items()
        if value is not None and value.shape != expected[name].shape
    ]
    _refuse([f"{key} is not known" for key in unknown], [f"{key} is missing" for key in missing], misshapen, what=what)
    return {
        name: (expected[name] if value is None else value).to(expected[name].dtype) for name, value in found.items()
    }


def load(
    network: _Network, weights: Mapping[str, Tensor], what: str, names: Mapping[str, str] | None = None
) -> _Network:
    """Loads published weights into a network, whose mode stays as it is. Arguments and errors as of `check`."""
    fitting = check(network, weights, what, names)
    network.load_state_dict(fitting, assign=any(value.is_meta for value in network.state_dict().values()))
    return network


def require(weights: Mapping[str, Tensor], dimensions: Mapping[str, int], what: str) -> None:
    """Refuses weights without the tensors that the sizes of a network are read from.

    Args:
        weights: under their published names.
        dimensions: number of dimensions of each of these tensors.
        what: the network is, for messages.

    Raises:
        InputError: if a tensor is missing or has another number of dimensions.
    """
    missing = [f"{key} is missing" for key in dimensions if key not in weights]
    misshapen = [
        f"{key} has shape {tuple(weights[key].shape)}, expected {number} dimensions"
        for key, number in dimensions.items()
        if key in weights and weights[key].ndim != number
    ]
    _refuse(missing, misshapen, what=what)


def check_body(body: str) -> None:
    """Refuses a body that cannot be loaded, and notes what another body than SMPL's means for weights trained with it.

    Raises:
        InputError: as `BodyModel.load`.
    """
    BodyModel.load(body)
    if body == "free":
        print(
            "note: without --body the rotations are given to the free body, which they fit approximately; the shape "
            "coefficients are SMPL's and mean nothing to it",
            file=sys.stderr,
        )


def _refuse(*problems: list[str], what: str) -> None:
    """Refuses weights, naming the first problems of each kind."""
    if any(problems):
        raise InputError(f"the weights do not fit {what}: {'; '.join(_some(kind, '; ') for kind in problems if kind)}")


def _some(texts: Iterable[str], separator: str = ", ") -> str:
    texts = list(texts)
    more = f"{separator}and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return separator.join(texts[:_NAMED]) + more if texts else "none"
