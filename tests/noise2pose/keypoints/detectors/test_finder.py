"""Everybody in an image: one pose for each person, and who is left out."""

import numpy as np
import pytest
import torch
from PIL import Image

from noise2pose.annotation.detections import MODELS, detector_files
from noise2pose.errors import InputError
from noise2pose.keypoints.detectors.contract import People, Poses
from noise2pose.keypoints.detectors.finder import DetectorFiles, PeopleFinder, left_out_for
from noise2pose.skeletons import get
from tests.noise2pose.keypoints.detectors.onnx_files import blob, constant
from tests.noise2pose.keypoints.detectors.test_models import SIZE, suppressed, yolo_pose
from tests.places import ROOT, SHARED

PLAIN = "mean: [0, 0, 0]\nstd: [255, 255, 255]\nmargin: 1.0\n"
IMAGE = np.zeros((240, 320, 3), np.uint8)


def files_of(folder, boxes, order=range(17)):
    """A people detector that answers with boxes of a 320 x 240 input and a score, and a pose network for a spot."""
    people = constant(folder / "people.onnx", {"dets": [boxes]}, (320, 240))
    joints = blob(folder / "joints.onnx", order=order)
    for file in (people, joints):
        file.with_suffix(".yaml").write_text(PLAIN)
    return DetectorFiles(people, joints)


def lit(*spots):
    image = IMAGE.copy()
    for x, y in spots:
        image[y - 3 : y + 3, x - 3 : x + 3] = 255
    return image


BOXES = [
    [20, 40, 110, 160, 0.9],
    [22, 42, 112, 158, 0.8],
    [200, 40, 290, 160, 0.7],
    [5, 5, 15, 20, 0.6],
    [120, 10, 190, 90, 0.5],
]


def test_everybody_is_found_once_and_the_others_are_told(tmp_path):
    found = PeopleFinder(files_of(tmp_path, BOXES))(lit((65, 100), (245, 100)))
    assert found.joints.shape == (2, 17, 3) and found.scores.tolist() == pytest.approx([0.9, 0.7])
    assert (found.joints[:, :, 0].mean(dim=1) - torch.tensor([65.0, 245.0])).abs().max() < 12
    assert found.left_out == [
        "somebody at 5, 5 (10 x 15 pixels): under 24 pixels",
        "somebody at 120, 10 (70 x 80 pixels): with fewer than 4 joints",
    ]
    told = left_out_for([*found.left_out, "the file is empty", *found.left_out[:1]])
    assert told == "2 under 24 pixels, 1 with fewer than 4 joints"


def test_two_boxes_with_the_same_joints_are_one_person(tmp_path):
    """The second box overlaps too little to be suppressed, and its network looks at the same person."""
    boxes = [[20, 40, 110, 160, 0.9], [50, 30, 150, 170, 0.8]]
    found = PeopleFinder(files_of(tmp_path, boxes))(lit((75, 100)))
    assert len(found.joints) == 1 and found.left_out[0].endswith(": with the joints of somebody else")


def test_nobody_is_found_where_nobody_is(tmp_path):
    files = files_of(tmp_path, [[0, 0, 0, 0, 0]])
    found = PeopleFinder(files)(IMAGE)
    assert found.joints.shape == (0, 17, 3) and found.boxes.shape == (0, 4) and found.left_out == []


def test_joints_outside_the_image_are_not_seen(tmp_path):
    found = PeopleFinder(files_of(tmp_path, [[-40, -40, 80, 80, 0.9]]))(
        lit((40, 4))
    )  # the input reaches over the border
    seen = found.joints[0, :, 2] > 0
    assert 4 <= seen.sum() < 17 and (found.joints[0, ~seen] == 0).all() and (found.joints[0, seen, :2] >= 0).all()


def test_another_skeleton_is_mapped_by_the_names_of_its_joints(tmp_path):
    """Halpe's first 17 joints are COCO's; a network with others and their names gives the same poses."""
    expected = PeopleFinder(files_of(tmp_path, BOXES))(lit((65, 100)))
    order = list(range(16, -1, -1))
    names = [get("coco_17").joints[joint] for joint in order]
    files = files_of(tmp_path, BOXES, order)
    files.joints.with_suffix(".yaml").write_text(PLAIN + f"joints: {names}\n")
    assert torch.equal(PeopleFinder(files)(lit((65, 100))).joints, expected.joints)
    names = [
        name.replace("_eye", "_big_toe").replace("_ear", "_heel") for name in names
    ]  # not of COCO: no eyes, no ears
    files.joints.with_suffix(".yaml").write_text(PLAIN + f"joints: {names}\n")
    other = PeopleFinder(files)(lit((65, 100))).joints
    assert torch.equal(other[:, 5:], expected.joints[:, 5:]) and not other[:, 1:5].any()


def test_a_network_that_finds_people_needs_no_detector(tmp_path):
    file = constant(tmp_path / "pose.onnx", yolo_pose(), SIZE)
    assert PeopleFinder(DetectorFiles(None, file))(np.zeros((200, 400, 3), np.uint8)).joints.shape == (2, 17, 3)
    people = constant(tmp_path / "people.onnx", suppressed(), SIZE)
    people.with_suffix(".yaml").write_text(PLAIN)
    with pytest.raises(InputError, match="pose.onnx finds the people itself: leave out --person_detector"):
        PeopleFinder(DetectorFiles(people, file))
    with pytest.raises(InputError, match="finds no people itself: give --person_detector FILE, or fetch one"):
        PeopleFinder(DetectorFiles(None, blob(tmp_path / "joints.onnx")))


def test_the_files_and_their_descriptions_tell_a_detector_from_another(tmp_path):
    files = files_of(tmp_path, BOXES)
    before = files.hashes
    assert files.title == "people.onnx and joints.onnx" and len(before) == 4
    files.joints.with_suffix(".yaml").write_text(PLAIN + "margin: 1.3\n")
    assert files.hashes != before and files.hashes[:3] == before[:3]


def test_the_default_is_taken_where_nothing_is_given(tmp_path):
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(InputError, match="fetch the detector once"):
        detector_files(tmp_path, person_detector=tmp_path / "people.onnx")
    pose = tmp_path / "pose.onnx"
    assert detector_files(tmp_path, pose_model=pose) == DetectorFiles(None, pose)
    for name in MODELS:
        (tmp_path / name).write_bytes(b"")
    people, joints = (tmp_path / name for name in MODELS)
    assert detector_files(tmp_path) == DetectorFiles(people, joints)
    assert detector_files(tmp_path, pose_model=pose) == DetectorFiles(people, pose)
    other = tmp_path / "people.onnx"
    assert detector_files(tmp_path, other) == DetectorFiles(other, joints)
    assert detector_files(tmp_path, other, pose) == DetectorFiles(other, pose)
    assert detector_files(tmp_path).title == "blazepose"


def test_uncertain_people_are_told_so(tmp_path):
    """What a joint detector that knows whether somebody is there makes of it."""
    finder = PeopleFinder(files_of(tmp_path, BOXES[:1]))
    joints = torch.cat((100 + torch.rand(1, 17, 2), torch.ones(1, 17, 1)), dim=2)
    finder._joints = lambda image, people: Poses(joints, torch.tensor([0.2]))
    finder._joints.skeleton = "coco_17"
    finder._people = lambda image: People(torch.tensor([[50.0, 50.0, 150.0, 200.0]]), torch.ones(1))
    found = finder(IMAGE)
    assert not len(found.joints)
    assert found.left_out == ["somebody at 50, 50 (100 x 150 pixels): seen by the people detector only"]


FASTEST, MOVENET = (
    SHARED / "data/models/FastestDet.onnx",
    SHARED / "data/models/movenet_single_pose_lightning_ptq.tflite",
)
SKIER = SHARED / "data/photos/coco_000000000785_ccby20.jpg"
# Of COCO's annotations of image 785: nose, shoulders, wrists, hips, ankles, left before right.
ANNOTATED = {0: (367, 81), 5: (399, 108), 6: (358, 129), 9: (449, 165), 10: (309, 178), 11: (424, 203), 12: (393, 214)}
ANNOTATED |= {15: (466, 362), 16: (396, 341)}


@pytest.mark.skipif(not FASTEST.is_file(), reason="the shared models are not there")
def test_published_models_find_the_annotated_skier():
    pytest.importorskip("ai_edge_litert")
    found = PeopleFinder(DetectorFiles(FASTEST, MOVENET))(np.array(Image.open(SKIER)))
    assert len(found.joints) == 1 and not found.left_out
    distance = torch.stack([found.joints[0, joint, :2] - torch.tensor(place) for joint, place in ANNOTATED.items()])
    assert distance.norm(dim=1).mean() < 12 and (found.joints[0, list(ANNOTATED), 2] > 0.3).all()
    box = torch.tensor([280.8, 44.7, 499.5, 391.4])
    assert (found.boxes[0] - box).abs().max() < 45


@pytest.mark.skipif(not FASTEST.is_file(), reason="the shared models are not there")
def test_the_default_finds_a_group():
    pytest.importorskip("ai_edge_litert")
    if not all((ROOT / "data" / "detector" / name).is_file() for name in MODELS):
        pytest.skip("no models in data/detector: python scripts/prepare.py detector --output data/detector")
    image = np.array(Image.open(SHARED / "data/media/tfjs_three_people.jpg").convert("RGB"))
    found = PeopleFinder(detector_files(ROOT / "data" / "detector"))(image)
    assert len(found.joints) == 3
