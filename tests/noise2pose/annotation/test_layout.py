import json
import re
from functools import partial

import numpy as np
import pytest
import roma
import torch

from methods.diffannot.reprojection import Keypoints
from noise2pose import cameras, skeletons
from noise2pose.annotation import layout
from noise2pose.annotation.layout import annotate_batch, empty, to_coco, to_text, vertices_of
from noise2pose.annotation.suspicion import (
    MAX_DISAGREEMENT,
    disagreement,
    disagreement_with_mirror,
    disagreement_with_noise,
)
from noise2pose.annotation.writer import AnnotationWriter, read_annotations
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.images.crops import box_of_keypoints
from noise2pose.images.mirroring import mirror_smpl
from noise2pose.keypoints.files import read_keypoints


def answered(count=3, seed=0):
    """A batch whose keypoints are the joints of the bodies that answer it."""
    generator = torch.Generator().manual_seed(seed)
    body = BodyModel.load("free")
    pose = roma.rotvec_to_rotmat(0.2 * torch.randn(count, 24, 3, generator=generator))
    smpl = {"global_orient": pose[:, 0], "body_pose": pose[:, 1:], "betas": torch.randn(count, 10, generator=generator)}
    translation = torch.tensor([0.2, -0.1, 5.0]).expand(count, 3).clone()
    focal, centre = torch.full((count, 2), 800.0), torch.tensor([320.0, 240.0]).expand(count, 2)
    pixels = cameras.project(body.joints(**smpl, translation=translation), focal, centre)
    batch = {
        "keypoints_2d": torch.cat((pixels, torch.ones(count, 17, 1)), dim=-1),
        "camera": {"focal": focal, "principal_point": centre, "image_size": 2 * centre},
        "sample_id": [f"person_{seed}_{i}" for i in range(count)],
    }
    return batch, {"smpl": smpl, "camera_translation": translation}, body


def test_arrays_give_the_body_back():
    batch, prediction, body = answered()
    arrays = annotate_batch(batch, prediction, body)
    assert {key: (array.shape[1:], array.dtype.kind) for key, array in arrays.items()} == {
        key: (shape, np.dtype(kind).kind) for key, (shape, kind) in layout.ARRAYS.items()
    }
    expected = body(**prediction["smpl"], translation=prediction["camera_translation"]).vertices
    for row in range(3):
        found = vertices_of({key: array[row] for key, array in arrays.items()}, body)
        assert torch.allclose(found, expected[row], atol=1e-5)
    assert arrays["reprojection_after"].max() < 1e-3 and not arrays["suspect"].any()


def test_suspects_are_suspected_in_words():
    batch, prediction, body = answered(6)
    batch["keypoints_2d"][0, 5:, 2] = 0.0
    batch["keypoints_2d"][1, :, 0] += 80.0
    prediction["camera_translation"][2] *= -1.0
    prediction["smpl"]["betas"][3] = torch.nan
    batch["keypoints_2d"][4, :, :2] += 5000.0
    arrays = annotate_batch(batch, prediction, body)
    assert arrays["suspect"].tolist() == [True] * 5 + [False]
    expected = (
        "5 joints are visible",
        "80 pixels from",
        "behind the camera",
        "not every number",
        "no keypoint is in the image",
    )
    for row, words in enumerate(expected):
        assert words in arrays["suspect_reasons"][row]
    content = json.loads(to_text(to_coco(arrays, {}, [])))
    assert content["annotations"][3]["smpl"]["betas"] == [None] * 10


def test_keypoints_of_another_size_of_the_image_are_suspect():
    batch, prediction, body = answered(2)
    batch["camera"]["image_size"][0] = batch["keypoints_2d"][0, :, :2].median(dim=0).values - 1.0
    reasons = annotate_batch(batch, prediction, body)["suspect_reasons"].tolist()
    assert re.search(r"^[1-7] of 17 keypoints are in the image, whose size may be another one$", reasons[0])
    assert reasons[1] == ""


def test_legs_that_nobody_saw_are_suspect_and_joints_say_whether_they_were_observed():
    skeleton = skeletons.get("h36m_17")
    legs = [skeleton.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("knee", "ankle")]
    batch, prediction, body = answered(4)
    batch["keypoints_2d"][:, legs, 2] = 0.0
    batch["keypoints_2d"][1, skeleton.index("left_hip"), 2] = 0.0
    batch["keypoints_2d"][2, skeleton.index("left_knee"), 2] = 0.5
    batch["keypoints_2d"][3, skeleton.index("left_knee"), 2] = 0.2
    arrays = annotate_batch(batch, prediction, body)
    hardly = "the legs were hardly seen, with a confidence of 0.20 at most"
    assert arrays["suspect_reasons"].tolist() == ["the legs were not seen and are made up"] * 2 + ["", hardly]
    assert np.flatnonzero(~arrays["observed"][2]).tolist() == sorted({*legs} - {skeleton.index("left_knee")})
    content = to_coco(arrays, {}, [])
    assert [about["observed"] for about in content["annotations"]] == arrays["observed"].tolist()


def test_a_body_of_two_people_is_suspect():
    """Somebody else's legs, or one of his hands, are too far away from the rest."""
    skeleton = skeletons.get("h36m_17")
    batch, prediction, body = answered(3)
    others = ([f"{side}_{joint}" for side in ("left", "right") for joint in ("knee", "ankle")], ["left_wrist"])
    for row, joints in enumerate(others):
        batch["keypoints_2d"][row, [skeleton.index(joint) for joint in joints], 0] += 200.0
    reasons = annotate_batch(batch, prediction, body)["suspect_reasons"].tolist()
    assert "are too far apart for one person" in reasons[0] and "hip and" in reasons[0]
    assert "the left wrist is 200 pixels from its keypoint" in reasons[1]
    assert "the keypoints of left elbow and left wrist are too far apart for one person" in reasons[1]
    assert reasons[2] == ""


def test_answers_that_disagree_are_suspect():
    batch, prediction, body = answered(2)
    joints = body.joints(**prediction["smpl"], translation=prediction["camera_translation"])
    other = joints + torch.tensor([1.0, 0.0, 0.0])  # moved as a whole: the same pose
    other[1, 5:] += 0.3
    apart = disagreement(joints, other)
    assert apart[0] < 1e-6 and apart[1] == pytest.approx(12 / 17 * 0.3 * 3**0.5, abs=1e-5)
    reasons = annotate_batch(batch, prediction, body, mirrored=apart)["suspect_reasons"].tolist()
    assert reasons == ["", "mirrored, the same person gets a body that is 367 mm away on average"]
    reasons = annotate_batch(batch, prediction, body, noisy=apart)["suspect_reasons"].tolist()
    assert reasons == ["", "slightly other keypoints give a body that is 367 mm away on average"]


def test_a_body_that_hangs_on_a_pixel_is_suspect():
    batch, prediction, body = answered(2)
    batch |= {"image": torch.full((2, 3, 8, 8), 0.5), "sample_id": ["person"] * 2}
    seen = batch["keypoints_2d"].clone()
    batch["keypoints_2d"][0, 3, 2] = 0.0

    def answer(changed, turn):
        moved = (changed["keypoints_2d"][..., :2] - seen[..., :2]).norm(dim=-1)
        assert (moved[1] > 0.0).all() and moved[0, 3] == 0.0
        assert moved.mean() < 0.02 * box_of_keypoints(seen)[:, 2].mean()
        assert 0.0 < (changed["image"] - 0.5).abs().mean() < 0.03
        turned = roma.rotvec_to_rotmat(torch.tensor([[0.0, turn, 0.0], [0.0, 0.0, 0.0]]))
        orient = turned @ prediction["smpl"]["global_orient"]
        return {**prediction, "smpl": {**prediction["smpl"], "global_orient": orient}}

    steady, unsteady = (
        disagreement_with_noise(partial(answer, turn=turn), batch, prediction, body) for turn in (0.0, 1.0)
    )
    assert steady.max() < 1e-6 and unsteady[0] > MAX_DISAGREEMENT and unsteady[1] < 1e-6
    assert "slightly other keypoints" in annotate_batch(batch, prediction, body, noisy=unsteady)["suspect_reasons"][0]


def test_the_mirrored_input_gives_the_mirrored_body():
    batch, prediction, body = answered(2)

    def answer(mirrored, turn=0.0):
        first = torch.allclose(mirrored["camera"]["image_size"][:, 0] - batch["keypoints_2d"][:, 0, 0],
                               mirrored["keypoints_2d"][:, 0, 0])  # fmt: skip
        assert first, "the batch was not mirrored"
        smpl = mirror_smpl(prediction["smpl"])
        turned = roma.rotvec_to_rotmat(torch.tensor([0.0, turn, 0.0]))
        return {**prediction, "smpl": {**smpl, "global_orient": turned @ smpl["global_orient"]}}

    assert disagreement_with_mirror(answer, batch, prediction, body).max() < 0.02  # the body is not quite symmetric
    assert disagreement_with_mirror(partial(answer, turn=1.0), batch, prediction, body).min() > MAX_DISAGREEMENT


def test_pycocotools_reads_and_evaluates_a_set():
    batch, prediction, body = answered(2)
    content = json.loads(to_text(to_coco(annotate_batch(batch, prediction, body, ["a.jpg", "a.jpg"]), {}, [])))
    for about in content["annotations"]:
        assert about["iscrowd"] == 0 and about["area"] == pytest.approx(about["bbox"][2] * about["bbox"][3], rel=1e-4)
    coco = pytest.importorskip("pycocotools.coco").COCO()
    coco.dataset = content
    coco.createIndex()
    assert coco.getAnnIds(iscrowd=False, areaRng=[0, 1e9]) == [1, 2]
    results = [{**about, "score": 1.0} for about in content["annotations"]]
    evaluation = pytest.importorskip("pycocotools.cocoeval").COCOeval(coco, coco.loadRes(results), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_the_reprojection_is_that_of_the_selectors():
    batch, prediction, body = answered(4)
    generator = torch.Generator().manual_seed(1)
    batch["keypoints_2d"][..., :2] += 9.0 * torch.randn(4, 17, 2, generator=generator)
    batch["keypoints_2d"][..., 2] = torch.rand(4, 17, generator=generator).round(decimals=1)
    batch["box"] = torch.tensor([320.0, 240.0, 300.0]).expand(4, 3)
    arrays = annotate_batch(batch, prediction, body)
    evidence = Keypoints.of(batch)
    joints = body.joints(**prediction["smpl"])
    expected = evidence.distance(evidence.project(joints, prediction["camera_translation"]))
    assert np.allclose(arrays["reprojection_after"], expected, rtol=1e-4) and expected.min() > 5.0
    batch["keypoints_2d"][0, :, 2] = 0.0
    assert np.isnan(annotate_batch(batch, prediction, body)["reprojection_after"]).tolist() == [True] + 3 * [False]


def test_coco_layout_is_read_again(tmp_path):
    batch, prediction, body = answered()
    batch["keypoints_2d"][0, 9, 2], batch["keypoints_2d"][0, 10, 2] = 0.5, 0.0
    batch["keypoints_2d"][1, :3, 2] = torch.tensor([0.81, 0.33, 0.17])
    prediction["refinement"] = {
        "step": torch.tensor([0, 4, 2]),
        "reprojection_before": torch.tensor([3.0, 2.0, 1.0]),
        "reprojection_after": torch.tensor([2.0, 1.0, 0.5]),
    }
    arrays = annotate_batch(batch, prediction, body, ["a.jpg", "a.jpg", "b.jpg"])
    path = tmp_path / "annotations.json"
    content = to_coco(arrays, {"method": "fake"}, [("c.jpg", "the file is empty")])
    path.write_text(to_text(content))
    assert json.loads(path.read_text()) == content
    assert [image["id"] for image in content["images"]] == [1, 2]
    assert content["images"][0] == {"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}
    first, second = content["annotations"][:2]
    assert (first["num_keypoints"], first["keypoints"][29], first["keypoints"][30:33]) == (16, 1, [0, 0, 0])
    assert (second["id"], second["image_id"], second["step"], second["reprojection_before"]) == (2, 1, 4, 2.0)
    assert len(second["smpl"]["pose"]) == 72 and second["smpl"]["gender"] == "neutral"
    gendered = to_coco(arrays, {"gender": "female"}, [])
    assert {person["smpl"]["gender"] for person in gendered["annotations"]} == {"female"}
    assert content["categories"][0]["skeleton"][0] == [1, 2] and len(content["categories"][0]["keypoints"]) == 17
    assert content["skipped"] == [{"file_name": "c.jpg", "reason": "the file is empty"}]
    read = read_keypoints(path)
    assert read.names == ["a", "a#2", "b"] and read.skeleton == "h36m_17"
    assert torch.allclose(read.points[..., 2], batch["keypoints_2d"][..., 2], atol=1e-4)
    assert torch.allclose(read.points[1], batch["keypoints_2d"][1], atol=1e-3)


def write(folder, parts, fingerprint="x"):
    writer = AnnotationWriter(folder, {"method": "fake", "body": "free"}, {"checkpoint": fingerprint})
    for number in parts:
        if not writer.has(number):
            batch, prediction, body = answered(2, seed=number)
            writer.write(number, annotate_batch(batch, prediction, body), [(f"broken_{number}.jpg", "why")])
    return writer


def test_an_interrupted_set_ends_as_one_that_was_not(tmp_path):
    whole = write(tmp_path / "whole", range(3)).finish(3, [("a.jpg", "nobody")])
    assert whole == (6, 0, 4)
    write(tmp_path / "parts", [0])
    write(tmp_path / "parts", [2])
    assert write(tmp_path / "parts", [1]).finish(3, [("a.jpg", "nobody")]) == whole
    names = sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert names == ["annotations.json", "annotations.npz", "state.json"]
    for name in names:
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    arrays = read_annotations(tmp_path / "whole")
    assert arrays["poses"].shape == (6, 72) and str(arrays["gender"]) == "neutral" and str(arrays["body"]) == "free"
    assert write(tmp_path / "parts", []).finished and write(tmp_path / "parts", []).finish(3) == whole


def test_what_was_made_from_something_else_is_not_touched(tmp_path):
    write(tmp_path, [0])
    with pytest.raises(InputError, match="holds annotations made with another checkpoint: delete it"):
        write(tmp_path, [1], fingerprint="y")
    with pytest.raises(InputError, match="part_000001.npz cannot be read"):
        write(tmp_path, []).finish(2)
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(InputError, match="state.json cannot be read"):
        write(tmp_path, [])


def test_a_set_without_people(tmp_path):
    writer = AnnotationWriter(tmp_path, {}, {})
    writer.write(0, None, [("a.jpg", "broken")])
    assert writer.finish(1) == (0, 0, 1)
    assert read_annotations(tmp_path)["poses"].shape == (0, 72) == empty()["poses"].shape


def portrait(knees_at, confidence):
    """Somebody whose knees and ankles are at one height of an image that is 640 pixels wide and 480 high."""
    batch, prediction, body = answered(1)
    skeleton = skeletons.get("h36m_17")
    legs = [skeleton.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("knee", "ankle")]
    batch["keypoints_2d"] = batch["keypoints_2d"].clone()
    batch["keypoints_2d"][0, legs, 1] = knees_at
    batch["keypoints_2d"][0, legs, 2] = confidence
    return str(annotate_batch(batch, prediction, body)["suspect_reasons"][0])


def test_legs_that_a_detector_puts_at_the_border_of_a_portrait_are_suspect():
    said = "the legs are near the border of the image or beyond it, with a confidence of 0.60 at most"
    assert said in portrait(479.0, 0.6) and said in portrait(520.0, 0.6)
    assert "near the border" in portrait(430.0, 0.5), "a tenth of the image above its lower border"
    assert "border" not in portrait(400.0, 0.6) and "border" not in portrait(300.0, 0.35), "within the image"
    assert "border" not in portrait(479.0, 0.95), "certain, as annotated ones are"
    assert "border" not in portrait(479.0, 0.0) and "legs were not seen" in portrait(479.0, 0.0)
