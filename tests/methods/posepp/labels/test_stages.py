"""The stages detect, filter, refine and head over painted images, and over wrong labels."""

import numpy as np
import pytest
import torch

from datamodules.motion import pose_bank
from methods.posepp.labels.refinement import Refiner
from methods.posepp.labels.settings import Detector, Filter, HeadPose
from methods.posepp.labels.stages import DetectStage, EstimatorFinder, FilterStage, HeadStage, RefineStage, make_finder
from methods.posepp.people import conditions, sampling
from methods.posepp.people.body import Body, join_pose
from methods.posepp.records import Record
from methods.posepp.settings import Settings, read_settings
from methods.posepp.stages import STAGES, Definition
from noise2pose import skeletons
from noise2pose.errors import InputError
from noise2pose.shards import npz_arrays, read_manifest, read_shard, shard_path
from scripts import generate
from tests.body_method import BodyMethod
from tests.methods.posepp import painter

SETTINGS = Settings(samples=10, image_size=96)
FLIP = list(skeletons.get("coco_17").flip_order)


def after(stage, name, records):
    """The records with what a stage made of them, without those that it left out, and the reasons of these."""
    results = stage.process(records)
    kept = [
        Record(record.id, {**record.files, name: result.files})
        for record, result in zip(records, results, strict=True)
        if not result.reason
    ]
    return kept, {result.id: result.reason for result in results if result.reason}


@pytest.fixture(scope="module")
def body():
    return Body("free")


@pytest.fixture(scope="module")
def painted(body):
    records = [Record(sample, {}) for sample in range(SETTINGS.samples)]
    records, _ = after(sampling.SampleStage(SETTINGS, body, pose_bank.synthetic(240)), "sample", records)
    records, _ = after(conditions.RenderStage(SETTINGS, body), "render", records)
    return after(painter.Painter(), "generate", records)[0]


@pytest.fixture(scope="module")
def detected(painted):
    return after(DetectStage(make_finder(Detector(source="simulated"), 0)), "detect", painted)[0]


def with_detections(records, change):
    changed = []
    for record in records:
        found = change(record, record.arrays("detect")["detections"].copy())
        from methods.posepp.records import files_of

        changed.append(Record(record.id, {**record.files, "detect": files_of({"detections": found})}))
    return changed


def test_simulated_people_are_kept_and_wrong_ones_are_not(detected):
    kept, reasons = after(FilterStage(Filter()), "filter", detected)
    assert len(kept) >= 0.7 * len(detected) and set(reasons.values()) <= {"misaligned", "mirror", "too_few_points"}
    facts = kept[0].facts("filter")
    assert facts["kept"] and facts["yaw"] == kept[0].facts("sample")["yaw"] and facts["person"] == 0
    nobody = with_detections(detected, lambda record, found: found[:0])
    assert set(after(FilterStage(Filter()), "filter", nobody)[1].values()) == {"no_person"}
    others = detected[1:] + detected[:1]
    wrong = [Record(a.id, {**a.files, "detect": b.files["detect"]}) for a, b in zip(detected, others, strict=True)]
    assert len(after(FilterStage(Filter()), "filter", wrong)[1]) > 0.8 * len(detected)
    exact = with_detections(detected, lambda record, found: record.arrays("render")["keypoints_2d"][None])
    assert not after(FilterStage(Filter()), "filter", exact)[1]


def test_detections_do_not_depend_on_the_batch(painted):
    stage = DetectStage(make_finder(Detector(source="simulated"), 0))
    together = stage.process(painted)
    assert [stage.process([record])[0].files for record in painted] == [result.files for result in together]
    other = DetectStage(make_finder(Detector(source="simulated"), 1)).process(painted)
    assert other[0].files != together[0].files


def test_without_a_refiner_labels_stay_and_with_one_only_seen_joints_move(detected):
    kept, _ = after(FilterStage(Filter()), "filter", detected)
    for record, result in zip(kept, RefineStage(None, 64).process(kept), strict=True):
        arrays = npz_arrays(result.files["npz"])
        assert np.array_equal(arrays["keypoints_2d"], record.arrays("render")["keypoints_2d"])
        assert not arrays["moved"].any()
    torch.manual_seed(0)
    method = Refiner(channels=16, num_layers=1).eval()
    torch.nn.init.constant_(method.decoder.moves[0][2].bias, 0.2)  # moves everything right and down
    for record, result in zip(kept, RefineStage(method, 64).process(kept), strict=True):
        arrays, label = npz_arrays(result.files["npz"]), record.arrays("render")["keypoints_2d"]
        hidden = label[:, 2] == 0
        assert arrays["kept_initial"][hidden].all() and np.array_equal(arrays["keypoints_2d"][:, 2], label[:, 2])
        moved = ~arrays["kept_initial"]
        assert (arrays["keypoints_2d"][moved, :2] > label[moved, :2]).all()
        assert np.allclose(arrays["moved"], np.linalg.norm(arrays["keypoints_2d"] - label, axis=-1), atol=1e-3)


def test_a_head_that_looks_elsewhere_is_turned_in_the_stored_pose(body, detected):
    exact = with_detections(detected, lambda record, found: record.arrays("render")["keypoints_2d"][None])
    kept, _ = after(FilterStage(Filter()), "filter", exact)
    stage = HeadStage(HeadPose(steps=60), body)
    same = stage.process(kept)
    assert not any(npz_arrays(result.files["npz"])["accepted"] for result in same)
    wrong = []
    from methods.posepp.records import files_of

    for record in kept:  # the label's head looks 40 degrees to the side of the image's
        arrays = record.arrays("sample")
        pose = arrays["body_pose"].copy()
        pose[3 * 14 + 1] += 0.7
        files = {**record.files["sample"], **files_of({**arrays, "body_pose": pose})}
        wrong.append(Record(record.id, {**record.files, "sample": files}))
    accepted = 0
    for record, result in zip(wrong, stage.process(wrong), strict=True):
        arrays, label = npz_arrays(result.files["npz"]), join_pose(record.arrays("sample"))
        after_turn = join_pose(arrays)
        others = [joint for joint in range(24) if joint not in (12, 15)]
        assert np.allclose(after_turn[others], label[others], atol=1e-5)
        if arrays["accepted"]:
            accepted += 1
            assert arrays["residual_after"] <= 0.8 * arrays["residual_before"]
            assert not np.allclose(after_turn[[12, 15]], label[[12, 15]], atol=0.05)
        else:
            assert np.array_equal(after_turn, label)
    seen = sum((record.arrays("render")["keypoints_2d"][:5, 2] > 0).sum() >= 4 for record in wrong)
    assert accepted >= 0.5 * seen and seen > 0


def test_all_stages_run_from_the_command_line_and_list_every_sample(tmp_path, monkeypatch):
    monkeypatch.setitem(STAGES, "generate", Definition(("sample", "render"), (), lambda *_: painter.Painter()))
    config = tmp_path / "settings.yaml"
    config.write_text(
        "samples: 6\nshard_size: 3\nimage_size: 64\nposes: {number: 120}\ndetect: {source: simulated}\n"
        "filter: {least_ap: 0.2}\nhead: {steps: 3}\n"
    )
    assert generate.main(["all", str(tmp_path / "out"), "-c", str(config)]) == 0
    for shard in (0, 1):
        entries = read_manifest(shard_path(tmp_path / "out" / "head", shard))
        verdicts = read_manifest(shard_path(tmp_path / "out" / "filter", shard))
        assert [entry["id"] for entry in entries] == [3 * shard + number for number in range(3)]
        for entry, verdict in zip(entries, verdicts, strict=True):
            assert entry["reason"] == verdict["reason"]
        written = dict(read_shard(shard_path(tmp_path / "out" / "head", shard)))
        assert set(written) == {entry["id"] for entry in entries if not entry["reason"]}


def test_detectors_that_are_missing_or_of_another_kind_are_refused(tmp_path):
    with pytest.raises(InputError, match="detect.checkpoint is empty"):
        make_finder(Detector(), 0)
    with pytest.raises(InputError, match="detect.pose_model is empty"):
        make_finder(Detector(source="files"), 0)
    with pytest.raises(InputError, match="does not exist"):
        make_finder(Detector(checkpoint=str(tmp_path / "none.ckpt")), 0)
    with pytest.raises(InputError, match="detect.source is guess, expected estimator, files, simulated"):
        read_settings([], ["detect.source=guess"])
    with pytest.raises(InputError, match="filter.least_ap is 2.0, expected 0 to 1"):
        read_settings([], ["filter.least_ap=2"])


def test_a_method_of_the_suite_is_a_detector(painted):
    class Points(BodyMethod):
        answers = "keypoints_2d"

        def forward(self, batch):
            assert batch["image"].shape[1:] == (3, 64, 64)
            centre = batch["box"][:, None, :2].expand(-1, 17, 2)
            return {"keypoints_2d": torch.cat((centre, torch.full_like(centre[..., :1], 0.7)), dim=-1)}

    found = EstimatorFinder(Points(), 64)(painted)
    boxes = [record.arrays("render")["box"] for record in painted]
    assert all(np.allclose(people[0, 0, :2], box[:2]) for people, box in zip(found, boxes, strict=True))
