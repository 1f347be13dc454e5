"""Any model file: every layout is decoded, every description is followed, a wrong file says what to do."""

import importlib

import numpy as np
import pytest
import torch

from noise2pose.errors import InputError
from noise2pose.keypoints.detectors.contract import People
from noise2pose.keypoints.detectors.models import ModelJoints, ModelPeople
from noise2pose.keypoints.detectors.networks import Network, Port
from noise2pose.skeletons import get
from tests.noise2pose.keypoints.detectors.onnx_files import OFFSETS, STRIDE, blob, constant

IMAGE = np.zeros((200, 400, 3), np.uint8)
SIZE = (64, 48)  # of the inputs: the letterbox has 8 rows above and below, 6.25 pixels of the image for one
BOX = torch.tensor([10.0, 12.0, 34.0, 36.0])  # in pixels of the input


def cells():
    """Of a network of strides 8, 16 and 32 at `SIZE`: column, row and stride of each."""
    found = []
    for stride in (8, 16, 32):
        rows, columns = -(-SIZE[1] // stride), -(-SIZE[0] // stride)
        found += [(column, row, stride) for row in range(rows) for column in range(columns)]
    return found


def yolo_v8():
    values = np.zeros((1, 4 + 3, len(cells())), np.float32)
    values[0, :, 7] = [22, 24, 24, 24, 0.1, 0.9, 0.2]  # of class 1
    values[0, :, 8] = [23, 24, 24, 24, 0.1, 0.8, 0.2]  # the same person
    values[0, :, 9] = [50, 24, 20, 20, 0.1, 0.2, 0.9]  # of another class
    return {"output0": values}


def yolo_v5():
    values = np.zeros((1, 3 * len(cells()), 5 + 3), np.float32)
    values[0, 7] = [22, 24, 24, 24, 0.95, 0.1, 0.947, 0.2]
    values[0, 9] = [50, 24, 20, 20, 0.95, 0.1, 0.2, 0.9]
    return {"output0": values}


def yolox():
    values = np.zeros((1, len(cells()), 5 + 3), np.float32)
    number = 9
    column, row, stride = cells()[number]
    values[0, number] = [22 / stride - column, 24 / stride - row, *np.log([24 / stride] * 2), 1.0, 0.1, 0.9, 0.2]
    return {"output": values}


def end_to_end():
    values = np.zeros((1, 300, 6), np.float32)
    values[0, :2] = [[10, 12, 34, 36, 0.9, 1], [40, 14, 60, 34, 0.9, 2]]
    return {"output0": values}


def fastest_det():
    values = np.full((1, 5 + 3, 3, 4), -50.0, np.float32)
    values[:, 0], values[:, 5:] = 0.0, 0.0
    x, y = 22 / 64 * 4, 24 / 48 * 3
    column, row = int(x), int(y)
    shares = [24 / 64, 24 / 48]
    values[0, :5, row, column] = [0.9, *np.arctanh([x - column, y - row]), *(np.log(s / (1 - s)) for s in shares)]
    values[0, 5:, row, column] = [0.1, 0.9, 0.2]
    return {"758": values}


def ssd():
    boxes = np.array([[[12 / 48, 10 / 64, 36 / 48, 34 / 64], [0.2, 0.6, 0.8, 0.9]]], np.float32)  # y before x
    return {"detection_boxes": boxes, "detection_classes": [[1.0, 2.0]], "detection_scores": [[0.9, 0.9]]}


def ssd_of_all_classes():
    return {"boxes": [[BOX.tolist(), [40, 14, 60, 34]]], "confidences": [[[0.1, 0.9, 0.2], [0.1, 0.2, 0.9]]]}


def suppressed():
    return {"dets": [[[*BOX, 0.9], [40, 14, 60, 34, 0.9]]], "labels": [[1, 2]]}


def without_batch():
    """One detection of an image, as torchvision gives it: no dimension is that of the images."""
    return {"boxes": [BOX.tolist()], "labels": [1.0], "scores": [0.9]}


LAYOUTS = [without_batch, yolo_v8, yolo_v5, yolox, end_to_end, fastest_det, ssd, ssd_of_all_classes, suppressed]
SCALE = "mean: [0, 0, 0]\nstd: [255, 255, 255]\n"  # which the layout of many publishers does not tell


@pytest.mark.parametrize("fit", ["letterbox", "corner", "stretch"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_layout_gives_the_same_box(tmp_path, layout, fit):
    file = constant(tmp_path / "model.onnx", layout(), SIZE)
    file.with_suffix(".yaml").write_text(f"{SCALE}fit: {fit}\nperson_class: 1\n")
    people = ModelPeople(file)(IMAGE)
    zoom = torch.tensor([400 / 64, 200 / 48 if fit == "stretch" else 400 / 64]).repeat(2)
    padding = torch.tensor([0.0, 8.0 if fit == "letterbox" else 0.0]).repeat(2)
    expected = ((BOX - padding) * zoom).minimum(torch.tensor([400.0, 200.0]).repeat(2))
    assert len(people.boxes) == 1 and torch.allclose(people.boxes[0], expected, atol=1e-2)
    assert people.scores.item() == pytest.approx(0.9, abs=1e-3)


def test_the_class_person_is_that_of_the_metadata(tmp_path):
    file = constant(tmp_path / "m.onnx", yolo_v8(), SIZE, metadata={"names": "{0: 'cat', 1: 'person', 2: 'dog'}"})
    assert len(ModelPeople(file)(IMAGE).boxes) == 1
    plain = constant(tmp_path / "plain.onnx", yolo_v8(), SIZE)
    assert len(ModelPeople(plain)(IMAGE).boxes) == 0  # class 0 has no score
    plain.with_suffix(".yaml").write_text("person_class: 7")
    with pytest.raises(
        InputError, match=r"output0 1x7x\d+, which is not yolo_v8 with a class 7: write `head and person_class` to"
    ):
        ModelPeople(plain)


class Quantised(Network):
    """Stands for a LiteRT detector whose input stores pixels as they are and means numbers from -1 to 1."""

    kind, quantisation, metadata = "uint8", (1 / 128, 128), {}
    input = Port("image", (1, 48, 64, 3))
    outputs = [Port(f"TFLite_Detection_PostProcess{end}", ()) for end in ("", ":1", ":2", ":3")]

    def __init__(self, file):
        self.file = file

    def __call__(self, image):
        stored = image / self.quantisation[0] + self.quantisation[1]
        share = 36 / 48 if abs(float(stored[0, 24, 32, 0]) - 200) < 0.5 else 13 / 48
        boxes = torch.tensor([[[12 / 48, 10 / 64, share, 34 / 64]]])
        return [boxes, torch.tensor([[0.0]]), torch.tensor([[0.9]]), torch.tensor([1.0])]


def test_stored_pixels_of_a_quantised_network_are_those_of_the_image(tmp_path, monkeypatch):
    monkeypatch.setattr("noise2pose.keypoints.detectors.description.open_network", Quantised)
    model = ModelPeople(tmp_path / "ssd.tflite")
    people = model(np.full((96, 128, 3), 200, np.uint8))
    assert torch.allclose(people.boxes, 2 * BOX[None], atol=1e-3) and people.scores.item() == pytest.approx(0.9)


def spotted(x, y, colour, width=400, height=200):
    """An image with one bright spot."""
    image = np.zeros((height, width, 3), np.uint8)
    image[y - 6 : y + 6, x - 6 : x + 6, colour] = 255
    return image


PLAIN = "mean: [0, 0, 0]\nstd: [255, 255, 255]\nmargin: 1.0\n"
PERSON = People(torch.tensor([[150.0, 20.0, 270.0, 180.0]]), torch.ones(1))
ZOOM = 160 / 128  # pixels of the image for one of the input of `blob`


def expected_joints(x, y):
    return torch.tensor([[x + ZOOM * STRIDE * i, y + ZOOM * STRIDE * j] for i, j in OFFSETS])


@pytest.mark.parametrize("head", ["heatmap", "simcc"])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_joints_are_where_the_spot_says(tmp_path, head, layout, colour):
    file = blob(tmp_path / "model.onnx", head=head, layout=layout)
    file.with_suffix(".yaml").write_text(f"{PLAIN}colour: {colour}\n")
    seen, other = (0, 2) if colour == "rgb" else (2, 0)
    model = ModelJoints(file)
    found = model(spotted(205, 97, seen), PERSON).joints[0]
    assert model.skeleton == "coco_17" and not model.finds_people
    # A cell of the heat-map is five pixels of the image, of which the decoder knows a quarter; SimCC's has no quarters.
    assert (found[:, :2] - expected_joints(205, 97)).abs().max() < ZOOM * STRIDE / 2 + 0.1
    assert found[:, 2].min() > 0.5
    blind = model(spotted(205, 97, other), PERSON).joints[0]
    assert not blind[:, 2].any()  # the network looks at the other colour


def test_the_order_of_the_joints_is_that_of_their_names(tmp_path):
    """A file with its joints in another order gives the same poses once they are named, and other ones before."""
    names = list(get("coco_17").joints)
    order = np.random.default_rng(0).permutation(17)
    plain, mixed = blob(tmp_path / "plain.onnx"), blob(tmp_path / "mixed.onnx", order=order)
    for file in (plain, mixed):
        file.with_suffix(".yaml").write_text(PLAIN)
    image = spotted(205, 97, 0)
    expected, unnamed = (ModelJoints(file)(image, PERSON).joints for file in (plain, mixed))
    assert not torch.allclose(expected, unnamed, atol=1.0)
    spelled = [names[joint].replace("left_", "L ").replace("right_", "R ").title() for joint in order]
    mixed.with_suffix(".yaml").write_text(PLAIN + f"joints: {spelled}\n")
    model = ModelJoints(mixed)
    assert model.skeleton == "coco_17" and torch.equal(model(image, PERSON).joints, expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("joints: [nose, left_eye]", "joints has 2 names, but .* answers with 17 different joints"),
        ("joints: [" + ", ".join(["nose"] * 17) + "]", "joints has nose twice"),
        (
            "joints: [" + ", ".join(f"paw_{number}" for number in range(17)) + "]",
            "its joints are not those of a person",
        ),
        ("skeleton: mpii_16", "has 17 joints in an order that is not known: write `joints:"),
        ("colour: grey", "colour is 'grey', expected rgb or bgr"),
        ("size: 640", "size is 640, expected a list of 2 numbers"),
        ("score: high", "score is 'high', expected a number"),
        ("colours: rgb", "unknown colours; known are head, size"),
        ("- rgb", "expected keys and values"),
        ("colour: [", "model.yaml cannot be read"),
        ("head: yolox", "answers an image of 96 x 128 with head yolox, which is no known layout of joints: write"),
    ],
)
def test_a_wrong_description_is_one_line(tmp_path, text, message):
    file = blob(tmp_path / "model.onnx")
    file.with_suffix(".yaml").write_text(text)
    with pytest.raises(InputError, match=message) as error:
        ModelJoints(file)
    assert "\n" not in str(error.value) and "model" in str(error.value)


def test_a_wrong_model_is_one_line(tmp_path):
    classifier = constant(tmp_path / "classifier.onnx", {"logits": np.zeros((1, 1000), np.float32)}, SIZE)
    several = constant(tmp_path / "several.onnx", {"a": np.zeros((1, 5, 7)), "b": np.zeros((1, 7))}, SIZE)
    text = tmp_path / "text.onnx"
    text.write_text("no model")
    other = tmp_path / "model.pt"
    other.write_bytes(b"")
    for kind in (ModelPeople, ModelJoints):
        with pytest.raises(
            InputError, match=r"classifier.onnx answers an image of 64 x 48 with logits 1x1000.*`head: "
        ):
            kind(classifier)
        with pytest.raises(
            InputError, match=r"a 1x5x7, b 1x7, which is no known layout .*write `head: .*several.yaml$"
        ):
            kind(several)
        with pytest.raises(InputError, match="text.onnx is not a model that onnxruntime reads"):
            kind(text)
        with pytest.raises(InputError, match="model.pt: expected a model ending in .onnx or .tflite"):
            kind(other)
        with pytest.raises(InputError, match="missing.onnx does not exist"):
            kind(tmp_path / "missing.onnx")
    stated = constant(tmp_path / "stated.onnx", {"logits": np.zeros((1, 1000), np.float32)}, SIZE)
    for kind, head in (
        (ModelPeople, "yolo_v8"),
        (ModelPeople, "ssd"),
        (ModelJoints, "regression"),
        (ModelJoints, "yolo_pose"),
    ):
        stated.with_suffix(".yaml").write_text(f"{SCALE}head: {head}\n")
        with pytest.raises(
            InputError, match=f"stated.onnx answers with logits 1x1000, which is not {head}.*write `head"
        ):
            kind(stated)
    untold = constant(tmp_path / "untold.onnx", suppressed(), SIZE)
    with pytest.raises(InputError, match="does not tell the scale of the image: write `mean and std"):
        ModelPeople(untold)


def test_an_open_size_is_asked_for(tmp_path):
    file = blob(tmp_path / "open.onnx", open_size=True)
    with pytest.raises(
        InputError, match=r"open.onnx takes image 1x3x\?x\?: write `size: \[WIDTH, HEIGHT\]` to .*open.yaml"
    ):
        ModelJoints(file)
    file.with_suffix(".yaml").write_text(PLAIN + "size: [96, 128]\n")
    fixed = blob(tmp_path / "fixed.onnx")
    fixed.with_suffix(".yaml").write_text(PLAIN)
    image = spotted(205, 97, 0)
    assert torch.equal(ModelJoints(file)(image, PERSON).joints, ModelJoints(fixed)(image, PERSON).joints)


def yolo_pose():
    """Two people, the second one twice; joints in rows of x, y and score."""
    values = np.zeros((1, 5 + 51, len(cells())), np.float32)
    joints = np.array([[12 + joint, 14 + joint, 0.8] for joint in range(17)], np.float32)
    for column, (x, score) in enumerate(((0, 0.9), (28, 0.8), (29, 0.7))):
        values[0, :5, column] = [22 + x, 24, 24, 24, score]
        values[0, 5:, column] = (joints + [x, 0, 0]).flatten()
    return {"output0": values}


def yolo_pose_end_to_end():
    columns = yolo_pose()["output0"][0, :, :2].T
    corners = np.concatenate([columns[:, :2] - columns[:, 2:4] / 2, columns[:, :2] + columns[:, 2:4] / 2], axis=1)
    values = np.zeros((1, 300, 57), np.float32)
    values[0, :2] = np.concatenate([corners, columns[:, 4:5], np.zeros((2, 1)), columns[:, 5:]], axis=1)
    return {"output0": values}


def pose_boxes():
    rows = yolo_pose_end_to_end()["output0"][0, :2]
    return {"dets": rows[None, :, :5], "keypoints": rows[None, :, 6:].reshape(1, 2, 17, 3)}


@pytest.mark.parametrize("layout", [yolo_pose, yolo_pose_end_to_end, pose_boxes], ids=lambda layout: layout.__name__)
def test_networks_that_find_people_give_their_joints_too(tmp_path, layout):
    file = constant(tmp_path / "model.onnx", layout(), SIZE)
    file.with_suffix(".yaml").write_text("fit: letterbox")
    model = ModelJoints(file)
    people, poses = model.search(IMAGE)
    assert model.finds_people and people.scores.tolist() == pytest.approx([0.9, 0.8])
    assert torch.allclose(people.boxes[0], torch.tensor([62.5, 25.0, 212.5, 175.0]))
    assert poses.joints.shape == (2, 17, 3)
    assert torch.allclose(poses.joints[0, 3], torch.tensor([15 * 6.25, (17 - 8) * 6.25, 0.8]))
    assert torch.allclose(poses.joints[1, 3], torch.tensor([43 * 6.25, (17 - 8) * 6.25, 0.8]))


def test_a_missing_runtime_is_one_line(tmp_path, monkeypatch):
    file = blob(tmp_path / "model.onnx")

    def missing(name):
        raise ImportError(f"no module {name}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(InputError, match=r"needs onnxruntime: pip install -e '.\[onnx\]'"):
        ModelJoints(file)
    lite = tmp_path / "model.tflite"
    lite.write_bytes(b"")
    with pytest.raises(InputError, match=r"needs ai-edge-litert: pip install -e '.\[detection\]'"):
        ModelPeople(lite)
