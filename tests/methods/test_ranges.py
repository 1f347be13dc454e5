"""Every method refuses numbers that cannot be meant, by the name that is typed."""

import math

import pytest

from methods.diffannot import DiffAnnot
from methods.diffpose import ContextEncoder, DiffPose
from methods.hmr import HMR
from noise2pose.errors import InputError


@pytest.mark.parametrize("make", [ContextEncoder, DiffPose, DiffAnnot, HMR])
@pytest.mark.parametrize("rate", [-1.0, math.nan, math.inf])
def test_a_learning_rate_is_a_number_of_at_least_0(make, rate):
    with pytest.raises(InputError, match=f"model.learning_rate is {rate}, expected at least 0"):
        make(learning_rate=rate)


@pytest.mark.parametrize(
    "make, options, message",
    [
        (DiffPose, {"dropout": 1.5}, "model.dropout is 1.5, expected 0 to 1"),
        (ContextEncoder, {"dropout": math.nan}, "model.dropout is nan, expected 0 to 1"),
        (HMR, {"keypoint_dropout": -0.1}, "model.keypoint_dropout is -0.1, expected 0 to 1"),
        (DiffAnnot, {"condition_dropout": 2.0}, "model.condition_dropout is 2.0, expected 0 to 1"),
        (DiffPose, {"width": 0}, "model.width is 0, expected at least 1"),
        (DiffPose, {"num_blocks": -1}, "model.num_blocks is -1, expected at least 1"),
        (DiffPose, {"width": 15}, "model.width is 15, expected a multiple of model.num_heads, 4"),
        (DiffPose, {"context_epochs": -1}, "model.context_epochs is -1, expected at least 0"),
        (HMR, {"hidden": 0}, "model.hidden is 0, expected at least 1"),
        (DiffAnnot, {"ema_decay": 1.1}, "model.ema_decay is 1.1, expected 0 to 1"),
    ],
)
def test_numbers_out_of_range_are_refused(make, options, message):
    with pytest.raises(InputError, match=message):
        make(**options)
