import json
import multiprocessing
import os
import shutil
from collections import namedtuple
from copy import deepcopy

import numpy as np
import pytest
import torch

from datamodules.rendered import cache as rendered_cache
from datamodules.rendered.cache import render_cache
from datamodules.rendered.scenes import covered
from noise2pose import cameras
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.keyed_random import keys_of
from noise2pose.rendering.meshes import project_mesh
from tests import forks

COUNT, SIZE = 10, 48


@pytest.fixture(scope="module")
def body():
    return BodyModel.load("free")


@pytest.fixture(scope="module")
def people(body):
    """Upright people with arms and legs bent a little, in squares around them."""
    generator = torch.Generator().manual_seed(0)
    bend = 0.3 * torch.randn(COUNT, 23, 3, generator=generator)
    skew = torch.zeros(COUNT, 23, 3, 3)
    skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0] = bend.unbind(-1)
    smpl = {
        "global_orient": torch.diag(torch.tensor([1.0, -1.0, -1.0])).expand(COUNT, 3, 3),
        "body_pose": torch.linalg.matrix_exp(skew - skew.transpose(-1, -2)),
        "betas": torch.randn(COUNT, 10, generator=generator),
    }
    translation = torch.tensor([0.3, 0.1, 4.0]) + 0.3 * torch.randn(COUNT, 3, generator=generator)
    camera = {
        "focal": torch.tensor([[1100.0, 1120.0]]).expand(COUNT, 2),
        "principal_point": torch.tensor([[510.0, 490.0]]).expand(COUNT, 2),
        "image_size": torch.tensor([[1000.0, 1000.0]]).expand(COUNT, 2),
    }
    joints = body.joints(**smpl, translation=translation)
    pixels = cameras.project(joints, camera["focal"], camera["principal_point"])
    low, high = pixels.amin(dim=1), pixels.amax(dim=1)
    box = torch.cat(((low + high) / 2, 1.25 * (high - low).amax(dim=-1, keepdim=True)), dim=-1)
    return {"smpl": smpl, "camera_translation": translation, "camera": camera, "box": box, "joints": joints}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(rendered_cache, "_CHUNK", 4)


KEYS = keys_of([f"person_{number}" for number in range(COUNT)])


def render(folder, people, body, **changed):
    settings = {"keys": KEYS, "seed": 0, "picture_size": SIZE, **changed}
    return render_cache(folder, people, body, **settings)


@pytest.fixture(scope="module")
def expected(people, body, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendered_cache, "_CHUNK", 4)
        return render(tmp_path_factory.mktemp("expected"), people, body).clone()


def test_images_are_bytes_in_a_file(tmp_path, people, body, expected):
    images = render(tmp_path, people, body)
    assert images.shape == (COUNT, 3, SIZE, SIZE) and images.dtype == torch.uint8
    assert torch.equal(images, expected), "a function of the arguments"
    (folder,) = tmp_path.iterdir()
    assert (np.load(folder / "pictures.npy") == expected.numpy()).all()
    assert json.loads((folder / "manifest.json").read_text())["done"] == [0, 4, 8]
    images[0] = 0
    assert torch.equal(render(tmp_path, people, body), expected), "what is written to the tensor stays in memory"


@pytest.mark.slow
def test_two_workers_render_what_one_renders(tmp_path, people, body, expected):
    assert torch.equal(render(tmp_path / "one", people, body, num_workers=1), expected)
    assert torch.equal(render(tmp_path / "two", people, body, num_workers=2), expected)


def test_a_killed_rendering_goes_on_where_it_stopped(tmp_path, people, body, expected, monkeypatch, capsys):
    rendered = []
    original = rendered_cache._Worker.render

    def killed_in_the_second_chunk(self, first, chunk):
        rendered.append(first)
        if first == 4 and len(rendered) == 2:
            self.images[4:6] = 77  # half a chunk is on disk
            raise KeyboardInterrupt
        return original(self, first, chunk)

    monkeypatch.setattr(rendered_cache._Worker, "render", killed_in_the_second_chunk)
    with pytest.raises(KeyboardInterrupt):
        render(tmp_path, people, body)
    assert "going on" not in capsys.readouterr().err
    assert torch.equal(render(tmp_path, people, body), expected)
    assert rendered == [0, 4, 4, 8] and "take 0.1 MB, resumed at 4\n" in capsys.readouterr().err
    render(tmp_path, people, body)
    assert rendered == [0, 4, 4, 8], "complete images are not rendered again"


class Ends:
    """Ends the process that reads it from a pickle, as the system does when memory runs out."""

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        return os._exit, (9,)


def ends(files, started):
    """In place of what a worker does first."""
    os._exit(9)


def test_a_killed_worker_is_told_and_the_images_that_are_done_stay(tmp_path, people, body, expected, monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: forks.CONTEXT)
    first = rendered_cache._Worker.render
    monkeypatch.setattr(rendered_cache._Worker, "render", lambda *given: pytest.fail() if given[1] else first(*given))
    with pytest.raises(pytest.fail.Exception):
        render(tmp_path, people, body)
    monkeypatch.setattr(rendered_cache._Worker, "render", first)
    killed = deepcopy(body)
    killed.ends = Ends()
    with pytest.raises(InputError, match=r"ended from outside, perhaps because memory ran out; .*num_workers 1$"):
        render(tmp_path, people, killed, num_workers=3)
    (folder,) = tmp_path.iterdir()
    assert sorted(file.name for file in folder.iterdir()) == ["manifest.json", "pictures.npy"]
    assert torch.equal(render(tmp_path, people, body), expected)


def test_workers_of_a_script_without_a_guard_end_at_once(tmp_path, people, body, monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: forks.CONTEXT)
    monkeypatch.setattr(rendered_cache, "_start", ends)
    with pytest.raises(
        InputError, match=r'could start: .* below `if __name__ == "__main__":`, or set num_workers to 0'
    ):
        render(tmp_path, people, body, num_workers=1)
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(SystemExit):
        render(tmp_path, people, body, num_workers=1)


def test_other_settings_have_another_folder(tmp_path, people, body, expected):
    render(tmp_path, people, body)
    moved = {**people, "camera_translation": people["camera_translation"] + 0.01}
    others = [
        render(tmp_path, people, body, seed=1),
        render(tmp_path, people, body, occlusion=0.0),
        render(tmp_path, people, body, keys=KEYS.flip(0)),
        render(tmp_path, moved, body),
    ]
    assert len(list(tmp_path.iterdir())) == 5
    assert all((other != expected).float().mean() > 0.005 for other in others)


def test_damaged_folders_are_refused(tmp_path, people, body):
    render(tmp_path, people, body)
    (folder,) = tmp_path.iterdir()
    manifest = folder / "manifest.json"
    whole = manifest.read_text()
    manifest.write_text(whole[:40])
    with pytest.raises(InputError, match=r"found no readable images .*; delete this folder"):
        render(tmp_path, people, body)
    manifest.write_text(whole.replace('"checksum": "', '"checksum": "0'))
    with pytest.raises(InputError, match="images of other settings"):
        render(tmp_path, people, body)
    manifest.write_text(whole)
    (folder / "pictures.npy").unlink()
    with pytest.raises(InputError, match="found no readable images"):
        render(tmp_path, people, body)


def test_a_full_disk_is_noticed_before_the_work(tmp_path, people, body, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 1000))
    with pytest.raises(InputError, match=r"10 images of 48 x 48 take 0.1 MB, of which 0.1 MB .* 0.0 MB are free"):
        render(tmp_path, people, body)
    monkeypatch.undo()
    render(tmp_path, people, body)
    assert capsys.readouterr().err.splitlines()[0].endswith("10 images of 48 x 48 take 0.1 MB")


def test_sizes_are_for_people():
    assert [rendered_cache._size(number) for number in (69_120, 2_500_000_000)] == ["0.1 MB", "2.50 GB"]


def grown(mask, reach):
    """A mask with all pixels at most `reach` rows and columns away."""
    for axis in (0, 1):
        mask = np.logical_or.reduce([np.roll(mask, shift, axis) for shift in range(-reach, reach + 1)])
    return mask


def test_the_pixels_agree_with_the_labels(tmp_path, people, body):
    """Images of the same people and of people out of sight differ where the projected body is."""
    behind = {**people, "camera_translation": people["camera_translation"] * torch.tensor([1.0, 1.0, -1.0])}
    here, gone = (render(tmp_path, who, body, occlusion=0.0, picture_size=96) for who in (people, behind))
    differ = (here != gone).any(dim=1)
    box, camera = people["box"], people["camera"]
    joints = cameras.project(people["joints"], camera["focal"], camera["principal_point"])
    crop = ((joints - box[:, None, :2]) / box[:, None, 2:] + 0.5) * 96
    vertices = body(**people["smpl"], translation=people["camera_translation"]).vertices.numpy()
    seen, inside = [], []
    for person in range(COUNT):
        side = box[person, 2].item()
        focal = camera["focal"][person].numpy() * 96 / side
        corner = (box[person, :2] - side / 2).numpy()
        centre = (camera["principal_point"][person].numpy() - corner) * 96 / side
        silhouette = np.zeros(96 * 96, dtype=bool)
        silhouette[project_mesh(vertices[person], body.faces.numpy(), focal, centre, (96, 96)).pixel] = True
        silhouette = silhouette.reshape(96, 96)
        outside = ~grown(silhouette, 5)
        assert not differ[person].numpy()[outside].any(), "nothing but the body is where the body is not"
        inside.append(differ[person].numpy()[silhouette].mean())
        column, row = crop[person].long().unbind(-1)
        seen.append(grown(silhouette, 1)[row, column].mean())  # the top of the head is on the outline
    assert np.mean(inside) > 0.9 and np.mean(seen) == 1.0


def test_hidden_joints_look_the_same_without_the_person(tmp_path, people, body):
    behind = {**people, "camera_translation": people["camera_translation"] * torch.tensor([1.0, 1.0, -1.0])}
    here, gone = (render(tmp_path, who, body, occlusion=1.0, picture_size=224) for who in (people, behind))
    box, camera = people["box"], people["camera"]
    joints = cameras.project(people["joints"], camera["focal"], camera["principal_point"])
    crop = (joints - box[:, None, :2]) / box[:, None, 2:] + 0.5
    shifts = 6 / 224 * torch.tensor([[0.0, 0.0], [1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, -1], [1, -1], [-1, 1]])
    around = (crop[:, :, None] + shifts).flatten(1, 2)
    hidden = covered(around, KEYS, 0, 1.0).unflatten(1, (17, 9)).all(dim=-1)  # not at the border of an object
    column, row = (crop * 224).long().clamp(0, 223).unbind(-1)
    person = torch.arange(COUNT)[:, None]
    same = (here[person, :, row, column] == gone[person, :, row, column]).all(dim=-1)
    assert hidden.sum() >= 5 and same[hidden].all()
    clear = ~covered(crop, KEYS, 0, 1.0)
    assert (~same)[clear].float().mean() > 0.9
