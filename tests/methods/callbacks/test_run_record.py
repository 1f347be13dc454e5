"""What a run leaves behind."""

from methods.callbacks.description import samples_of
from tests.tiny import TinyPoses


def test_samples_of_a_batch_of_one_keep_their_dimensions():
    batch = TinyPoses(num_samples=2).load("val")
    prediction = {"joints_3d": batch["keypoints_3d"][..., :3]}
    shapes = {key: value.shape for key, value in samples_of(batch, prediction, 4).items()}
    assert shapes["image_size"] == (1, 2) and shapes["target"] == shapes["prediction"] == (1, 17, 3)
