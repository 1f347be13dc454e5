"""The protocols of the literature, each with its traps in `docs/protocols.md`.

A data module takes one and says what is its own: `published("threedpw", split=..., keypoints_2d=...)`. Joints are those
of h36m_17, the order of every batch.
"""

from dataclasses import replace
from typing import Any

from noise2pose.errors import InputError
from noise2pose.metrics.protocols import LIMB_JOINTS, MESH_JOINTS, Protocol

_SKELETON = "h36m_17"
# Of MPI-INF-3DHP's 17 joints, all but pelvis, spine and head, which h36m_17 calls chin.
PCK_JOINTS = (1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13, 14, 15, 16)
_OF_MESH = "J_regressor_h36m of the predicted mesh"
_OF_BOTH = "J_regressor_h36m of both meshes"
_GENDERED = "SMPL, gendered"
_THREEDPW = "test: 24 sequences, both people, frames with a valid camera"


# The columns of the tables by action, in the order of the literature, by the first word of the action.
_ACTIONS = {
    "Directions": "Dir",
    "Discussion": "Disc",
    "Eating": "Eat",
    "Greeting": "Greet",
    "Phoning": "Phone",
    "Photo": "Photo",
    "Posing": "Pose",
    "Purchases": "Purch",
    "Sitting": "Sit",
    "SittingDown": "SitD",
    "Smoking": "Smoke",
    "Waiting": "Wait",
    "WalkDog": "WalkD",
    "Walking": "Walk",
    "WalkTogether": "WalkT",
}


def _mesh(dataset: str, split: str, ground_truth: str = _GENDERED, **choices: Any) -> Protocol:
    """14 joints regressed from two meshes."""
    return Protocol(
        name=choices.pop("name", dataset),
        dataset=dataset,
        split=split,
        skeleton=_SKELETON,
        joints=MESH_JOINTS,
        ground_truth=ground_truth,
        regressor=choices.pop("regressor", _OF_BOTH),
        **choices,
    )


def _3dhp(name: str, ground_truth: str, **choices: Any) -> Protocol:
    """17 joints for MPJPE, 14 of them for PCK and AUC."""
    return Protocol(
        name=name,
        dataset="mpi_inf_3dhp",
        split="test: valid frames of TS1 to TS6",
        skeleton=_SKELETON,
        pck_joints=PCK_JOINTS,
        ground_truth=ground_truth,
        groups="sequence",
        **choices,
    )


def _pixels(dataset: str, split: str) -> Protocol:
    """Reprojected joints against annotated keypoints, in pixels of the image as it is."""
    return Protocol(
        name=dataset,
        dataset=dataset,
        split=split,
        skeleton=_SKELETON,
        joints=MESH_JOINTS,
        alignment="none",
        units="px",
        dimensions=2,
        ground_truth="annotated key-points",
        regressor=_OF_MESH,
    )


PUBLISHED = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="human36m_lifting",
            dataset="human36m",
            split="test: S9, S11, every frame of 50 Hz, 4 cameras",
            skeleton=_SKELETON,
            ground_truth="mocap joints",
            groups="action",
            group_captions=_ACTIONS,
            average="actions",
        ),
        _mesh("human36m", "test: S9, S11, 4 cameras", "mocap joints", name="human36m_hmr_p1", regressor=_OF_MESH),
        _mesh(
            "human36m",
            "test: S9, S11, frontal camera 60457274 only",
            "mocap joints",
            name="human36m_hmr_p2",
            regressor=_OF_MESH,
        ),
        _3dhp("mpi_inf_3dhp_annot3", "annot3", average="sequences"),
        _3dhp("mpi_inf_3dhp_univ_annot3", "univ_annot3"),
        _3dhp("mpi_inf_3dhp_mesh", "univ_annot3", regressor=_OF_MESH),
        _mesh("threedpw", _THREEDPW),
        _mesh(
            "threedpw",
            _THREEDPW,
            name="threedpw_dpmesh",
            vertex_root="smpl",
        ),
        _mesh(
            "threedpw",
            _THREEDPW,
            name="threedpw_24",
            smpl_joints=True,
        ),
        _mesh("threedpw_oc", "3DPW-OC: object occlusion, 17 recordings of all three splits", vertex_root="smpl"),
        _mesh(
            "threedpw_pc",
            "3DPW-PC: person occlusion, ranges of frames of six sequences of all three splits",
            vertex_root="smpl",
        ),
        _mesh(
            "threedpw_crowd", "3DPW-Crowd: courtyard_hug_00 and courtyard_dancing_00 of validation", vertex_root="smpl"
        ),
        _mesh("threedoh", "test: 1,290 pictures", "SMPL, neutral", vertex_root="smpl"),
        _mesh("bedlam", "val: last fifth of the sequences of each scene; not a published evaluation", "SMPL, neutral"),
        _mesh("ssp3d", "test: 311 images, pseudo ground truth"),
        Protocol(
            name="panoptic",
            dataset="panoptic",
            split="test: haggling, mafia, ultimatum, pizza",
            skeleton=_SKELETON,
            joints=(*LIMB_JOINTS, 8),
            ground_truth="joints triangulated from many cameras",
            regressor=_OF_MESH,
            groups="sequence",
            average="sequences",
        ),
        _pixels("halpe", "val: people of COCO val2017"),
        _pixels("coco", "val: people of val2017"),
        _pixels("crowdpose", "test: people"),
        _pixels("ochuman", "test: people of 2,231 images"),
    )
}


def published(name: str, **changes: Any) -> Protocol:
    """A protocol of the literature, with what a data module knows better: split, source of the 2-D input.

    Args:
        name: a key of `PUBLISHED`.
        changes: attributes of `Protocol`.

    Raises:
        InputError: if there is none of that name; the known are listed.
    """
    if name not in PUBLISHED:
        raise InputError(f"unknown protocol {name}; known are {', '.join(PUBLISHED)}")
    return replace(PUBLISHED[name], **changes)
