import numpy as np
import pytest
from PIL import ExifTags, Image

from noise2pose.errors import InputError
from noise2pose.images.photographs import find_images, focal_of_diagonal, open_image, read_image


def save(path, width=30, height=20, **exif):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    data = Image.Exif()
    for key, value in exif.items():
        target = data.get_ifd(ExifTags.IFD.Exif) if key.startswith("Focal") else data
        target[ExifTags.Base[key]] = value
    image.save(path, exif=data)
    return path


def test_folders_are_sorted_and_recursive(tmp_path):
    for name in ("b.jpg", "a/z.PNG", "a/c.jpeg"):
        save(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    assert [name for name, _ in find_images([tmp_path / "in"])] == ["a/c.jpeg", "a/z.PNG", "b.jpg"]
    assert find_images([tmp_path / "in/b.jpg", tmp_path / "in/a/z.PNG"])[1] == ("z.PNG", tmp_path / "in/a/z.PNG")
    (tmp_path / "empty").mkdir()
    for inputs, message in (
        ([tmp_path / "none.jpg"], "none.jpg does not exist"),
        ([tmp_path / "in/notes.txt"], "notes.txt: is not an image"),
        ([tmp_path / "empty"], "empty: no image in this folder"),
        ([tmp_path / "in", tmp_path / "in/b.jpg"], "the same name b.jpg"),
    ):
        with pytest.raises(InputError, match=message):
            find_images(inputs)


def test_exif_says_focal_length_and_orientation(tmp_path):
    plain = open_image("a.jpg", save(tmp_path / "a.jpg"))
    assert plain.size == (30, 20) and plain.focal is None and focal_of_diagonal((3, 4)) == 5.0
    turned = open_image("b.jpg", save(tmp_path / "b.jpg", Orientation=6, FocalLengthIn35mmFilm=72))
    assert turned.size == (20, 30) and turned.focal == 60.0
    assert read_image(turned.path).shape == (30, 20, 3)


def test_broken_pictures_say_why(tmp_path):
    whole = save(tmp_path / "whole.jpg", 200, 200).read_bytes()
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    for name, message in (("empty.jpg", "the file is empty"), ("text.jpg", "cannot identify image file 'text.jpg'")):
        with pytest.raises(InputError, match=message):
            open_image(name, tmp_path / name)
    assert open_image("cut.jpg", tmp_path / "cut.jpg").size == (200, 200)
    with pytest.raises(InputError, match="truncated"):
        read_image(tmp_path / "cut.jpg")
