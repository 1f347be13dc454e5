"""Small methods for the contract that every method keeps, and their losses."""

from methods.fmpose import FMPose

SMALL = {"width": 16, "num_blocks": 1, "num_heads": 2, "hidden": 32, "num_hypotheses": 3, "warmup_steps": 2}
METHODS = {
    "fmpose": lambda: FMPose(**SMALL),
    "fmpose_uncertain": lambda: FMPose(
        start="uncertain", normalisation="limbs", aggregation="reprojection", num_nearest=2, flip_augmentation=True,
        flip_test=True, **SMALL,
    ),
    "fmpose_residual": lambda: FMPose(network="residual", start="uncertain", **SMALL),
}  # fmt: skip
# Training loss of each step of two epochs: a refactoring must leave them as they are. Reset only with a reason.
GOLDEN = {
    "fmpose": [1.2085, 1.16128, 1.09253, 1.07732, 1.04322, 1.2392],
    "fmpose_uncertain": [0.25816, 0.22453, 0.15752, 0.16929, 0.15395, 0.14851],
    "fmpose_residual": [0.39885, 0.18661, 0.17367, 0.21403, 0.1534, 0.12992],
}
