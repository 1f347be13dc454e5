"""Pieces of configuration for data: one replaces another on the command line, and nothing of the first may stay."""

import pytest
import yaml

from tests.places import ROOT

PIECES = sorted((ROOT / "configs" / "data").glob("*_[cf]*.yaml"))
MOTION = [path for path in PIECES if path.stem.rsplit("_", 1)[-1] in ("clip", "frame")]
MOTION = [path for path in MOTION if path.stem != "uiprmd_kinect_frame"]  # has neither training nor clips


@pytest.mark.parametrize("path", MOTION, ids=lambda path: path.stem)
def test_motion_says_which_frames_are_taken(path):
    # The parser keeps settings of the piece that is replaced where the new one says nothing: Human3.6M in the place of
    # CMU would be tested on every tenth frame.
    settings = yaml.safe_load(path.read_text())["init_args"]
    assert {"num_frames", "train_stride"} <= set(settings)
    assert settings["num_frames"] > 1 or "eval_stride" in settings
