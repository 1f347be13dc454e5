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
        ([tmp_path / "empty"], "empty: no image in this folder.*it is empty"),
    ):
        with pytest.raises(InputError, match=message):
            find_images(inputs)


def test_images_of_one_name_keep_the_folders_that_tell_them_apart(tmp_path):
    for name in ("cam1/0001.jpg", "cam2/0001.jpg", "cam2/0002.jpg"):
        save(tmp_path / name)
    assert [name for name, _ in find_images([tmp_path / "cam1", tmp_path / "cam2"])] == [
        "cam1/0001.jpg",
        "cam2/0001.jpg",
        "cam2/0002.jpg",
    ]
    twice = find_images([tmp_path / "cam2", tmp_path / "cam2/0001.jpg"])
    assert sorted(path.name for _, path in twice) == ["0001.jpg", "0002.jpg"], "one image is not annotated twice"


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


def test_deep_grey_images_keep_their_range(tmp_path):
    ramp = np.linspace(0.0, 1.0, 256).reshape(16, 16)
    expected = np.rint(ramp * 255)[..., None].repeat(3, axis=-1)
    for name, top, kind in (
        ("grey16.png", 65535, np.uint16),
        ("grey12.png", 4095, np.uint16),
        ("grey32.tif", 65535, np.int32),
        ("float.tif", 1, np.float32),
    ):
        Image.fromarray((ramp * top).astype(kind)).save(tmp_path / name)
        assert np.abs(read_image(tmp_path / name) - expected).max() <= 1, name
    for name, values in (("far.tif", 255 * ramp), ("nan.tif", np.where(ramp > 0.5, np.nan, ramp))):
        Image.fromarray(values.astype(np.float32)).save(tmp_path / name)
        with pytest.raises(InputError, match="expected 0 to 1: save it with 8 or 16 bits"):
            read_image(tmp_path / name)


def test_images_that_are_not_read_are_named(tmp_path):
    folder = tmp_path / "phone"
    save(folder / "a.jpg")
    for name in ("IMG_1.HEIC", "IMG_2.dng"):
        (folder / name).write_bytes(b"x")
    found = find_images([folder])
    assert [name for name, _ in found] == ["IMG_1.HEIC", "IMG_2.dng", "a.jpg"]
    with pytest.raises(InputError, match=r"^\.heic is not read; convert it: magick 'IMG_1.HEIC' 'IMG_1.jpg'"):
        open_image(*found[0])
    with pytest.raises(InputError, match=r"IMG_2.dng: \.dng is not read"):
        find_images([folder / "IMG_2.dng"])
    (folder / "a.jpg").unlink()
    with pytest.raises(InputError, match="no image in this folder.*convert it"):
        find_images([folder])


@pytest.mark.parametrize(("film", "believed"), [(1, False), (28, True), (600, True), (65535, False)])
def test_focal_lengths_beyond_reason_are_not_believed(tmp_path, film, believed):
    focal = open_image("a.jpg", save(tmp_path / "a.jpg", FocalLengthIn35mmFilm=film)).focal
    assert focal == (film / 36 * 30 if believed else None)
