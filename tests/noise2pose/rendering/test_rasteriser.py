import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noise2pose.bodies import BodyModel
from noise2pose.rendering import rasteriser
from noise2pose.rendering.rasteriser import rasterise


def faces_of(vertices, faces, size):
    """The triangle that each pixel shows, -1 for none."""
    pixel, face, _ = rasterise(vertices, faces, size)
    picture = np.full(size, -1)
    picture.flat[pixel] = face
    return picture


def naive(vertices, faces, size, near=rasteriser.NEAR):
    """One triangle after the other, one pixel after the other."""
    face, depth = np.full(size, -1), np.full(size, np.inf)
    weights = np.zeros((*size, 3))
    for number, corners in enumerate(faces):
        points = vertices[corners].astype(np.float32).astype(float)
        if (points[:, 2] <= near).any():
            continue
        matrix = np.stack((points[:, 0], points[:, 1], np.ones(3)))
        area = -np.linalg.det(matrix)
        if area <= 0:
            continue
        for row in range(size[0]):
            for column in range(size[1]):
                shares = np.linalg.solve(matrix, (column + 0.5, row + 0.5, 1.0))
                if (shares < 0).any():
                    continue
                z = 1.0 / (shares / points[:, 2]).sum()
                if z < depth[row, column]:
                    face[row, column], depth[row, column] = number, z
                    weights[row, column] = shares / points[:, 2] * z
    return face, weights


def mixed_triangles(seed, size, count=150):
    """Large and sub-pixel ones, half outside, behind the camera, both sides."""
    generator = np.random.default_rng(seed)
    centre = generator.uniform(-0.2, 1.2, (count, 1, 2)) * size[::-1]
    spread = 10.0 ** generator.uniform(-1.5, 0.8, (count, 1, 1))
    pixels = centre + spread * generator.normal(size=(count, 3, 2))
    depth = generator.uniform(-0.1, 3.0, (count, 1, 1)) + spread + 0.3 * generator.normal(size=(count, 3, 1))
    return np.concatenate((pixels, depth), axis=-1).reshape(-1, 3), np.arange(3 * count).reshape(-1, 3)


@pytest.mark.parametrize("seed", range(8))
def test_equal_to_one_triangle_after_the_other(seed, monkeypatch):
    monkeypatch.setattr(rasteriser, "_CHUNK", (1, 100, 1 << 18, 1 << 18)[seed % 4])
    size = (19, 23)
    vertices, faces = mixed_triangles(seed, size)
    face, weights = naive(vertices, faces, size)
    assert (face >= 0).sum() > 5
    assert (faces_of(vertices, faces, size) == face).all()
    assert np.allclose(rasterise(vertices, faces, size)[2], weights[face >= 0], atol=1e-5)


def test_a_triangle_over_the_whole_picture_and_one_below_a_pixel():
    vertices = np.array([[-100, -100, 2], [-100, 300, 2], [300, -100, 2], [3.4, 5.4, 1], [3.5, 5.6, 1], [3.6, 5.4, 1]])
    shown = faces_of(vertices, np.array([[0, 1, 2], [3, 4, 5]]), (9, 11))
    assert shown[5, 3] == 1 and (shown == 0).sum() == 9 * 11 - 1
    missed = vertices + [0.3, 0.0, 0.0]  # between two centres
    assert (faces_of(missed, np.array([[3, 4, 5]]), (9, 11)) == -1).all()


def square(low, high, z=1.0):
    corners = [[low, low, z], [low, high, z], [high, high, z], [high, low, z]]
    return np.array(corners, dtype=float), np.array([[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize(("low", "high"), [(0.5, 8.5), (1.0, 7.0), (0.3, 7.9)])
def test_no_pixel_falls_between_two_triangles(low, high):
    vertices, faces = square(low, high)
    covered = faces_of(vertices, faces, (10, 10)) >= 0
    centres = np.arange(10) + 0.5
    inside = (centres >= low) & (centres <= high)
    assert (covered == inside[:, None] & inside).all()


def test_the_back_is_not_seen():
    vertices, faces = square(1, 7)
    assert (faces_of(vertices, faces, (10, 10)) >= 0).sum() == 36
    assert (faces_of(vertices, faces[:, ::-1], (10, 10)) == -1).all()


def test_nothing_behind_the_camera_is_drawn():
    vertices, faces = square(1, 7)
    vertices[0, 2] = 0.01
    assert (faces_of(vertices, faces, (10, 10)) == -1).all()
    vertices[0] = np.inf, np.nan, 0.0  # as a projection at depth zero has it
    assert (faces_of(vertices, faces, (10, 10)) == -1).all()


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(-9, 9), st.integers(-9, 9))
def test_moving_by_whole_pixels_moves_the_picture(seed, right, down):
    vertices, faces = mixed_triangles(seed, (20, 20))
    vertices[:, :2] = np.round(64 * vertices[:, :2]) / 64  # exact in single precision before and after
    still = faces_of(vertices, faces, (20, 20))
    moved = faces_of(vertices + [right, down, 0], faces, (20, 20))
    rows, columns = slice(max(down, 0), 20 + min(down, 0)), slice(max(right, 0), 20 + min(right, 0))
    back = slice(max(-down, 0), 20 + min(-down, 0)), slice(max(-right, 0), 20 + min(-right, 0))
    assert (moved[rows, columns] == still[back]).all()


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_a_triangle_covers_as_many_pixels_as_its_area(seed):
    vertices = np.concatenate((np.random.default_rng(seed).uniform(0, 100, (3, 2)), np.ones((3, 1))), axis=1)
    edges = np.roll(vertices[:, :2], -1, axis=0) - vertices[:, :2]
    area = abs(edges[0, 0] * edges[1, 1] - edges[0, 1] * edges[1, 0]) / 2
    covered = len(rasterise(vertices, np.array([[0, 1, 2], [0, 2, 1]]), (100, 100))[0])
    assert abs(covered - area) <= np.linalg.norm(edges, axis=1).sum() / 2 + 1


def test_the_nearest_wins_and_the_first_of_equals():
    vertices, faces = square(0, 8, z=2.0)
    nearer, _ = square(2, 6, z=1.0)
    shown = faces_of(np.concatenate((vertices, nearer)), np.concatenate((faces, faces + 4)), (8, 8))
    assert (shown[2:6, 2:6] >= 2).all() and (shown >= 2).sum() == 16
    assert faces_of(vertices, np.concatenate((faces, faces)), (8, 8)).max() == 1


def test_attributes_are_corrected_for_perspective():
    points = np.array([[-1.0, -1.0, 1.5], [-0.5, 2.0, 2.5], [2.0, 0.3, 4.0]])
    pixels = np.concatenate((points[:, :2] / points[:, 2:] * 30 + 25, points[:, 2:]), axis=1)
    pixel, face, weights = rasterise(pixels, np.array([[0, 1, 2], [2, 1, 0]]), (50, 50))
    rows, columns = np.divmod(pixel, 50)
    seen = weights @ (points if face[0] == 0 else points[::-1])
    again = seen[:, :2] / seen[:, 2:] * 30 + 25
    assert len(rows) > 100
    assert np.allclose(again, np.stack((columns, rows), axis=1) + 0.5, atol=1e-3)


def test_a_body_is_quick_and_its_front_is_what_both_sides_show():
    body = BodyModel.load("free")
    points = body.template.numpy() * [1, -1, -1] + [0, 0, 2.0]
    pixels = np.concatenate((points[:, :2] / points[:, 2:] * 235 + 112, points[:, 2:]), axis=1)
    faces = body.faces.numpy()
    front, both = (faces_of(pixels, chosen, (224, 224)) for chosen in (faces, np.concatenate((faces, faces[:, ::-1]))))
    assert (front >= 0).sum() > 7000
    assert ((front >= 0) == (both >= 0)).all(), "the mesh is watertight"
    assert (front == both).mean() > 0.999
    times = []
    for _ in range(5):
        start = time.process_time()
        rasterise(pixels, faces, (224, 224))
        times.append(time.process_time() - start)
    assert min(times) < 0.05
