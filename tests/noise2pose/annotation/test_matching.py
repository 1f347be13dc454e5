"""Which image a person of a keypoint file is in: never another one than the file names."""

import json
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from noise2pose.annotation.matching import match
from noise2pose.annotation.people import people_of_images
from noise2pose.errors import InputError
from noise2pose.images.photographs import find_images, open_image
from noise2pose.keypoints.files import read_keypoints
from tests.noise2pose.keypoints.walker import coco_walker


def photographs(folder, names, size=(100, 80)):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(folder / name)
    return [open_image(name, path) for name, path in find_images([folder])]


def keypoints(folder, images, ids=None):
    """A COCO file with a person in each image; the x of the nose is 100 times the number of the image."""
    listed, annotations = [], []
    for number, image in enumerate(images):
        person = coco_walker(1)[0]
        person[:, 0] += 100.0 * number - person[0, 0]
        person[:, 0] += 1.0  # nothing lies at 0
        identity = number if ids is None else ids[number]
        listed.append({"id": identity, "file_name": image})
        annotations.append({"image_id": identity, "keypoints": person.ravel().tolist()})
    path = folder / "keypoints.json"
    path.write_text(json.dumps({"images": listed, "annotations": annotations}))
    return read_keypoints(path)


def where(found):
    return {name: [round(float(person[0, 0])) // 100 for person in people] for name, people in found.items()}


@pytest.mark.parametrize(
    "stated", ["{0}/0001.jpg", "{0}\\0001.jpg", "/home/me/data/{0}/0001.jpg", "C:\\d\\{0}\\0001.png"]
)
def test_cameras_are_told_apart_by_their_folders(tmp_path, stated):
    images = photographs(tmp_path / "in", ["cam1/0001.jpg", "cam2/0001.jpg"])
    read = keypoints(tmp_path, [stated.format(camera) for camera in ("cam1", "cam2")])
    found, _ = match(images, read)
    assert where(found) == {"cam1/0001.jpg": [0], "cam2/0001.jpg": [1]}
    people, _ = people_of_images(images, found, read.skeleton)
    assert [person.name for person in people] == ["cam1/0001", "cam2/0001"]
    alone = [open_image("0001.jpg", tmp_path / "in/cam2/0001.jpg")]
    found, skipped = match(alone, read)
    assert where(found) == {"0001.jpg": [1]}, "of the folder that the image is in"
    assert [(name, reason[:35]) for name, reason in skipped] == [
        ("keypoints.json", "1 pose of other images than these, ")
    ]


def test_what_stays_ambiguous_is_refused_with_both_names(tmp_path):
    images = photographs(tmp_path / "in", ["cam1/0001.jpg", "cam2/0001.jpg"])
    with pytest.raises(InputError, match="0001.jpg may be cam1/0001.jpg or cam2/0001.jpg: give"):
        match(images, keypoints(tmp_path, ["0001.jpg"]))
    with pytest.raises(InputError, match="a/0001.jpg and b/0001.jpg may both be 0001.jpg: give"):
        match([open_image("0001.jpg", images[0].path)], keypoints(tmp_path, ["a/0001.jpg", "b/0001.jpg"]))
    with pytest.raises(InputError, match="images 5 and 8 are both called 0001.jpg, and cam1/0001.jpg can be one"):
        match(images[:1], keypoints(tmp_path, ["0001.jpg", "0001.jpg"], ids=[5, 8]))
    with pytest.raises(InputError, match="the first pose is of x.jpg, and no pose is of any of the images"):
        match(images, keypoints(tmp_path, ["x.jpg"]))


def test_endings_and_numbers(tmp_path):
    images = photographs(
        tmp_path / "in", ["0001.jpg", "0001.png", "0002.JPG", "walk.jpg", "walk#2.jpg", "000000000785.jpg"]
    )
    stated = ["0001.png", "0001.jpg", "0002.png", "walk#2.jpg", "785"]
    assert where(match(images, keypoints(tmp_path, stated))[0]) == {
        "0001.png": [0],
        "0001.jpg": [1],
        "0002.JPG": [2],
        "walk#2.jpg": [3],
        "000000000785.jpg": [4],
        "walk.jpg": [],
    }
    only = [image for image in images if image.file_name == "0001.jpg"]
    assert where(match(only, keypoints(tmp_path, stated))[0]) == {"0001.jpg": [1]}, "the png's person is not in the jpg"


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    root=st.sampled_from(["", "set/", "D:\\x\\", "./"]),
    ending=st.sampled_from(["jpg", "png"]),
)
def test_order_separators_endings_and_roots_move_nobody(tmp_path_factory, seed, root, ending):
    folder = tmp_path_factory.mktemp("any")
    names = [f"cam{camera}/{number}.jpg" for camera in (1, 2) for number in (7, 8, 10)]
    images = photographs(folder / "in", names)
    shuffled = list(names)
    random.Random(seed).shuffle(shuffled)
    separator = "\\" if "\\" in root else "/"
    stated = [root + name.replace("/", separator).replace("jpg", ending) for name in shuffled]
    found = where(match(images, keypoints(folder, stated))[0])
    assert found == {name: [shuffled.index(name)] for name in names}


def test_keypoints_of_a_photograph_that_was_not_turned_are_told(tmp_path):
    image = Image.new("RGB", (100, 80))
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image.save(tmp_path / "a.jpg", exif=exif)
    person = coco_walker(1)[0].ravel().tolist()
    about = {"images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}],
             "annotations": [{"image_id": 1, "keypoints": person}]}  # fmt: skip
    path = tmp_path / "keypoints.json"
    path.write_text(json.dumps(about))
    found, skipped = match([open_image("a.jpg", tmp_path / "a.jpg")], read_keypoints(path))
    ((name, reason),) = skipped
    assert not found and name == "a.jpg"
    assert reason.startswith("80 x 100 pixels, but 100 x 80 in ")
    assert reason.endswith("as it is stored: turn its keypoints as its EXIF data say")


def test_shares_become_pixels_of_each_image(tmp_path):
    images = photographs(tmp_path / "in", ["a.jpg"])
    points = coco_walker(1)[0] / [1000.0, 1000.0, 1.0]
    line = " ".join(str(number) for number in [0, 0.5, 0.5, 1, 1, *points.ravel()])
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(line)
    found, _ = match(images, read_keypoints(tmp_path / "labels"))
    assert torch.allclose(found["a.jpg"][0, :, :2], torch.tensor(points[:, :2] * [100, 80]).float(), atol=1e-3)
    assert np.allclose(found["a.jpg"][0, :, 2], points[:, 2])
