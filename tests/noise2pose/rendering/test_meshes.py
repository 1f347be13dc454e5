import time

import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped

from noise2pose.bodies import BodyModel
from noise2pose.rendering import meshes, rasteriser
from noise2pose.rendering.meshes import overlay, project_mesh, render_mesh, shade, side_view, vertex_normals

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
CUBE_FACES = np.array(
    [
        [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5],
        [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6],
        [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def body():
    """Vertices of a person upright in the camera frame, three metres away, and the faces."""
    model = BodyModel.load("free")
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    posed = model(upright, torch.eye(3).expand(23, 3, 3), torch.zeros(10), torch.tensor([0.0, 0.1, 3.0]))
    return posed.vertices.numpy(), model.faces.numpy()


def test_a_cube_seen_from_the_front():
    picture = render_mesh(CUBE + [0, 0, 5.0], CUBE_FACES, (40, 20), (50, 30), (100, 60))
    rows, columns = np.nonzero(picture[..., 3])
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (40, 59, 25, 34), "the near side is at z = 4"
    assert len(rows) == 20 * 10
    assert (picture[picture[..., 3] == 0] == 0).all()


def test_light_comes_from_where_it_is_said_to_come():
    normals = np.eye(3, dtype=np.float32)
    shaded = shade(normals, (1.0, 0.5, 0.0), light=(2, 0, 0), ambient=0.1)
    assert np.allclose(shaded, [[1.0, 0.5, 0.0], [0.1, 0.05, 0.0], [0.1, 0.05, 0.0]])
    assert np.allclose(shade(-normals, (1.0, 0.5, 0.0), (2, 0, 0), 0.1)[0], [0.1, 0.05, 0.0])


def test_normals_point_outward_and_have_unit_length(body):
    vertices, faces = body
    normals = vertex_normals(vertices, faces)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-5)
    head = vertices[:, 1] < vertices[:, 1].min() + 0.15
    outward = vertices[head] - vertices[head].mean(axis=0)
    assert ((outward * normals[head]).sum(axis=1) > 0).mean() > 0.75
    assert np.allclose(vertex_normals(CUBE, CUBE_FACES) * CUBE > 0, True)


def test_values_of_vertices_show_where_the_vertices_are(body):
    vertices, faces = body
    fragments = project_mesh(vertices, faces, (300, 300), (128, 128), (256, 256))
    at = fragments.interpolate(vertices)
    columns = at[:, 0] / at[:, 2] * 300 + 128
    assert len(columns) > 2000 and np.allclose(columns, fragments.pixel % 256 + 0.5, atol=0.01)


def test_an_overlay_leaves_the_photograph_around_the_person(body):
    photo = np.random.default_rng(0).integers(0, 256, (200, 240, 3)).astype(np.uint8)
    before = photo.copy()
    camera = (250.0, 250.0), (120.0, 100.0)
    covered = project_mesh(*body, *camera, (240, 200)).pixel
    picture = overlay(photo, *body, *camera, opacity=1.0)
    assert (photo == before).all()
    changed = (picture != photo).any(axis=-1)
    inside = np.zeros(200 * 240, dtype=bool)
    inside[covered] = True
    inside = inside.reshape(200, 240)
    near = inside.copy()
    for axis in (0, 1):
        for shift in (-1, 1):
            near |= np.roll(near, shift, axis)
    assert (changed <= near).all() and changed[inside].mean() > 0.97
    assert (overlay(photo, *body, *camera, opacity=0.0) == photo).all()
    half = overlay(photo, *body, *camera, opacity=0.5).astype(int)
    assert abs(2 * half - picture - photo)[inside].mean() < 2


def test_an_overlay_of_a_part_is_a_part_of_the_overlay(body):
    photo = np.random.default_rng(0).integers(0, 256, (200, 240, 3)).astype(np.uint8)
    whole = overlay(photo, *body, (500.0, 500.0), (120.0, 100.0))
    part = overlay(photo[30:150, 100:], *body, (500.0, 500.0), (20.0, 70.0))
    assert (part != whole[30:150, 100:]).mean() < 1e-3


@pytest.mark.parametrize("shift", [(50.0, 0.0, 0.0), (0.0, 0.0, -10.0)])
def test_a_person_out_of_sight_changes_nothing(body, shift):
    photo = np.full((50, 60, 3), 128, dtype=np.uint8)
    assert (overlay(photo, body[0] + np.float32(shift), body[1], (60, 60), (30, 25)) == photo).all()


def test_the_side_view_shows_depth_to_the_right_and_the_whole_body(body):
    vertices, faces = body
    leaning = vertices.copy()
    leaning[:, 2] += 0.5 * (vertices[:, 1] - vertices[:, 1].max())  # the head towards the camera
    picture = side_view(leaning, faces, (300, 200))
    drawn = (picture < 250).any(axis=-1)
    rows, columns = np.nonzero(drawn)
    assert picture.shape == (200, 300, 3)
    assert 5 < rows.min() < 20 and 180 < rows.max() < 195, "framed"
    assert columns[rows < 60].mean() < columns[rows > 160].mean() - 20, "near is at the left"
    arms = vertices.copy()
    arms[:, 0] = np.where(vertices[:, 0] > 0.3, 0.3, vertices[:, 0])
    assert (side_view(arms, faces, (300, 200)) != side_view(vertices, faces, (300, 200))).any(), "seen from its left"


@pytest.mark.parametrize("size", [(512, 512), (1920, 1080)])
def test_pictures_are_quick(body, size):
    photo = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    focal, centre = (1.45 * size[1],) * 2, (size[0] / 2, size[1] / 2)
    start = time.process_time()
    overlay(photo, *body, focal, centre)
    side_view(*body, size)
    assert time.process_time() - start < 2.0


def test_shapes_are_what_they_are_said_to_be(body):
    vertices, faces = body
    checked = jaxtyped(typechecker=beartype)
    focal, centre = np.array([60.0, 60.0]), np.array([32.0, 24.0])
    pixels = np.concatenate((300 * vertices[:, :2] / vertices[:, 2:] + 32, vertices[:, 2:]), axis=1)
    assert checked(rasteriser.rasterise)(pixels, faces, (64, 64))[2].shape[1] == 3
    assert checked(meshes.project_mesh)(vertices, faces, focal, centre, (64, 64)).pixel.ndim == 1
    normals = checked(meshes.vertex_normals)(vertices, faces)
    assert checked(meshes.shade)(normals, np.ones(3), np.array([0.0, 0.0, -1.0]), 0.2).shape == vertices.shape
    assert checked(meshes.render_mesh)(vertices, faces, focal, centre, (64, 48)).shape == (48, 64, 4)
    photo = np.zeros((48, 64, 3), dtype=np.uint8)
    assert checked(meshes.overlay)(photo, vertices, faces, focal, centre).shape == (48, 64, 3)
    assert checked(meshes.side_view)(vertices, faces, (64, 48)).shape == (48, 64, 3)
