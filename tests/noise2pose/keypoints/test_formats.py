"""Each format is written from known joints as its tool writes it, and read back."""

import json

import numpy as np
import pytest

from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.keypoints.files import as_keypoints, is_keypoint_file, read_keypoints
from noise2pose.keypoints.formats import FORMATS
from noise2pose.safe_pickle import write_object_npz
from scripts import predict
from tests.noise2pose.keypoints.walker import coco_walker, walker

SIZE = (1000, 800)


def poses(skeleton="coco_17", people=2, frames=3):
    """(T, P, J, 3) of a skeleton: joints that the walker knows, and a body elsewhere for the rest."""
    names = skeletons.get(skeleton).joints
    known = [name for name in names if name in {*skeletons.get("coco_17").joints, *skeletons.get("h36m_17").joints}]
    points = np.random.default_rng(1).uniform(400.0, 600.0, (frames, people, len(names), 3))
    points[..., 2] = 0.8
    for person in range(people):
        coco, h36m = coco_walker(frames, person), walker(frames, person)
        for name in known:
            source, joints = (coco, "coco_17") if name in skeletons.get("coco_17").joints else (h36m, "h36m_17")
            points[:, person, names.index(name), :2] = source[:, skeletons.get(joints).index(name), :2]
        points[:, person, :, 0] += 100.0 * person
    return points


def flat(points, digits=3):
    return [round(number, digits) for number in points.ravel().tolist()]


def save(path, content):
    path.write_text(json.dumps(content))
    return path


def check(read, points, form, skeleton, images=None):
    """The poses of each frame in turn, equal to a hundredth of a pixel."""
    expected = points.reshape(-1, *points.shape[-2:])
    assert read.form == form and read.skeleton == skeleton and len(read.names) == len(expected)
    assert np.abs(read.points[..., :2].numpy() - expected[..., :2]).max() < 0.01
    assert np.abs(read.points[..., 2].numpy() - expected[..., 2]).max() < 1e-3
    if images is not None:
        assert read.images == images


@pytest.mark.parametrize(("skeleton", "version"), [("openpose_25", 1.3), ("openpose_18", 1.0)])
def test_openpose_writes_a_file_for_each_image(tmp_path, skeleton, version):
    points = poses(skeleton)
    for frame, people in enumerate(points):
        listed = [{"person_id": [-1], "pose_keypoints_2d": flat(person), "face_keypoints_2d": []} for person in people]
        save(tmp_path / f"walk_{frame:012d}_keypoints.json", {"version": version, "people": listed})
    images = [f"walk_{frame:012d}" for frame in range(3) for _ in range(2)]
    check(read_keypoints(tmp_path), points, "OpenPose", skeleton, images)
    check(read_keypoints(tmp_path / "walk_000000000001_keypoints.json"), points[1:2], "OpenPose", skeleton)
    save(tmp_path / "walk_000000000003_keypoints.json", {"people": []})
    assert len(read_keypoints(tmp_path).names) == 6, "nobody in an image"
    (tmp_path / "walk_000000000004_keypoints.json").write_text('{"people": [')
    assert "1 file skipped, the first because " in read_keypoints(tmp_path).about(), "one of five is cut off"
    save(tmp_path / "notes.json", [{"image_id": 1, "keypoints": [1.0] * 51}])
    with pytest.raises(InputError, match="holds files of COCO and OpenPose"):
        read_keypoints(tmp_path)


def test_a_folder_for_each_camera_is_no_keypoint_file(tmp_path):
    (tmp_path / "front").mkdir()
    save(tmp_path / "front" / "a_keypoints.json", {"people": []})
    assert is_keypoint_file(tmp_path)
    with pytest.raises(InputError, match="no keypoint file in this folder, .*; give one of its folders: front"):
        read_keypoints(tmp_path)


def test_alphapose_by_image(tmp_path):
    points = poses("openpose_18")
    for key, values in (("bodies", "joints"), ("people", "pose_keypoints_2d")):
        content = {f"{t}.jpg": {key: [{values: flat(person)} for person in people]} for t, people in enumerate(points)}
        check(read_keypoints(save(tmp_path / "a.json", content)), points, "AlphaPose by image", "openpose_18")


@pytest.mark.parametrize("layout", ["video", "demo", "image"])
def test_mmpose(tmp_path, layout):
    points = poses(frames=1 if layout == "image" else 3)

    def instance(person):
        return {"keypoints": person[:, :2].tolist(), "keypoint_scores": person[:, 2].tolist(), "bbox": [[0, 0, 9, 9]]}

    frames = [{"frame_id": t, "instances": [instance(person) for person in people]} for t, people in enumerate(points)]
    content = {"video": frames, "image": frames[0]["instances"]}.get(layout)
    names = {str(number): joint for number, joint in enumerate(skeletons.get("coco_17").joints)}
    content = content or {"meta_info": {"dataset_name": "coco", "keypoint_id2name": names}, "instance_info": frames}
    read = read_keypoints(save(tmp_path / "results_walk.json", content))
    check(read, points, "MMPose", "coco_17")
    assert read.frames == ([None, None] if layout == "image" else [0, 0, 1, 1, 2, 2])
    assert ("assumed" in read.about()) == (layout != "demo"), "only a demo names its joints"


def test_mmpose_of_an_animal_is_refused(tmp_path):
    names = {"0": "left_eye", "1": "nose", "2": "root_of_tail", "3": "left_front_paw"}
    content = {"meta_info": {"keypoint_id2name": names}, "instance_info": []}
    with pytest.raises(InputError, match="not those of a person"):
        read_keypoints(save(tmp_path / "dog.json", content))


@pytest.mark.parametrize("skeleton", ["coco_17", "halpe_26", "coco_wholebody_133", "halpe_136"])
@pytest.mark.parametrize("spelling", [lambda i: i, float, str, lambda i: [float(i)]])
def test_results_of_detectors_with_tracks(tmp_path, skeleton, spelling):
    points = poses(skeleton)
    entries = [
        {
            "image_id": f"{t}.jpg",
            "category_id": 1,
            "keypoints": flat(points[t, p]),
            "score": 2.5,
            "idx": spelling(p + 1),
        }
        for t in (2, 0, 1)
        for p in (1, 0)
    ]
    read = read_keypoints(save(tmp_path / "alphapose-results.json", entries))
    check(read, points, "COCO", skeleton, [f"{t}.jpg" for t in range(3) for _ in range(2)])
    assert read.people == ["1", "2"] * 3 and "of 2 tracked people in 3 images" in read.about()


@pytest.mark.parametrize("skeleton", ["crowdpose_14", "jhmdb_15", "posetrack_17", "h36m_17", "aic_14", "mpii_16"])
def test_annotations_whose_category_names_the_joints(tmp_path, skeleton):
    points = poses(skeleton, people=1)
    spoken = [joint.replace("left_", "L ").replace("right_", "R ").title() for joint in skeletons.get(skeleton).joints]
    content = {
        "images": [{"id": t, "file_name": f"v1/{t:06d}.jpg", "width": 1000, "height": 800} for t in range(3)],
        "annotations": [
            {"image_id": t, "category_id": 1, "keypoints": flat(points[t]), "track_id": 4} for t in range(3)
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": spoken}],
    }
    read = read_keypoints(save(tmp_path / "a.json", content))
    expected = points
    if skeleton == "aic_14":  # whose joints CrowdPose has too, in another order
        order = [skeletons.get(skeleton).index(joint) for joint in skeletons.get("crowdpose_14").joints]
        expected, skeleton = points[:, :, order], "crowdpose_14"
    check(read, expected, "COCO", skeleton, [f"v1/{t:06d}.jpg" for t in range(3)])
    assert read.people == ["4"] * 3 and read.image_sizes is not None and read.image_sizes[0].tolist() == [1000, 800]
    assert "assumed" not in read.about()


def test_animals_among_people_are_left_out(tmp_path):
    person = {"id": 1, "name": "person", "keypoints": list(skeletons.get("coco_17").joints)}
    dog = {"id": 2, "name": "dog", "keypoints": ["left_eye", "nose", *(f"paw_{i}" for i in range(15))]}
    entries = [{"image_id": 1, "category_id": number, "keypoints": flat(coco_walker(1)[0])} for number in (1, 2, 2)]
    read = read_keypoints(save(tmp_path / "a.json", {"annotations": entries, "categories": [person, dog]}))
    assert len(read.names) == 1 and "2 entries skipped of category dog" in read.about()


def test_aic_mpii_and_ultralytics(tmp_path):
    points = poses("aic_14", people=1)
    content = [
        {
            "image_id": f"im{t}",
            "keypoint_annotations": {"human1": flat(np.insert(person[0][:, :2], 2, 1 + t, axis=1), 3)},
        }
        for t, person in enumerate(points)
    ]
    read = read_keypoints(save(tmp_path / "aic.json", content[:2]))
    points[0, ..., 2], points[1, ..., 2] = 1.0, 0.5
    check(read, points[:2], "AI Challenger", "aic_14", ["im0", "im1"])
    with pytest.raises(InputError, match="no pose has three joints"):
        read_keypoints(save(tmp_path / "unlabelled.json", content[2:]))

    points = poses("mpii_16", people=1)
    points[..., 2] = 1.0
    content = [
        {"image": f"{t}.jpg", "joints": person[0][:, :2].tolist(), "joints_vis": [1] * 16, "scale": 2.0}
        for t, person in enumerate(points)
    ]
    check(read_keypoints(save(tmp_path / "mpii.json", content)), points, "MPII", "mpii_16")

    points = poses(frames=1)
    content = [
        {"name": "person", "class": 0, "confidence": 0.9, "track_id": number,
         "keypoints": {"x": person[:, 0].tolist(), "y": person[:, 1].tolist(), "visible": person[:, 2].tolist()}}
        for number, person in enumerate(points[0])
    ]  # fmt: skip
    read = read_keypoints(save(tmp_path / "yolo.json", [*content, {**content[0], "class": 16}]))
    check(read, points, "Ultralytics", "coco_17")
    assert read.people == ["0", "1"] and "1 entry skipped of other classes" in read.about()


@pytest.mark.parametrize("extra", [[], [0.9], [0.9, 7]])
def test_yolo_text_has_shares_of_the_image(tmp_path, extra):
    points = poses()
    for t, people in enumerate(points):
        lines = [
            " ".join(
                f"{number:.8g}" for number in [0, 0.5, 0.5, 0.2, 0.2, *(person / [*SIZE, 1.0]).ravel(), *extra[:1]]
            )
            for person in people
        ]
        ends = [f" {person + 1}" if len(extra) == 2 else "" for person in range(2)]
        lines = [line + end for line, end in zip(lines, ends, strict=True)]
        (tmp_path / f"walk_{t}.txt").write_text("\n".join([*lines, "16 0.1 0.1 0.1 0.1" + " 0.2 0.2 0.9" * 17, ""]))
    read = read_keypoints(tmp_path)
    assert read.relative and "3 entries skipped of other classes" in read.about()
    check(
        as_keypoints(read, image_size=SIZE), points, "YOLO-pose", "coco_17", [f"walk_{t}" for t in (0, 0, 1, 1, 2, 2)]
    )
    assert read.people == (["1", "2"] * 3 if len(extra) == 2 else [None] * 6)


def test_yolo_text_of_pixels_is_refused(tmp_path):
    numbers = " ".join(f"{number:.2f}" for number in poses(people=1, frames=1).ravel())
    (tmp_path / "a.txt").write_text(f"0 500 400 100 300 {numbers}\n")
    with pytest.raises(InputError, match="a.txt: coordinates .* which are pixels; YOLO's are shares of the image"):
        read_keypoints(tmp_path / "a.txt")


def test_arrays_of_numpy_and_videopose3d(tmp_path):
    points = poses()
    np.save(tmp_path / "one.npy", points[:, 0])
    check(read_keypoints(tmp_path / "one.npy"), points[:, :1], "array", "coco_17")
    np.savez(tmp_path / "two.npz", keypoints=points, fps=30.0, image_size=SIZE)
    read = read_keypoints(tmp_path / "two.npz")
    check(read, points, "array", "coco_17", [f"two_{t:05d}" for t in range(3) for _ in range(2)])
    assert read.people == ["1", "2"] * 3 and read.frames == [0, 0, 1, 1, 2, 2] and read.fps == 30.0
    metadata = {"layout_name": "coco", "num_joints": 17, "video_metadata": {"walk.mp4": {"w": 1000, "h": 800}}}
    clip = points[:, 0, :, :2].astype(np.float32)
    write_object_npz(tmp_path / "vp.npz", "positions_2d", {"walk.mp4": {"custom": [lambda: clip]}})
    with np.load(tmp_path / "vp.npz", allow_pickle=True) as file:
        np.savez(tmp_path / "data_2d_custom_walk.npz", positions_2d=file["positions_2d"], metadata=np.array(metadata))
    read = read_keypoints(tmp_path / "data_2d_custom_walk.npz")
    points[..., 2] = 1.0
    check(read, points[:, :1], "a custom video of VideoPose3D", "coco_17")
    assert read.image_sizes is not None and read.image_sizes[0].tolist() == list(SIZE)


def test_the_encoding_of_a_file_does_not_matter(tmp_path):
    points = coco_walker(1)
    text = json.dumps([{"image_id": 1, "keypoints": flat(points)}])
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / "A.JSON").write_bytes(text.encode(encoding))
        check(read_keypoints(tmp_path / "A.JSON"), points[:, None], "COCO", "coco_17")


def test_a_format_can_be_named(tmp_path):
    assert predict.FORMATS == tuple(form.key for form in FORMATS)
    path = save(tmp_path / "a.json", [{"image_id": 1, "keypoints": flat(coco_walker(1))}])
    assert read_keypoints(path, form="coco").form == "COCO"
    with pytest.raises(InputError, match="is not as OpenPose writes it"):
        read_keypoints(path, form="openpose")
