"""Which of the four pose heads a model has, and the files that two of them need.

A codebook is a part of the checkpoint of the whole model; its file is needed when training starts, and never again: the
configuration of a run (`runs/NAME/config.yaml`) describes it, for resuming and testing.
"""

from pathlib import Path
from typing import Any, Literal, get_args

from methods.checkpoints import describe_method, load_method, make_described_method, read_torch_file
from methods.dpmesh.pose_heads import CodebookHead, PoseHead, Rot6dHead, VPoserHead
from methods.dpmesh.vposer import VPoserDecoder
from noise2pose.errors import InputError

PoseHeadName = Literal["vq_soft", "vq_ce", "rot6d", "vposer"]

_WITH_CODEBOOK = ("vq_soft", "vq_ce")
_VPOSER = "bodyprior_dec_"  # how the tensors of VPoser's decoder are called


def make_pose_head(
    name: PoseHeadName,
    width: int,
    num_layers: int,
    codebook_checkpoint: str | None,
    codebook: str | None,
    vposer_file: str | None,
) -> tuple[PoseHead, str | None]:
    """A pose head, and the description of its codebook.

    Args:
        name: `vq_soft` for averages of codes, `vq_ce` for the most probable codes, which are also learnt as classes,
            `rot6d` for rotations, `vposer` for codes of VPoser (release).
        width: of the decoder's states.
        num_layers: of the decoder.
        codebook_checkpoint: checkpoint of `methods.dpmesh.Codebook`, or the name of a shipped one.
        codebook: description of a codebook whose weights will come with those of the whole model; used where the
            checkpoint is not given, or is gone.
        vposer_file: weights of VPoser; None where they will come with those of the whole model.

    Raises:
        InputError: if there is no such head, or a file is missing or of another kind.
    """
    for option, value, heads in (
        ("codebook_checkpoint", codebook_checkpoint, _WITH_CODEBOOK),
        ("codebook", codebook, _WITH_CODEBOOK),
        ("vposer_file", vposer_file, ("vposer",)),
    ):
        if value is not None and name not in heads:
            raise InputError(f"model.{option} is for model.pose_head {' or '.join(heads)}, which is {name}")
    if name == "rot6d":
        return Rot6dHead(width, num_layers), None
    if name == "vposer":
        decoder = VPoserDecoder()
        if vposer_file is not None:
            _load_vposer(decoder, Path(vposer_file))
        return VPoserHead(decoder, width, num_layers), None
    if name not in get_args(PoseHeadName):
        raise InputError(f"model.pose_head is {name}, expected one of {', '.join(get_args(PoseHeadName))}")
    if codebook is not None and (codebook_checkpoint is None or not Path(codebook_checkpoint).is_file()):
        method: Any = make_described_method(codebook)
    elif codebook_checkpoint is not None:
        method = _read_codebook(codebook_checkpoint)
    else:
        raise InputError(
            f"model.pose_head {name} needs a trained codebook: train one (configs/experiments/dpmesh_codebook_*.yaml) "
            "and give model.codebook_checkpoint FILE, or set model.pose_head to rot6d; to resume or "
            "test a run, give its own -c runs/NAME/config.yaml"
        )
    return CodebookHead(method.codebook, name == "vq_ce", width, num_layers), describe_method(method)


def _read_codebook(path_or_name: str) -> Any:
    """A trained `methods.dpmesh.Codebook`."""
    from methods.dpmesh.codebook_training import Codebook

    try:
        method = load_method(path_or_name)
    except InputError as error:
        raise InputError(f"model.codebook_checkpoint: {error}") from error
    if not isinstance(method, Codebook):
        raise InputError(f"model.codebook_checkpoint: {path_or_name} is {method.title}, expected a pose codebook")
    return method


def _load_vposer(decoder: VPoserDecoder, path: Path) -> None:
    """Fills the decoder from a snapshot of VPoser (version 1), which holds an encoder too."""
    weights = read_torch_file(path)
    weights = weights.get("state_dict", weights) if isinstance(weights, dict) else {}
    weights = {key[key.index(_VPOSER) :]: value for key, value in weights.items() if _VPOSER in key}
    expected = decoder.state_dict()
    if {key: value.shape for key, value in weights.items()} != {key: value.shape for key, value in expected.items()}:
        raise InputError(f"model.vposer_file: {path} has no decoder of VPoser version 1 ({_VPOSER}fc1 and the like)")
    decoder.load_state_dict(weights)
