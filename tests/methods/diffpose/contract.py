"""Small methods for the contract that every method keeps, and their losses."""

from methods.diffpose import ContextEncoder, DiffPose

SMALL = {"width": 16, "num_blocks": 1, "num_heads": 2, "warmup_steps": 2}
SMALL_DIFFPOSE = {**SMALL, "context_width": 16, "context_blocks": 1, "context_epochs": 1}
SMALL_CLIP = {"encoder": "mixste", "num_frames": 4}
METHODS = {
    "context": lambda: ContextEncoder(**SMALL),
    "context_clip": lambda: ContextEncoder(**SMALL, **SMALL_CLIP, flip_test=True),
    "context_gaussian": lambda: ContextEncoder(head="gaussian", **SMALL),
    "diffpose_release": lambda: DiffPose(**SMALL_DIFFPOSE),
    "diffpose_paper": lambda: DiffPose(variant="paper", **SMALL_DIFFPOSE),
    "diffpose_clip": lambda: DiffPose(
        variant="paper", temporal_denoiser=True, flip_augmentation=True, **SMALL_DIFFPOSE, **SMALL_CLIP
    ),
    "diffpose_joint_mixtures": lambda: DiffPose(
        variant="paper", mixture_of="joint", covariance="full", depth_from="histogram", aggregation="reprojection",
        **SMALL_DIFFPOSE,
    ),
    "diffpose_residual": lambda: DiffPose(
        variant="paper", encoder="residual", denoiser="residual", normalisation="limbs", **SMALL_DIFFPOSE
    ),
    "diffpose_residual_clip": lambda: DiffPose(
        variant="paper", temporal_denoiser=True, denoiser="residual", normalisation="limbs", context_loss="distance",
        **SMALL_DIFFPOSE, **{**SMALL_CLIP, "encoder": "residual"},
    ),
    "standard": lambda: DiffPose(variant="standard", **SMALL_DIFFPOSE),
    "single_step": lambda: DiffPose(variant="single_step", **SMALL_DIFFPOSE),
    "stacked": lambda: DiffPose(variant="stacked", **SMALL_DIFFPOSE),
}  # fmt: skip
# Training loss of each step of two epochs: a refactoring must leave them as they are. Reset only with a reason.
GOLDEN = {
    "context": [1.22141, 1.19093, 1.16582, 0.82762, 0.84272, 0.85718],
    "context_clip": [0.17792, 0.16985, 0.16415, 0.15465, 0.14778, 0.14364],
    "context_gaussian": [128.58594, 124.80935, 121.16897, 84.73294, 85.88741, 87.09039],
    "diffpose_release": [1.22141, 1.07079, 1.07989, 268.02094, 209.41949, 182.11972],
    "diffpose_paper": [1.22141, 1.07079, 1.07989, 43.23708, 12.92472, 22.81781],
    "diffpose_clip": [0.17792, 0.16467, 0.206, 23.29794, 10.8039, 19.7132],
    "diffpose_joint_mixtures": [1.22141, 1.07079, 1.07989, 46.30117, 14.42094, 22.12385],
    "diffpose_residual": [0.37581, 0.31848, 0.17093, 12.83968, 6.85901, 10.80288],
    "diffpose_residual_clip": [0.64426, 0.99234, 0.45056, 7.50981, 4.51587, 6.06057],
    "standard": [1.22141, 1.07079, 1.07989, 70.90803, 50.87997, 67.77532],
    "single_step": [1.22141, 1.07079, 1.07989, 164.32976, 175.07109, 142.38034],
    "stacked": [1.22141, 1.07079, 1.07989, 164.32976, 148.0712, 108.70146],
}
