"""`noise2pose generate` from end to end, with stand-ins for the networks."""

import errno
import hashlib
import json
import os
import signal
import tarfile

import numpy as np
import pytest
from PIL import Image

from methods.posepp.stages import STAGES
from noise2pose.shards import npz_arrays, read_manifest, read_shard
from scripts import generate
from tests.forks import start
from tests.methods.posepp import painter

SMALL = ["samples=10", "shard_size=4", "image_size=64", "poses.number=120"]
VARIABLES = ("RANK", "WORLD_SIZE", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN")


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("samples: 10\nshard_size: 4\nimage_size: 64\nposes: {number: 120}\n")
    return ["-c", str(path)]


def sums(folder, stages=("sample", "render")):
    """Checksum of every shard and list."""
    files = sorted(path for stage in stages for path in (folder / stage).iterdir())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def both(folder, *more):
    for stage in ("sample", "render"):
        assert generate.main([stage, str(folder), *more]) == 0


def test_one_process_and_three_write_the_same(tmp_path, config, monkeypatch):
    one, ranks, array, parts = (tmp_path / name for name in ("one", "ranks", "array", "parts"))
    both(one, *config)
    assert len(sums(one)) == 2 * (3 + 3 + 1)
    for rank in (2, 0, 1):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        both(ranks, *config)
        assert len(list((ranks / "sample").glob("*.tar"))) == {2: 1, 0: 2, 1: 3}[rank]
    monkeypatch.delenv("RANK")
    for task in (5, 6, 7):  # of --array=5-7
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "3")
        monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "5")
        both(array, *config)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for shards in ("2:3", "0:2"):
        both(parts, *config, "--shards", shards)
    assert sums(one) == sums(ranks) == sums(array) == sums(parts)


def killed_after(folder, config, writes):
    """Runs both stages in a process that is killed when so many files were put into shards."""
    real, done = tarfile.TarFile.addfile, [0]

    def add(*arguments):
        done[0] += 1
        if done[0] > writes:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    tarfile.TarFile.addfile = add
    both(folder, *config)


def test_killed_five_times_it_writes_the_same(tmp_path, config):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    both(whole, *config)
    for writes in (1, 9, 13, 7, 18):  # in different stages and shards: each run goes on after the last whole shard
        process = start(killed_after, broken, config, writes)
        process.join()
        assert process.exitcode == -signal.SIGKILL
    both(broken, *config)
    assert sums(whole) == sums(broken)


def test_every_stage_ends_in_shards_annotations_and_a_contact_sheet(tmp_path, config, monkeypatch, capsys):
    painter.install(monkeypatch, "filter", "refine", "head")
    folder = tmp_path / "people"
    assert generate.main(["all", str(folder), *config]) == 0
    assert "8 of 10 samples kept; left out: mirror 2" in capsys.readouterr().out
    entries = [entry for shard in range(3) for entry in read_manifest(folder / "export" / f"shard-{shard:06d}.tar")]
    assert [entry["id"] for entry in entries] == list(range(10))
    assert {entry["id"] for entry in entries if entry["reason"]} == {4, 9}
    assert all(entry["stage"] == "filter" for entry in entries if entry["reason"])

    samples = {}
    for shard in range(3):
        samples |= dict(read_shard(folder / "export" / f"shard-{shard:06d}.tar"))
    assert set(samples) == set(range(10)) - {4, 9} and set(samples[0]) == {"jpg", "npz", "json"}
    rendered = dict(read_shard(folder / "render" / "shard-000000.tar"))
    for sample in (1, 2):
        before, after = npz_arrays(rendered[sample]["npz"]), npz_arrays(samples[sample]["npz"])
        shift = after["keypoints_2d"][:, 0] - before["keypoints_2d"][:, 0]
        assert np.allclose(shift, painter.MOVED, atol=1e-4)  # of the refinement, whatever the head does
        turned = np.abs(after["keypoints_3d"] - before["keypoints_3d"]).max(axis=1)
        assert (turned[:5] > 0.001).all() if sample == 2 else (turned == 0).all()
        assert turned[5:].max() < 1e-6  # the rest of the body stays
        facts = json.loads(samples[sample]["json"])
        assert facts["filter"]["ap"] == 0.9 and facts["generate"]["painter"] and facts["text"].startswith("A ")
    width, height = Image.open(folder / "contact_sheet.png").size
    assert width > 300 and height > 300
    page = (folder / "contact_sheet.html").read_text()
    assert page.count("<figure>") == 10 and "mirror: 2" in page and "kept: 8" in page
    before = sums(folder, STAGES)
    assert generate.main(["all", str(folder)]) == 0  # with the settings that it was begun with
    assert sums(folder, STAGES) == before


def test_the_annotations_open_in_pycocotools_and_agree_with_the_npz(tmp_path, config, monkeypatch):
    coco = pytest.importorskip("pycocotools.coco")
    painter.install(monkeypatch)
    folder = tmp_path / "people"
    assert generate.main(["all", str(folder), *config]) == 0
    content = coco.COCO(folder / "export" / "annotations.json")
    bodies = np.load(folder / "export" / "bodies.npz")
    assert len(content.anns) == len(bodies["imgname"]) == 10
    images = {image["file_name"]: image["id"] for image in content.imgs.values()}
    files = {
        sample: files for shard in range(3) for sample, files in read_shard(folder / f"export/shard-{shard:06d}.tar")
    }
    for row, name in enumerate(bodies["imgname"].tolist()):
        annotation = content.anns[images[name]]
        arrays = npz_arrays(files[images[name] - 1]["npz"])
        assert name == f"shard-{(images[name] - 1) // 4:06d}/{images[name] - 1:08d}.jpg"
        points = np.array(annotation["keypoints"]).reshape(17, 3)
        visible = points[:, 2] == 2
        assert (visible == (arrays["keypoints_2d"][:, 2] > 0)).all()
        assert np.abs(points[visible, :2] - arrays["keypoints_2d"][visible, :2]).max() < 1e-3
        assert annotation["area"] == arrays["area"] <= annotation["bbox"][2] * annotation["bbox"][3]
        pixels = bodies["gtkps"][row, :, :2]
        joints = arrays["joints_3d"] @ bodies["cam_int"][row].T
        assert np.abs(pixels - joints[:, :2] / joints[:, 2:]).max() < 0.01
        assert np.allclose(bodies["pose_cam"][row, :3], arrays["global_orient"])


def test_other_settings_are_refused_in_a_line(tmp_path, config, monkeypatch, capsys):
    painter.install(monkeypatch)
    folder = str(tmp_path / "people")
    both(folder, *config)
    capsys.readouterr()

    def refused(*arguments):
        assert generate.main([*arguments]) == 2
        error = capsys.readouterr().err
        return [line for line in error.splitlines() if line.startswith("error")][0]

    assert "seed is 0, but these settings make 1" in refused("sample", folder, *config, "--set", "seed=1")
    assert "samples is 10, but these settings make 11" in refused("sample", folder, *config, "--set", "samples=11")
    error = refused("render", folder, *config, "--set", "camera.shift=0.1")
    assert "render/stage.json" in error and "camera.shift 0.4, now 0.1" in error
    error = refused("render", folder, *config, "--set", "conditions.hide_occluded=none")
    assert 'conditions.hide_occluded "face", now "none"' in error
    assert "camera.shfit" in refused("sample", folder, *config, "--set", "camera.shfit=0.1")
    assert "conditions.hide_occluded is nose" in refused(
        "sample", folder, *config, "--set", "conditions.hide_occluded=nose"
    )
    assert "holds no data set yet" in refused("sample", str(tmp_path / "new"))
    assert "run `noise2pose generate generate`" in refused("export", folder)
    assert "--shards is 2:9" in refused("sample", folder, "--shards", "2:9")
    assert "process 3 of 3" in refused("sample", folder, "--rank", "3", "--world_size", "3")
    assert "poses.paths is empty" in refused("sample", str(tmp_path / "new"), *config, "--set", "poses.source=amass")


def test_a_full_disk_is_one_line_and_no_half_shard(tmp_path, config, monkeypatch, capsys):
    folder = tmp_path / "people"
    real, done = tarfile.TarFile.addfile, [0]

    def full(*arguments):
        done[0] += 1
        if done[0] > 11:  # in the second shard
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    assert generate.main(["sample", str(folder), *config]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and "is full; make room there" in lines[0]
    assert [path.name for path in sorted((folder / "sample").iterdir())] == [
        "shard-000000.jsonl",
        "shard-000000.tar",
        "stage.json",
    ]


def test_all_asks_for_its_files_before_the_first_image(tmp_path, config, capsys):
    folder = tmp_path / "people"
    for options, message in (
        ((), "generation.checkpoint is empty, and the stage generate needs it"),
        (("--set", "generation.base_dir=sd"), "detect.checkpoint is empty, and the stage detect needs it"),
        (
            (
                "--set",
                "generation.base_dir=sd",
                "--set",
                "detect.source=simulated",
                "--set",
                "refine.checkpoint=no.ckpt",
            ),
            "refine.checkpoint: no.ckpt does not exist, and the stage refine needs it",
        ),
    ):
        assert generate.main(["all", str(folder), *config, *options]) == 2
        assert message in capsys.readouterr().err and not (folder / "sample").exists()


def test_an_export_without_a_filter_says_so(tmp_path, config, monkeypatch, capsys):
    painter.install(monkeypatch, "refine", "head")
    monkeypatch.setitem(STAGES, "refine", STAGES["refine"]._replace(needs=("render", "generate")))
    monkeypatch.setitem(STAGES, "head", STAGES["head"]._replace(needs=("sample", "render")))
    assert generate.main(["all", str(tmp_path / "people"), *config]) == 0
    assert "note: without the stages filter, which were not run" in capsys.readouterr().out


def _sample(folder, config, rank, processes):
    assert generate.main(["sample", str(folder), *config, "--rank", str(rank), "--world_size", str(processes)]) == 0


def test_processes_that_start_at_once_write_one_data_set(tmp_path, config):
    one, many = tmp_path / "one", tmp_path / "many"
    _sample(one, config, 0, 1)
    processes = [start(_sample, many, config, rank, 3) for rank in range(3)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sums(one, ("sample",)) == sums(many, ("sample",))
    assert not list(many.rglob("*.partial"))


def test_joints_that_the_refinement_left_follow_a_turned_head(tmp_path, config, monkeypatch):
    painter.install(monkeypatch, "filter", "refine", "head")
    monkeypatch.setattr(painter, "MOVED", 0.0)
    folder = tmp_path / "people"
    assert generate.main(["all", str(folder), *config]) == 0
    samples = dict(read_shard(folder / "export" / "shard-000000.tar"))
    arrays = npz_arrays(samples[2]["npz"])  # its head was turned
    camera = arrays["keypoints_3d"] @ arrays["K"].T
    assert np.allclose(arrays["keypoints_2d"][:, :2], camera[:, :2] / camera[:, 2:], atol=0.01)
    initial = npz_arrays(dict(read_shard(folder / "render" / "shard-000000.tar"))[2]["npz"])["keypoints_2d"]
    assert np.abs(arrays["keypoints_2d"] - initial)[:5].max() > 0.1
