"""Generated people read from their shards: labels, order, resuming, processes, and what is refused."""

import json
import tarfile

import numpy as np
import pytest
import torch

from datamodules.base import EpochOrder
from datamodules.generated_people import GeneratedPeople
from datamodules.prepared.shards import ShardOrder
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.shards import npz_arrays, read_manifest, read_shard
from scripts import generate
from tests.methods.posepp import painter

pytest.importorskip("webdataset")
SIDE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set of 30 samples in shards of 7, of which every fifth was rejected."""
    folder = tmp_path_factory.mktemp("generated") / "people"
    settings = ["samples=30", "shard_size=7", "image_size=64", "poses.number=120"]
    config = folder.parent / "settings.yaml"
    config.write_text("samples: 30\n")
    with pytest.MonkeyPatch.context() as patch:
        painter.install(patch, "filter", "refine")
        options = [word for setting in settings for word in ("--set", setting)]
        assert generate.main(["all", str(folder), "-c", str(config), *options]) == 0
    return folder


def people(folder, **options):
    options = {"batch_size": 4, "eval_batch_size": 3, "picture_size": SIDE, "held_out": 0.1, **options}
    return GeneratedPeople(str(folder), **options)


def ids(batches):
    return [name for batch in batches for name in batch["sample_id"]]


@pytest.fixture(scope="module")
def exported(folder):
    """Arrays and facts of every exported sample."""
    found = {}
    for shard in range(5):
        for sample, files in read_shard(folder / f"export/shard-{shard:06d}.tar"):
            found[f"generated_{sample:08d}"] = (npz_arrays(files["npz"]), json.loads(files["json"]))
    assert len(found) == 24
    return found


def test_splits_share_nothing_and_lack_nothing_that_was_kept(folder, exported):
    data = people(folder, batch_size=1)
    splits = [ids(data.val_dataloader()), ids(data.test_dataloader()), ids(data.train_dataloader())]
    assert [len(split) for split in splits] == [2, 2, 20]
    assert sorted(sum(splits, [])) == sorted(exported)


@pytest.mark.parametrize("skeleton", ["h36m_17", "coco_17"])
def test_labels_are_those_of_the_sample_of_that_name(folder, exported, skeleton):
    body = BodyModel.load("free")
    for batch in people(folder, skeleton=skeleton).train_dataloader():
        assert batch["image"].shape == (4, 3, SIDE, SIDE)
        vertices = body(**batch["smpl"], translation=batch["camera_translation"])
        for row, name in enumerate(batch["sample_id"]):
            arrays, facts = exported[name]
            assert (batch["subject"][row], batch["action"][row]) == (facts["pose"], facts["action"])
            joints = torch.from_numpy(arrays["joints_3d"])
            assert (vertices.joints[row] - joints).abs().max() < 1e-4
            points = batch["keypoints_3d"][row, :, :3]
            focal, centre = batch["camera"]["focal"][row], batch["camera"]["principal_point"][row]
            pixels = points[:, :2] / points[:, 2:] * focal + centre
            moved = torch.tensor([painter.MOVED if skeleton == "coco_17" else 0.0, 0.0])  # by the refinement
            assert (pixels + moved - batch["keypoints_2d"][row, :, :2]).abs().max() < 0.02


def test_crops_show_the_person_of_the_sample(folder):
    batch = next(iter(people(folder).train_dataloader()))
    orange = batch["image"][:, 0] - batch["image"][:, 2] > 0.3
    box = batch["box"]
    for row in range(4):
        pixels = (batch["keypoints_2d"][row, :, :2] - box[row, :2]) / box[row, 2] * SIDE + SIDE / 2.0
        inside = (batch["keypoints_2d"][row, :, 2] > 0) & (pixels >= 0).all(-1) & (pixels < SIDE).all(-1)
        column, line = pixels[inside].long().unbind(-1)
        assert orange[row, line, column].float().mean() > 0.7
        assert 0.05 < orange[row].float().mean() < 0.7


def test_epochs_differ_and_repeat(folder):
    first, second = people(folder), people(folder)
    loader, other = first.train_dataloader(), second.train_dataloader()
    assert ids(loader) == ids(other)
    before = ids(loader)
    loader.sampler.set_epoch(1)
    after = ids(loader)
    assert before != after and sorted(before) == sorted(after)


@pytest.mark.parametrize("buffer", [0, 1, 5, 1000])
def test_a_resumed_run_goes_on_with_the_next_batch(folder, buffer):
    whole = people(folder, shuffle_buffer=buffer).train_dataloader()
    whole.sampler.set_epoch(3)
    batches = list(whole)
    begun = people(folder, shuffle_buffer=buffer)
    loader = begun.train_dataloader()
    loader.sampler.set_epoch(3)
    part = iter(loader)
    taken = [next(part), next(part)]
    resumed = people(folder, shuffle_buffer=buffer)
    resumed.load_state_dict(begun.state_dict())
    rest = resumed.train_dataloader()
    rest.sampler.set_epoch(3)
    for one, other in zip(batches, [*taken, *rest], strict=True):
        assert one["sample_id"] == other["sample_id"] and torch.equal(one["image"], other["image"])
        assert torch.equal(one["keypoints_2d"], other["keypoints_2d"])


def test_memory_and_stream_hold_the_same_samples(folder):
    streamed, loaded = people(folder).val_dataloader(), people(folder, shuffle_buffer=0).val_dataloader()
    for one, other in zip(streamed, loaded, strict=True):
        assert one["sample_id"] == other["sample_id"]
        assert (one["image"] - other["image"]).abs().max() <= 0.5 / 255.0 + 1e-6
        assert torch.equal(one["keypoints_3d"], other["keypoints_3d"])


def test_processes_share_an_epoch_and_each_reads_its_part():
    shards = np.repeat(np.arange(10), 7)
    orders = [list(ShardOrder(shards, 4, shuffle=True, buffer=9, seed=2, rank=rank, world_size=3)) for rank in range(3)]
    assert {len(order) for order in orders} == {70 // 12}
    taken = [torch.cat(order).tolist() for order in orders]
    assert len(set(sum(taken, []))) == 60 == len(sum(taken, []))
    opened = [set(shards[part].tolist()) for part in taken]
    assert all(len(part) <= 4 for part in opened)  # 20 samples in a row of shards of 7
    waiting, most, read = set(), 0, 0
    stream = torch.cat([torch.tensor(part) for part in taken[:1]])
    order = ShardOrder(shards, 4, shuffle=True, buffer=9, seed=2, rank=0, world_size=3).order()[:20].tolist()
    for wanted in stream.tolist():
        while wanted not in waiting:
            waiting.add(order[read])
            read += 1
        waiting.remove(wanted)
        most = max(most, len(waiting))
    assert most < 9  # which bounds the memory
    whole = [list(EpochOrder(70, 4, shuffle=False, rank=rank, world_size=3)) for rank in range(3)]
    same = [list(ShardOrder(shards, 4, shuffle=False, buffer=9, rank=rank, world_size=3)) for rank in range(3)]
    assert all(
        torch.equal(a, b) for one, other in zip(whole, same, strict=True) for a, b in zip(one, other, strict=True)
    )


def test_what_does_not_fit_is_refused_in_a_line(folder, tmp_path):
    with pytest.raises(InputError, match="data.root: .*dataset.json does not exist"):
        people(tmp_path).prepare_data()
    with pytest.raises(InputError, match="data.body: .*is not the body that"):
        people(folder, body=str(tmp_path / "smpl.npz")).prepare_data()
    with pytest.raises(InputError, match="leaves none of 24 samples for val"):
        people(folder, held_out=0.0).val_dataloader()
    with pytest.raises(InputError, match="data.held_out is 0.5"):
        people(folder, held_out=0.5)


def test_a_shard_that_lost_a_sample_is_refused(folder, tmp_path):
    copy = tmp_path / "people"
    (copy / "export").mkdir(parents=True)
    (copy / "dataset.json").write_bytes((folder / "dataset.json").read_bytes())
    for path in (folder / "export").glob("shard-*"):
        (copy / "export" / path.name).write_bytes(path.read_bytes())
    shard = copy / "export" / "shard-000003.tar"
    kept = [entry["id"] for entry in read_manifest(shard) if not entry["reason"]]
    with tarfile.open(folder / "export" / shard.name) as source, tarfile.open(shard, "w") as target:
        for member in source:
            if not member.name.startswith(f"{kept[1]:08d}"):
                target.addfile(member, source.extractfile(member))
    with pytest.raises(InputError, match=f"sample {kept[1]} is in its list but not in the shard"):
        list(people(copy).train_dataloader())
