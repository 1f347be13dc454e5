import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped
from PIL import Image

from datamodules.rendered import backgrounds, clothes, scenes
from datamodules.rendered.backgrounds import background, find_photos
from datamodules.rendered.scenes import MAX_OCCLUDERS, Lens, covered, occluders, render_scene
from noise2pose.bodies import BodyModel
from noise2pose.errors import InputError
from noise2pose.keyed_random import keys_of
from noise2pose.rendering.meshes import project_mesh

SIZE = 96
KEYS = keys_of([f"person_{number}" for number in range(2000)])


@pytest.fixture(scope="module")
def body():
    return BodyModel.load("free")


@pytest.fixture(scope="module")
def standing(body):
    """Vertices in the camera frame."""
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    posed = body(upright, torch.eye(3).expand(23, 3, 3), torch.zeros(10), torch.tensor([0.0, 0.1, 4.0]))
    return posed.vertices.numpy()


@pytest.fixture
def photos(tmp_path):
    generator = np.random.default_rng(0)
    for number, (width, height) in enumerate([(60, 40), (700, 800)]):
        small = Image.fromarray(generator.integers(0, 256, (4, 4, 3)).astype(np.uint8))
        small.resize((width, height)).save(tmp_path / f"{number}.{('png', 'JPG')[number]}")
    (tmp_path / "notes.txt").write_text("not a photograph")
    return tmp_path


def lens(left=0.0):
    return Lens(np.array([190.0, 190.0]), np.array([48.0, 48.0]), (left, 0.0, SIZE, SIZE))


def scene(body, vertices, key=0, seed=0, probability=0.0, camera=None, photos=()):
    keys = KEYS[key : key + 1]
    return render_scene(
        clothes.surface(body),
        vertices,
        body.faces.numpy(),
        camera or lens(),
        occluders(keys, seed, probability),
        size=SIZE,
        key=int(keys[0]),
        seed=seed,
        photos=list(photos),
    )


def grown(mask, reach):
    """A mask with all pixels at most `reach` rows and columns away."""
    for axis in (0, 1):
        mask = np.logical_or.reduce([np.roll(mask, shift, axis) for shift in range(-reach, reach + 1)])
    return mask


def test_an_image_is_a_function_of_key_and_seed(body, standing):
    first = scene(body, standing, probability=1.0)
    assert (scene(body, standing, probability=1.0) == first).all()
    assert (scene(body, standing, key=1, probability=1.0) != first).mean() > 0.5
    assert (scene(body, standing, seed=1, probability=1.0) != first).mean() > 0.5
    assert first.shape == (SIZE, SIZE, 3) and first.dtype == np.uint8


def test_only_the_person_differs_between_poses(body, standing):
    moved = standing + np.float32([0.3, 0.0, 0.0])
    differ = (scene(body, standing).astype(int) - scene(body, moved)) != 0
    drawn = np.zeros(SIZE * SIZE, dtype=bool)
    for vertices in (standing, moved):
        drawn[project_mesh(vertices, body.faces.numpy(), (190, 190), (48, 48), (SIZE, SIZE)).pixel] = True
    drawn = drawn.reshape(SIZE, SIZE)
    assert differ.any(axis=-1)[drawn].mean() > 0.6
    assert not differ.any(axis=-1)[~grown(drawn, 5)].any(), "beyond softened outlines and blur"


def test_what_is_in_front_hides_the_person_and_is_known_without_rendering(body, standing):
    centres = (torch.arange(SIZE) + 0.5) / SIZE
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), dim=-1).reshape(1, -1, 2)
    person = np.zeros(SIZE * SIZE, dtype=bool)
    person[project_mesh(standing, body.faces.numpy(), (190, 190), (48, 48), (SIZE, SIZE)).pixel] = True
    person = person.reshape(SIZE, SIZE)
    hidden_person = 0
    for key in range(24):
        hidden = covered(grid, KEYS[key : key + 1], 0, 1.0).reshape(SIZE, SIZE).numpy()
        inner = ~grown(~hidden, 5)  # beyond the reach of blur
        here = scene(body, standing, key, probability=1.0)
        gone = scene(body, standing + np.float32([0.0, 0.0, -90.0]), key, probability=1.0)
        assert (here == gone)[inner].all(), "the object's pixels, whether a person is behind it or not"
        assert (here != gone).any(axis=-1)[person & ~hidden].mean() > 0.7
        hidden_person += int((inner & person).sum())
    assert hidden_person > 100


def test_a_share_of_the_people_has_something_in_front():
    drawn = occluders(KEYS, seed=3, probability=0.5)
    number = drawn.present.sum(dim=1)
    assert drawn.present.shape == (len(KEYS), MAX_OCCLUDERS)
    assert (number > 0).float().mean() == pytest.approx(0.5, abs=0.04)
    assert (number > 1).float().mean() == pytest.approx(0.2, abs=0.03)
    assert (number == 3).any() and drawn.round.float().mean() == pytest.approx(0.4, abs=0.03)
    assert not covered(torch.rand(len(KEYS), 17, 2), KEYS, 3, 0.0).any()


def test_covered_belongs_to_the_key_and_not_to_the_batch():
    points = torch.rand(len(KEYS), 17, 2, generator=torch.Generator().manual_seed(0))
    hidden = covered(points, KEYS, 5, 0.7)
    assert 0.02 < hidden.float().mean() < 0.3
    order = torch.randperm(len(KEYS), generator=torch.Generator().manual_seed(1))[:50]
    assert (covered(points[order], KEYS[order], 5, 0.7) == hidden[order]).all()
    assert (covered(points, KEYS, 6, 0.7) != hidden).any()


def test_objects_contain_what_their_equations_say():
    drawn = occluders(KEYS[:50], seed=0, probability=1.0)
    points = torch.rand(50, 200, 2, generator=torch.Generator().manual_seed(0))
    inside = drawn.contain(points)
    for person in range(50):
        for number in range(int(drawn.present[person].sum())):
            angle = drawn.angle[person, number]
            axis = torch.stack((angle.cos(), angle.sin()))
            offset = points[person] - drawn.centre[person, number]
            along = (offset @ axis) / drawn.half_size[person, number, 0]
            across = (offset @ torch.stack((-axis[1], axis[0]))) / drawn.half_size[person, number, 1]
            if drawn.round[person, number]:
                expected = along**2 + across**2 <= 1
            else:
                expected = (along.abs() <= 1) & (across.abs() <= 1)
            assert (inside[person, :, number] == expected).float().mean() > 0.999


def test_outside_of_the_whole_image_is_black(body, standing):
    image = scene(body, standing, camera=lens(left=20.0))
    assert (image[:, :20] == 0).all() and (image[:, 20:] > 0).any()


def test_hems_cuffs_and_hair_are_where_they_are_worn(body):
    on = clothes.surface(body)
    worn = clothes.clothes(on, np.random.default_rng(0))
    colour = {name: np.full(3, value) for name, value in (("skin", 0.1), ("hair", 0.2), ("shoes", 0.3))}
    shirt, trousers = (clothes.Cloth(np.full((2, 3), value), 0, 0.1, 0.5) for value in (0.4, 0.5))
    worn = worn._replace(**colour, shirt=shirt, trousers=trousers, waist=0.1, hem=-0.4, cuff=0.4, hairline=0.5)
    colours, tilt = clothes.wear(on, worn, on.points, on.part)
    value, (x, y, z) = np.round(colours[:, 0], 3), on.points.T
    hand, foot = on.part == clothes.HAND, on.part == clothes.FOOT
    assert (value[hand] == np.float32(0.1)).all() and (value[foot] == np.float32(0.3)).all()
    assert set(value[(y < -0.42) & ~foot]) == {np.float32(0.1)}, "bare shins"
    assert set(value[(np.abs(x) > 0.42) & ~hand]) == {np.float32(0.1)}, "short sleeves"
    assert set(value[(np.abs(y - 0.2) < 0.09) & (np.abs(x) < 0.3)]) == {np.float32(0.4)}
    hair = value == np.float32(0.2)
    assert 100 < hair.sum() < (on.part == clothes.HEAD).sum() and z[hair].mean() < z[~hair].max() - 0.1
    assert (tilt[value < 0.35] == 0).all() and (tilt[value > 0.35] != 0).any()


def test_clothes_vary(body):
    on = clothes.surface(body)
    worn = [clothes.clothes(on, np.random.default_rng(seed)) for seed in range(200)]
    assert {person.shirt.kind for person in worn} == {0, 1, 2, 3, 4}
    assert np.std([person.shirt.colours[0] for person in worn], axis=0).min() > 0.15
    assert np.std([person.cuff for person in worn]) > 0.05 and np.std([person.hem for person in worn]) > 0.1
    every = np.concatenate([[*person.skin, *person.hair, *person.shirt.colours.ravel()] for person in worn])
    assert every.min() >= 0.0 and every.max() <= 1.05


def test_photographs_are_found_and_cropped(photos):
    found = find_photos(photos)
    assert [path.name for path in found] == ["0.png", "1.JPG"]
    images = [background(SIZE, np.random.default_rng(seed), found) for seed in range(20)]
    again = background(SIZE, np.random.default_rng(3), found)
    assert (again == images[3]).all() and all(image.shape == (SIZE, SIZE, 3) for image in images)
    assert len({image.tobytes() for image in images}) == 20


def test_wrong_folders_and_files_of_photographs_are_named(photos, tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        find_photos(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: found no photographs"):
        find_photos(tmp_path / "empty")
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not an image")
    with pytest.raises(InputError, match="broken.jpg: found no readable photograph"):
        for seed in range(10):
            background(SIZE, np.random.default_rng(seed), [broken])


def test_shapes_are_what_they_are_said_to_be(body):
    checked = jaxtyped(typechecker=beartype)
    assert checked(scenes.occluders)(KEYS, 0, 0.5).centre.shape == (len(KEYS), MAX_OCCLUDERS, 2)
    assert checked(scenes.covered)(torch.rand(len(KEYS), 17, 2), KEYS, 0, 0.5).shape == (len(KEYS), 17)
    assert checked(backgrounds.background)(SIZE, np.random.default_rng(0), []).shape == (SIZE, SIZE, 3)
    on = checked(clothes.surface)(body)
    worn = checked(clothes.clothes)(on, np.random.default_rng(0))
    assert len(checked(clothes.wear)(on, worn, on.points, on.part)) == 2
