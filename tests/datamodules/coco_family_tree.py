"""Small COCO, Halpe, CrowdPose and MuCo downloads in their publishers' layouts, with everything known by hand."""

import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, width: int, height: int, seed: int = 0) -> None:
    """A real JPEG of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    Image.fromarray(small).resize((width, height)).save(path, quality=80)


def write_json(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def person(number: int, image: int, joints: np.ndarray, visibility, **others) -> dict:
    """An annotation with (J, 2) places and their visibility; absent joints are zeros, as published."""
    v = np.broadcast_to(np.asarray(visibility, float), (len(joints),))
    flat = np.where(v[:, None] > 0, np.concatenate((joints, v[:, None]), axis=1), 0.0).ravel()
    low, high = joints.min(axis=0), joints.max(axis=0)
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [*low.round(2).tolist(), *(high - low).round(2).tolist()],
        "keypoints": [int(value) if float(value).is_integer() else round(float(value), 3) for value in flat],
        "num_keypoints": int((v > 0).sum()),
        "segmentation": [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]],
    }


def body(number: int) -> dict:
    """SMPL parameters of an annotation."""
    generator = np.random.default_rng(number)
    return {
        "pose": (0.2 * generator.standard_normal(72)).round(4).tolist(),
        "shape": (0.5 * generator.standard_normal(10)).round(4).tolist(),
        "trans": [0.1, -0.2, round(4.0 + 0.001 * number, 4)],
    }


def places(number: int, joints: int, width: int = 320, height: int = 240) -> np.ndarray:
    """(J, 2) whole pixels inside an image."""
    generator = np.random.default_rng(1000 + number)
    return generator.integers([20, 20], [width - 20, height - 20], (joints, 2)).astype(float)


def fits(numbers, errors=None) -> dict:
    """NeuralAnnot's file of some annotations."""
    return {
        str(number): {
            "smpl_param": body(number),
            "cam_param": {"focal": [1200.0 + number, 1201.0], "princpt": [160.5, 120.5]},
            **({} if errors is None else {"fit_err": errors[number]}),
        }
        for number in numbers
    }


def write_coco(folder: Path) -> None:
    """Train: 4 images, 3 with people; annotations 11, 12 (a hidden joint), 13 (left half), 14 without joints, 15 a
    crowd. Val: 2 images, annotations 21 and 22. NeuralAnnot has bodies of 11 and 13."""
    half = [1.0 if joint % 2 else 0.0 for joint in range(17)]
    hidden = [1.0 if joint == 9 else 2.0 for joint in range(17)]
    train = [
        person(11, 101, places(11, 17), 2),
        person(12, 101, places(12, 17), hidden),
        person(13, 102, places(13, 17), half),
        person(14, 102, places(14, 17), 0),
        {**person(15, 103, places(15, 17), 0), "iscrowd": 1},
    ]
    val = [person(21, 201, places(21, 17), 2), person(22, 202, places(22, 17), 2)]
    for split, numbers, annotations in (("train", range(101, 105), train), ("val", range(201, 203), val)):
        images = [{"id": i, "file_name": f"{i:012d}.jpg", "width": 320, "height": 240} for i in numbers]
        for image in images:
            write_image(folder / f"{split}2017" / image["file_name"], 320, 240, image["id"])
        content = {"info": {}, "licenses": [], "images": images, "annotations": annotations}
        content["categories"] = [{"id": 1, "name": "person", "keypoints": ["nose", "left_eye"], "skeleton": [[1, 2]]}]
        write_json(folder / "annotations" / f"person_keypoints_{split}2017.json", content)
    write_json(folder / "annotations" / "MSCOCO_train_SMPL_NeuralAnnot.json", fits([11, 13]))


def write_ochuman(folder: Path) -> None:
    """Val: one image of two people who hide each other, 1 and 2. Test: one image, 3 and 4; 4 has no labelled joint."""
    hidden = [1.0 if joint in (9, 13) else 2.0 for joint in range(17)]
    for split, numbers in (("val", (1, 2)), ("test", (3, 4))):
        image = {"id": 1, "file_name": f"{split}_000001.jpg", "width": 320, "height": 240}
        write_image(folder / "images" / image["file_name"], 320, 240, numbers[0])
        seen = {4: 0}
        annotations = [person(number, 1, places(number, 17), seen.get(number, hidden)) for number in numbers]
        content = {"images": [image], "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
        write_json(folder / f"ochuman_coco_format_{split}_range_0.00_1.00.json", content)


def write_halpe(folder: Path) -> None:
    """Train: 5 images of HICO-DET, val: 1 of COCO. Scores go on without end; num_keypoints is 3 everywhere.

    Train annotations by what a filter of at most 2 people, 60 pixels, 10 joints, 2 limbs and 0.35 says: 1 fine, 2 and
    3 and 4 in one image, 5 small, 6 with 6 scores under 0.35 but limbs whole, 7 with no whole limb; 8 has no list.
    """
    score = np.full(136, 0.8)
    weak, limbless = score.copy(), score.copy()
    weak[[5, 7, 9, 6, 8, 10]] = 0.2  # both arms: 8 core joints are left
    limbless[[7, 8, 13]] = 0.1  # both elbows and a knee: 11 core joints are left, one limb whole
    small = 100 + 0.2 * places(5, 136)
    small = small.min(axis=0) + 50 * (small - small.min(axis=0)) / np.ptp(small, axis=0)
    train = [
        person(1, 1, places(1, 136), score),
        *(person(number, 2, places(number, 136), score) for number in (2, 3, 4)),
        person(5, 3, small, score),
        person(6, 3, places(6, 136), weak),
        person(7, 4, places(7, 136), limbless),
        person(8, 5, places(8, 136), score),
    ]
    train[0]["keypoints"][0:2] = [-3.5, 20.25]  # the nose lies outside the image
    train[0]["keypoints"][5] = 1.25  # a score above 1
    del train[-1]["keypoints"]
    val = [person(51, 285, places(51, 136), score)]
    names = {"train": [(i, f"HICO_train2015_{i:08d}.jpg") for i in range(1, 6)], "val": [(285, "000000000285.jpg")]}
    folders = {"train": "hico_20160224_det/images/train2015", "val": "val2017"}
    for split, annotations in (("train", train), ("val", val)):
        for annotation in annotations:
            annotation["num_keypoints"] = 3
        images = [{"id": i, "file_name": name, "width": 320, "height": 240} for i, name in names[split]]
        for image in images:
            write_image(folder / folders[split] / image["file_name"], 320, 240, image["id"])
        write_json(
            folder / f"halpe_{split}_v1.json",
            {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]},
        )


def write_crowdpose(folder: Path) -> None:
    """Two images a split, three people each split (numbers 1 to 3 of train, 11 to 13 of val, 21 to 23 of test). Width
    and height are swapped in train and test. Bodies of train: errors 2.5, 5.0 and 7.5."""
    for split, first in (("train", 1), ("val", 11), ("test", 21)):
        swapped = split != "val"
        images = [
            {
                "id": 100_000 + first + i,
                "file_name": f"{100_000 + first + i}.jpg",
                "width": 240 if swapped else 320,
                "height": 320 if swapped else 240,
                "crowdIndex": 0.25 + 0.5 * i,
            }
            for i in range(2)
        ]
        for image in images:
            write_image(folder / "images" / image["file_name"], 320, 240, image["id"])
        pairs = ((first, 0), (first + 1, 0), (first + 2, 1))
        annotations = [person(number, images[i]["id"], places(number, 14), 2) for number, i in pairs]
        write_json(folder / "json" / f"crowdpose_{split}.json", {"images": images, "annotations": annotations})
    errors = {1: 2.5, 2: 5.0, 3: 7.5}
    write_json(folder / "json" / "CrowdPose_train_SMPL_NeuralAnnot.json", fits([1, 2, 3], errors))


def muco_person(number: int, image: int, depth: float, focal, centre) -> dict:
    """An annotation with 21 joints in millimetres, their projection, and its tight box."""
    generator = np.random.default_rng(number)
    joints = 300.0 * generator.uniform(-1, 1, (21, 3)) + [0.0, 0.0, depth]
    joints[14] = [10.0, 20.0, depth]
    pixels = joints[:, :2] / joints[:, 2:] * focal + centre
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    return {
        "id": number,
        "image_id": image,
        "keypoints_cam": joints.tolist(),
        "keypoints_img": pixels.tolist(),
        "keypoints_vis": [number % 2 == 0] * 21,
        "bbox": [*low.tolist(), *(high - low).tolist()],
    }


def write_muco(folder: Path) -> None:
    """Three composed images with 2, 1 and 3 people; nearest are annotations 1, 2 and 4. A body of 0, 1 and 4."""
    focal, centre = np.array([1500.0, 1490.0]), np.array([160.0, 118.0])
    images, annotations, number = [], [], 0
    depths = [[4000.0, 3000.0], [3500.0], [5000.0, 2500.0, 6000.0]]
    for image, people in enumerate(depths):
        name = f"{'un' if image == 2 else ''}augmented_set/{image:02d}/{image:06d}.jpg"
        write_image(folder / name, 320, 240, image)
        entry = {"id": image, "file_name": name, "width": 320, "height": 240}
        images.append({**entry, "f": focal.tolist(), "c": centre.tolist()})
        for depth in people:
            annotations.append(muco_person(number, image, depth, focal, centre))
            number += 1
    write_json(folder / "MuCo-3DHP.json", {"images": images, "annotations": annotations, "categories": []})
    write_json(folder / "smpl_param.json", {str(i): body(i) for i in (0, 1, 4)})
