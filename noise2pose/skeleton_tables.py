"""The joints of every skeleton, in the order of its data set. Use them through `noise2pose.skeletons`."""

from noise2pose.skeleton import Skeleton, tree


def _both(*joints: str) -> tuple[str, ...]:
    """Left then right of each joint, as COCO orders them."""
    return tuple(f"{side}_{joint}" for joint in joints for side in ("left", "right"))


def _one_side(side: str, *joints: str) -> tuple[str, ...]:
    return tuple(f"{side}_{joint}" for joint in joints)


_LIMBS = {
    "left_knee": "left_hip",
    "left_ankle": "left_knee",
    "left_elbow": "left_shoulder",
    "left_wrist": "left_elbow",
}
_LEG, _ARM = ("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist")
_COCO = ("nose", *_both("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"))
_COCO_PARENTS = {
    **_LIMBS,
    "left_eye": "nose",
    "left_ear": "left_eye",
    "left_shoulder": "left_ear",
    "left_hip": "left_shoulder",
}
_HALPE_26 = (*_COCO, "head_top", "neck", "pelvis", *_both("big_toe", "small_toe", "heel"))
_FOOT_PARENTS = {f"left_{point}": "left_ankle" for point in ("big_toe", "small_toe", "heel")}
_HALPE_PARENTS = {
    **_LIMBS,
    "neck": "pelvis",
    "nose": "neck",
    "head_top": "nose",
    "left_eye": "nose",
    "left_ear": "left_eye",
    "left_shoulder": "neck",
    "left_hip": "pelvis",
    **_FOOT_PARENTS,
}
_FACE = tuple(f"face_{number}" for number in range(68))
_HANDS = tuple(f"{side}_hand_{number}" for side in ("left", "right") for number in range(21))
_HAND_PARENTS = {  # each finger is a chain of four from the root of the hand
    f"left_hand_{number}": "left_wrist" if number == 0 else f"left_hand_{0 if number % 4 == 1 else number - 1}"
    for number in range(21)
}
_H36M = (
    *("pelvis", *_one_side("right", *_LEG), *_one_side("left", *_LEG), "spine", "thorax", "chin", "head_top"),
    *(*_one_side("left", *_ARM), *_one_side("right", *_ARM)),
)
_H36M_PARENTS = {
    **_LIMBS,
    "left_hip": "pelvis",
    "spine": "pelvis",
    "thorax": "spine",
    "chin": "thorax",
    "head_top": "chin",
    "left_shoulder": "thorax",
}
_H36M_32_PARENTS = {
    **_H36M_PARENTS,
    "left_foot_base": "left_ankle",
    "left_toe": "left_foot_base",
    "spine_base": "pelvis",
    "spine": "spine_base",
    "left_collar": "spine",  # as published, although it lies at the thorax
    "left_shoulder": "left_collar",
    "left_thumb_base": "left_wrist",
    "left_thumb": "left_thumb_base",
    "left_hand_base": "left_wrist",
    "left_hand": "left_hand_base",
}
_H36M_ARM_32 = ("collar", "shoulder", "elbow", "wrist", "thumb_base", "thumb", "hand_base", "hand")
_3DHP_PARENTS = {
    **_LIMBS,
    "left_hip": "pelvis",
    "spine": "pelvis",
    "neck": "spine",
    "head": "neck",
    "head_top": "head",
    "left_shoulder": "neck",
}
_3DHP_28_PARENTS = {
    **_3DHP_PARENTS,
    "spine2": "spine",
    "spine3": "spine2",
    "spine4": "spine3",
    "neck": "spine4",
    "left_clavicle": "neck",
    "left_shoulder": "left_clavicle",
    "left_hand": "left_wrist",
    "left_foot": "left_ankle",
    "left_toe": "left_foot",
}
_SMPL = (
    *("pelvis", *_both("hip"), "spine1", *_both("knee"), "spine2", *_both("ankle"), "spine3", *_both("foot")),
    *("neck", *_both("collar"), "skull_base", *_both("shoulder", "elbow", "wrist", "hand")),
)
_SMPL_PARENTS = {
    **_LIMBS,
    "left_hip": "pelvis",
    "spine1": "pelvis",
    "spine2": "spine1",
    "spine3": "spine2",
    "left_foot": "left_ankle",
    "neck": "spine3",
    "skull_base": "neck",
    "left_collar": "spine3",
    "left_shoulder": "left_collar",
    "left_hand": "left_wrist",
}
_OPENPOSE_PARENTS = {
    **_LIMBS,
    "nose": "neck",
    "left_shoulder": "neck",
    "left_hip": "neck",
    "left_eye": "nose",
    "left_ear": "left_eye",
}
_NECK_PARENTS = {**_LIMBS, "head_top": "neck", "left_shoulder": "neck", "left_hip": "neck"}

SKELETONS: dict[str, Skeleton] = {
    skeleton.name: skeleton
    for skeleton in (
        tree("h36m_17", _H36M, _H36M_PARENTS),
        # As 16 joints are taken from these: without the one between neck and nose.
        tree(
            "h36m_16",
            tuple(joint for joint in _H36M if joint != "chin"),
            {**_H36M_PARENTS, "head_top": "thorax"},
        ),
        tree(
            "h36m_32",
            (
                "pelvis",
                *_one_side("right", *_LEG, "foot_base", "toe"),
                *_one_side("left", *_LEG, "foot_base", "toe"),
                *("spine_base", "spine", "thorax", "chin", "head_top"),
                *_one_side("left", *_H36M_ARM_32),
                *_one_side("right", *_H36M_ARM_32),
            ),
            _H36M_32_PARENTS,
        ),
        tree(
            "mpi_inf_3dhp_17",
            (
                *("head_top", "neck"),
                *_one_side("right", *_ARM),
                *_one_side("left", *_ARM),
                *_one_side("right", *_LEG),
                *_one_side("left", *_LEG),
                *("pelvis", "spine", "head"),
            ),
            _3DHP_PARENTS,
        ),
        tree(
            "mpi_inf_3dhp_28",
            (
                *("spine3", "spine4", "spine2", "spine", "pelvis", "neck", "head", "head_top"),
                *_one_side("left", "clavicle", *_ARM, "hand"),
                *_one_side("right", "clavicle", *_ARM, "hand"),
                *_one_side("left", *_LEG, "foot", "toe"),
                *_one_side("right", *_LEG, "foot", "toe"),
            ),
            _3DHP_28_PARENTS,
        ),
        # The first 17 are those of mpi_inf_3dhp_17: MuCo is composed of that data set's people.
        tree(
            "muco_21",
            (
                *("head_top", "neck"),
                *_one_side("right", *_ARM),
                *_one_side("left", *_ARM),
                *_one_side("right", *_LEG),
                *_one_side("left", *_LEG),
                *("pelvis", "spine", "head"),
                *("right_hand", "left_hand", "right_toe", "left_toe"),
            ),
            {**_3DHP_PARENTS, "left_hand": "left_wrist", "left_toe": "left_ankle"},
        ),
        tree(
            "crowdpose_14",
            (*_both("shoulder", "elbow", "wrist", "hip", "knee", "ankle"), "head_top", "neck"),
            _NECK_PARENTS,
        ),
        tree("coco_17", _COCO, _COCO_PARENTS),
        tree("halpe_26", _HALPE_26, _HALPE_PARENTS),
        tree("halpe_136", (*_HALPE_26, *_FACE, *_HANDS), {**_HALPE_PARENTS, **_HAND_PARENTS}),
        tree(
            "openpose_18",
            (
                *("nose", "neck"),
                *_one_side("right", *_ARM),
                *_one_side("left", *_ARM),
                *_one_side("right", *_LEG),
                *_one_side("left", *_LEG),
                *("right_eye", "left_eye", "right_ear", "left_ear"),
            ),
            _OPENPOSE_PARENTS,
        ),
        tree(
            "panoptic_19",  # "coco19" of the CMU Panoptic Studio, whose body centre lies between the hips
            (
                *("neck", "nose", "pelvis"),
                *_one_side("left", *_ARM),
                *_one_side("left", *_LEG),
                *_one_side("right", *_ARM),
                *_one_side("right", *_LEG),
                *("left_eye", "left_ear", "right_eye", "right_ear"),
            ),
            _HALPE_PARENTS,
        ),
        tree(
            "openpose_25",  # BODY_25
            (
                *("nose", "neck"),
                *_one_side("right", *_ARM),
                *_one_side("left", *_ARM),
                "pelvis",
                *_one_side("right", *_LEG),
                *_one_side("left", *_LEG),
                *("right_eye", "left_eye", "right_ear", "left_ear"),
                *_one_side("left", "big_toe", "small_toe", "heel"),
                *_one_side("right", "big_toe", "small_toe", "heel"),
            ),
            {**_HALPE_PARENTS, **_OPENPOSE_PARENTS, "neck": "pelvis", "left_hip": "pelvis"},
        ),
        tree(
            "coco_wholebody_133",
            (
                *_COCO,
                *_one_side("left", "big_toe", "small_toe", "heel"),
                *_one_side("right", "big_toe", "small_toe", "heel"),
                *_FACE,
                *_HANDS,
            ),
            {**_FOOT_PARENTS, **_COCO_PARENTS, **_HAND_PARENTS},
        ),
        tree(
            "aic_14",  # AI Challenger
            (
                *_one_side("right", *_ARM),
                *_one_side("left", *_ARM),
                *_one_side("right", *_LEG),
                *_one_side("left", *_LEG),
                *("head_top", "neck"),
            ),
            _NECK_PARENTS,
        ),
        tree(
            "mpii_16",
            (
                *_one_side("right", "ankle", "knee", "hip"),
                *_one_side("left", "hip", "knee", "ankle"),
                *("pelvis", "thorax", "upper_neck", "head_top"),
                *_one_side("right", "wrist", "elbow", "shoulder"),
                *_one_side("left", "shoulder", "elbow", "wrist"),
            ),
            {
                **_LIMBS,
                "thorax": "pelvis",
                "left_hip": "pelvis",
                "upper_neck": "thorax",
                "left_shoulder": "thorax",
                "head_top": "upper_neck",
            },
        ),
        tree(
            "jhmdb_15",
            (
                *("neck", "spine", "face"),
                *(
                    f"{side}_{joint}"
                    for joint in ("shoulder", "hip", "elbow", "knee", "wrist", "ankle")
                    for side in ("right", "left")
                ),
            ),
            {**_LIMBS, "neck": "spine", "face": "neck", "left_shoulder": "neck", "left_hip": "spine"},
        ),
        tree(
            "posetrack_17",
            ("nose", "upper_neck", "head_top", *_both("ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")),
            {
                **_LIMBS,
                "nose": "upper_neck",
                "head_top": "nose",
                "left_ear": "nose",
                "left_shoulder": "upper_neck",
                "left_hip": "left_shoulder",
            },
        ),
        tree("smpl_24", _SMPL, _SMPL_PARENTS),
        tree(
            "dpmesh_30",  # of DPMesh's and 3DCrowdNet's releases: SMPL's joints, and points on the skin of the head
            (*_SMPL, "nose", *_both("eye", "ear"), "head_top"),
            {
                **_SMPL_PARENTS,
                "nose": "skull_base",
                "left_eye": "nose",
                "left_ear": "left_eye",
                "head_top": "skull_base",
            },
        ),
        tree(
            "lsp_14",
            (
                *_one_side("right", "ankle", "knee", "hip"),
                *_one_side("left", "hip", "knee", "ankle"),
                *_one_side("right", "wrist", "elbow", "shoulder"),
                *_one_side("left", "shoulder", "elbow", "wrist"),
                *("neck", "head_top"),
            ),
            _NECK_PARENTS,
        ),
    )
}
