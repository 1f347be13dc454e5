"""OCHuman from its files to the 2-D joints of a test."""

import json

import numpy as np
import pytest

from datamodules.annotated_people import OCHuman
from noise2pose.errors import InputError
from noise2pose.skeletons import get
from scripts.prepare import main
from tests.datamodules import coco_family_tree


def test_people_of_both_splits_have_their_joints(tmp_path):
    coco_family_tree.write_ochuman(tmp_path / "source")
    args = ["ochuman", "--source", str(tmp_path / "source"), "--output", str(tmp_path / "out"), "--num_workers", "0"]
    assert main(args) == 0
    module = OCHuman(root=str(tmp_path / "out"))
    batches = {split: module.load(split) for split in ("val", "test")}
    assert [len(batch["box"]) for batch in batches.values()] == [2, 1]
    coco, ours = get("coco_17"), get("h36m_17")
    places = coco_family_tree.places(3, 17)
    wrist = batches["test"]["keypoints_2d"][0, ours.index("left_wrist")]
    np.testing.assert_allclose(wrist[:2], places[coco.index("left_wrist")], atol=1e-3)
    assert wrist[2] == 1.0  # hidden by others, and labelled
    manifest = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert manifest["counts"]["test: annotations without labelled joints, left out"] == 1
    assert module.protocols("test")[0].split == "test: people of OCHuman's test"
    assert module.protocols("test")[0].dimensions == 2
    with pytest.raises(InputError, match="ochuman has no train split"):
        module.load("train")


def test_the_other_layout_is_no_ochuman(tmp_path, capsys):
    (tmp_path / "ochuman.json").write_text('{"images": []}')
    assert main(["ochuman", "--source", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "ochuman_coco_format_val_range_0.00_1.00.json: not found" in capsys.readouterr().err
