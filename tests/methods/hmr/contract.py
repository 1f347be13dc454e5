"""Small methods for the contract that every method keeps, and their losses."""

from methods.hmr import HMR

SMALL_HMR = {"width": 32, "hidden": 32, "warmup_steps": 2}
METHODS = {
    "hmr_keypoints": lambda: HMR(
        input="keypoints", box_input=True, keypoint_dropout=0.1, keypoint_noise=0.01, **SMALL_HMR
    ),
    # At the usual learning rate a rounding of 1e-7 grows to 1e-3 in six steps: batch normalisation divides by the
    # small spread of features of noise images. The losses would then be those of one processor.
    "hmr_image": lambda: HMR(
        backbone="efficientnet_lite0", adversarial=True, vertex_weight=0.0, learning_rate=1e-5, **SMALL_HMR
    ),
}  # fmt: skip
# Training loss of each step of two epochs: a refactoring must leave them as they are. Reset only with a reason.
GOLDEN = {
    "hmr_keypoints": [7.6415, 8.9082, 9.01007, 7.96884, 8.01391, 6.93593],
    "hmr_image": [5.55462, 4.86386, 5.03551, 5.96119, 4.71992, 4.72174],
}
