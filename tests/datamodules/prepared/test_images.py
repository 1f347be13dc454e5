import io
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.prepared import images
from datamodules.prepared.data import AUGMENTATIONS
from datamodules.prepared.images import ImageReader, Request, read_patches
from noise2pose import keyed_random, skeletons
from noise2pose.errors import InputError
from noise2pose.images.augmentation import Augmentation, draw, image_matrix
from noise2pose.images.crops import compose, crop_matrix, invert, joints_in_box, move_points

H36M = skeletons.get("h36m_17")
SPIN = AUGMENTATIONS["spin"]
WIDTH, HEIGHT = 320, 241  # odd: the last row of a reduced image is only partly there


def smooth(width=WIDTH, height=HEIGHT, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (height // 12, width // 12, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def save(path, image, **how):
    Image.fromarray(image).save(path, **how)
    return path


def request(paths, boxes, settings=None, size=(WIDTH, HEIGHT), keypoints=None, focal=(300.0, 310.0), epoch=0):
    count = len(paths)
    batch = {
        "keypoints_2d": torch.zeros(count, 17, 3) if keypoints is None else keypoints,
        "box": torch.tensor(boxes),
        "camera": {
            "focal": torch.tensor([focal] * count),
            "principal_point": torch.tensor([[size[0] / 2 + 7.0, size[1] / 2 - 4.0]] * count),
            "image_size": torch.tensor([[float(size[0]), float(size[1])]] * count),
        },
        "sample_id": [f"person_{number}" for number in range(count)],
    }
    keys = keyed_random.keys_of(batch["sample_id"])
    return Request(batch, paths, None if settings is None else draw(keys, settings, epoch=epoch))


def crops_of(reader, *requests):
    return [reader.finish(batch, H36M) for batch in reader.read(requests)]


def dots(points, size, radius=5.0):
    """White blobs on black, at points whose first pixel's centre is (0.5, 0.5)."""
    x, y = np.arange(size[0]) + 0.5, np.arange(size[1])[:, None] + 0.5
    blobs = [255.0 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * radius**2)) for a, b in points]
    return np.stack((*blobs, *[np.zeros(size[::-1])] * (3 - len(blobs))), axis=-1).round().astype(np.uint8)


def middle(channel):
    """Centre of mass of a blob, pixels."""
    places = torch.arange(channel.shape[-1]) + 0.5
    weights = channel.double()
    total = weights.sum()
    return torch.tensor([(weights.sum(dim=0) * places).sum() / total, (weights.sum(dim=1) * places).sum() / total])


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("side", [130.0, 300.0, 600.0])
def test_a_joint_found_in_the_crop_is_where_it_was_in_the_image(tmp_path, ending, side):
    size, joint = (640, 480), (301.3, 233.8)
    how = {"quality": 98, "subsampling": 0} if ending == "jpg" else {}
    path = save(tmp_path / f"dot.{ending}", dots([joint] * 3, size, radius=14.0), **how)
    settings = Augmentation(scale=0.2, rotation=30.0, flip=0.5)
    asked = request([path] * 6, [[310.0, 240.0, side]] * 6, settings, size)
    reader = ImageReader(size=128)
    (batch,) = crops_of(reader, asked)
    to_crop = compose(crop_matrix(batch["box"], 128), image_matrix(asked.batch["camera"], asked.variation))
    for image, back in zip(batch["image"], invert(to_crop), strict=True):
        blob = torch.where(image[0] > 0.01, image[0], 0.0)  # without the noise of the compression
        found = move_points(middle(blob)[None].float(), back)[0]
        assert (found - torch.tensor(joint)).abs().max() < 0.1


@pytest.mark.parametrize("plain", [False, True])
def test_image_and_labels_vary_together(tmp_path, plain):
    count, size = 8, (640, 480)
    keypoints = torch.zeros(1, 17, 3).expand(count, -1, -1).clone()
    left, right = H36M.index("left_wrist"), H36M.index("right_wrist")
    keypoints[:, left], keypoints[:, right] = torch.tensor([250.0, 200.0, 1.0]), torch.tensor([372.0, 291.0, 1.0])
    path = save(tmp_path / "two.png", dots([(250.0, 200.0), (372.0, 291.0)], size))
    settings = Augmentation(scale=0.25, rotation=30.0, flip=0.5, shift=0.1)
    asked = request([path] * count, [[320.0, 240.0, 330.0]] * count, settings, size, keypoints)
    (batch,) = crops_of(ImageReader(size=112, plain_bilinear=plain), asked)
    assert asked.variation.flip.any() and not asked.variation.flip.all()
    places = (joints_in_box(batch["keypoints_2d"], batch["box"]) + 1.0) * 56.0
    for row, image in enumerate(batch["image"]):
        red, green = (right, left) if asked.variation.flip[row] else (left, right)
        assert (middle(image[0]) - places[row, red, :2]).abs().max() < 0.1
        assert (middle(image[1]) - places[row, green, :2]).abs().max() < 0.1


def test_flipping_mirrors_the_crop_and_turning_turns_it(tmp_path):
    path = save(tmp_path / "a.png", smooth(480, 480))
    box = [[247.0, 236.0, 160.0]]  # around the principal point
    reader = ImageReader(size=64)
    (plain,) = crops_of(reader, request([path], box, size=(480, 480), focal=(300.0, 300.0)))
    asked = request([path], box, Augmentation(flip=1.0), size=(480, 480), focal=(300.0, 300.0))
    (flipped,) = crops_of(reader, asked)
    assert torch.allclose(flipped["image"], plain["image"].flip(-1), atol=1e-4)
    quarter = asked.variation._replace(angle=torch.tensor([torch.pi / 2]), flip=torch.tensor([False]))
    (turned,) = crops_of(reader, asked._replace(variation=quarter))
    assert torch.allclose(turned["image"], plain["image"].rot90(-1, (2, 3)), atol=1e-3)


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_reduced_jpegs_are_in_register_with_the_image(tmp_path, reduction):
    width, height = 8 * 61 + 3, 8 * 47 + 5  # no multiples of the reduction
    size = (width, height)
    path = save(tmp_path / "a.jpg", cv2.GaussianBlur(smooth(*size), (0, 0), 16.0), quality=98, subsampling=0)
    side = 32.0 * reduction * 1.1
    asked = request([path] * 2, [[width - 90.0, height - 95.0, side], [140.0, 150.0, side]], size=size)
    whole, reduced = ImageReader(size=32, plain_bilinear=True), ImageReader(size=32)
    assert all(shape[0] < side / reduction + 4 for shape in next(reduced.read([asked]))["patches"]["sizes"])
    (expected,), (found,) = crops_of(whole, asked), crops_of(reduced, asked)
    inside = expected["image"].amin(dim=1, keepdim=True) > 0.05  # the black edge differs
    assert ((found["image"] - expected["image"]).abs() * inside).max() < 0.05


def test_it_decodes_no_more_than_it_needs_and_each_image_once(tmp_path, monkeypatch):
    opened, decoded = [], []
    path, other = save(tmp_path / "a.jpg", smooth()), save(tmp_path / "b.jpg", smooth(seed=1))
    original, decode = Image.open, images._decode
    monkeypatch.setattr(images.Image, "open", lambda path: opened.append(path) or original(path))
    monkeypatch.setattr(images, "_decode", lambda image, *rest: decoded.append(image.size) or decode(image, *rest))
    boxes = [[100.0, 100.0, 80.0], [60.0, 60.0, 70.0], [100.0, 100.0, 210.0], [160.0, 120.0, 250.0]]
    (batch,) = crops_of(ImageReader(size=32), request([path, other, path, other], boxes))
    assert sorted(opened) == [path, other]
    assert sorted(decoded) == [(160, 121)] * 2, "the smallest person of each decides"
    (large,) = crops_of(ImageReader(size=32), request([other], boxes[3:]))
    assert decoded[-1] == (80, 61)
    assert (large["image"][0] - batch["image"][3]).abs().mean() < 0.02


def encoded(mode, progressive=False):
    stream = io.BytesIO()
    Image.fromarray(smooth()).convert(mode).save(stream, "JPEG", quality=90, progressive=progressive)
    return stream.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("reduction", [1, 2])
def test_the_first_rows_are_those_of_the_whole_image(tmp_path, mode, progressive, reduction):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(mode, progressive))
    whole = Image.open(path)
    whole.draft(None, (WIDTH // reduction, HEIGHT // reduction))
    whole = np.asarray(whole.convert("RGB"))
    corners = [np.array([[70.0, 8.0], [200.0, 90.0]]), np.array([[-50.0, -50.0], [30.0, 30.0]])]
    patches = read_patches(path, (WIDTH, HEIGHT), corners, reduction)
    for pixels, (left, top), reduced in patches:
        assert reduced == reduction and pixels.shape[2] == 3
        height, width = pixels.shape[:2]
        assert np.array_equal(pixels, whole[top : top + height, left : left + width])
    assert patches[0].corner == (69 // reduction, 7 // reduction) and patches[1].corner == (0, 0)
    assert patches[0].pixels.shape[0] < 90 // reduction + 2


def test_grey_of_16_bits_keeps_its_range(tmp_path):
    grey = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 64
    path = save(tmp_path / "a.png", grey)
    (patch,) = read_patches(path, (32, 32), [np.array([[0.0, 0.0], [32.0, 32.0]])])
    assert np.abs(patch.pixels.astype(int) - np.rint(grey / 257.0)[..., None]).max() <= 1
    path = save(tmp_path / "a.tif", grey.astype(np.float32))
    with pytest.raises(InputError, match=r"a\.tif: its grey values are floats from 0 to 65472"):
        read_patches(path, (32, 32), [np.array([[0.0, 0.0], [32.0, 32.0]])])


def test_other_images_and_turned_ones_are_read_as_stored(tmp_path):
    rgb = smooth()
    exif = Image.Exif()
    exif[0x0112] = 6
    paths = [
        save(tmp_path / "a.png", rgb),
        save(tmp_path / "b.jpg", rgb, quality=95, exif=exif),
        save(tmp_path / "c.png", np.dstack((rgb, rgb[..., :1]))),
    ]
    Image.fromarray(rgb).quantize().save(tmp_path / "d.png")
    Image.fromarray(rgb).convert("L").save(tmp_path / "e.png")
    paths += [tmp_path / "d.png", tmp_path / "e.png"]
    (batch,) = crops_of(ImageReader(size=200), request(paths, [[160.0, 120.0, 200.0]] * 5))
    exact = batch["image"][0]
    assert torch.equal(batch["image"][2], exact)
    assert (batch["image"][1] - exact).abs().mean() < 0.02 and (batch["image"][3] - exact).abs().mean() < 0.1
    grey = batch["image"][4]
    assert torch.equal(grey[0], grey[2]) and (grey[0] - exact.mean(dim=0)).abs().mean() < 0.1


def test_boxes_over_the_border_and_beside_the_image_are_black_there(tmp_path):
    path = save(tmp_path / "a.jpg", np.full((HEIGHT, WIDTH, 3), 255, dtype=np.uint8))
    (batch,) = crops_of(ImageReader(size=50), request([path] * 2, [[320.0, 120.0, 100.0], [900.0, -700.0, 60.0]]))
    assert torch.allclose(batch["image"][0, :, :, :24], torch.ones(1)) and not batch["image"][0, :, :, 26:].any()
    assert not batch["image"][1].any()


def test_the_plain_warp_is_that_of_the_field(tmp_path):
    path = save(tmp_path / "a.jpg", smooth(), quality=92)
    box = [[150.0, 130.0, 180.0]]
    (batch,) = crops_of(ImageReader(size=64, plain_bilinear=True), request([path], box))
    to_crop = crop_matrix(torch.tensor(box), 64)[0].numpy().astype(np.float64)
    to_crop[:, 2] += to_crop[:, :2].sum(axis=1) / 2.0 - 0.5  # to pixels whose centres are at whole numbers
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    expected = cv2.warpAffine(image, to_crop, (64, 64), flags=cv2.INTER_LINEAR)
    difference = np.abs(255.0 * batch["image"][0].permute(1, 2, 0).numpy() - expected)
    assert difference.max() < 2.0


def test_bad_images_are_named_in_one_line(tmp_path):
    good = save(tmp_path / "good.jpg", smooth())
    text, cut, empty = tmp_path / "text.jpg", tmp_path / "cut.jpg", tmp_path / "empty.png"
    text.write_text("no image")
    cut.write_bytes(good.read_bytes()[:3000])
    empty.touch()
    box, reader = [[160.0, 120.0, 230.0]], ImageReader(size=200)
    for path, message in (
        (tmp_path / "gone.jpg", "gone.jpg does not exist"),
        (text, "text.jpg: not a readable image: cannot identify"),
        (cut, "cut.jpg: not a readable image: image file is truncated"),
        (empty, "empty.png: not a readable image"),
        (tmp_path, "not a readable image"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            list(reader.read([request([good, path], box * 2)]))
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    for size in ((WIDTH + 3, HEIGHT), (HEIGHT, WIDTH)):
        with pytest.raises(InputError, match=f"good.jpg: 320 x 241 pixels, expected {size[0]} x {size[1]}"):
            list(reader.read([request([good], box, size=size)]))
    list(reader.read([request([good], box, size=(WIDTH, HEIGHT - 2))]))  # as Human3.6M's frames of 1000 or 1002 rows
    for side in (0.0, float("nan")):
        with pytest.raises(InputError, match="good.jpg: a box of side"):
            list(reader.read([request([good], [[1.0, 1.0, side]])]))
    with pytest.raises(InputError, match="num_workers is 0"):
        ImageReader(num_workers=0)


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("pictures")]


def test_batches_keep_their_order_and_requests_are_taken_ahead(tmp_path):
    paths = [save(tmp_path / f"{level}.png", np.full((64, 64, 3), level, dtype=np.uint8)) for level in range(0, 200, 8)]
    taken = []

    def requests():
        for path in paths:
            taken.append(path)
            yield request([path], [[32.0, 32.0, 40.0]], size=(64, 64))

    reader = ImageReader(num_workers=3, prefetch=4, size=8)
    batches = reader.read(requests())
    first = next(batches)
    assert len(taken) == 5
    levels = [reader.finish(batch, H36M)["image"].mean() * 255.0 for batch in (first, *batches)]
    assert [round(float(level)) for level in levels] == list(range(0, 200, 8))
    assert not reading_threads()


def test_threads_end_when_the_consumer_stops_or_fails(tmp_path):
    path = save(tmp_path / "a.png", smooth())
    box = [[160.0, 120.0, 230.0]]
    batches = ImageReader().read(request([path], box) for _ in range(50))
    next(batches)
    assert reading_threads()
    batches.close()
    assert not reading_threads()
    asked = [request([path], box), request([Path("gone.jpg")], box), request([path], box)]
    batches = ImageReader(prefetch=1).read(asked)
    next(batches)  # before the one that fails
    with pytest.raises(InputError, match="gone.jpg"):
        next(batches)
    assert not reading_threads()


def test_the_same_sample_is_the_same_whatever_its_batch(tmp_path):
    paths = [save(tmp_path / f"{number}.jpg", smooth(seed=number)) for number in range(4)]
    boxes = [[160.0, 120.0, 100.0 + 40.0 * number] for number in range(4)]
    asked = request(paths, boxes, AUGMENTATIONS["dpmesh"], epoch=2)
    (together,) = crops_of(ImageReader(num_workers=4, size=48), asked)
    for row in range(4):
        alone = request(paths[row : row + 1], boxes[row : row + 1])
        variation = draw(keyed_random.keys_of([f"person_{row}"]), AUGMENTATIONS["dpmesh"], epoch=2)
        (batch,) = crops_of(ImageReader(num_workers=1, size=48), alone._replace(variation=variation))
        assert torch.allclose(batch["image"][0], together["image"][row], atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_makes_the_same_images(tmp_path):
    from datamodules.base import move

    path = save(tmp_path / "a.jpg", smooth())
    asked = request([path] * 3, [[160.0, 120.0, 150.0]] * 3, AUGMENTATIONS["dpmesh"])
    reader = ImageReader(size=64)
    (batch,) = reader.read([asked])
    moved = move({key: value for key, value in batch.items() if key != "variation"}, torch.device("cuda"))
    moved["variation"] = type(batch["variation"])(*(part.cuda() for part in batch["variation"]))
    moved["patches"]["sizes"] = batch["patches"]["sizes"]
    found, expected = reader.finish(moved, H36M), reader.finish(batch, H36M)
    for key in ("image", "keypoints_2d", "box"):
        assert torch.allclose(found[key].cpu(), expected[key], atol=1e-3), key
