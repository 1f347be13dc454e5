import numpy as np
import pytest

from noise2pose.export.rrd import write_rrd
from tests.noise2pose.export.motions import FPS, H36M, body_motion, joint_motion, places

pytest.importorskip("rerun")
MILLIMETRE = 0.001


def read(path):
    """What a recording holds by entity: a record batch for each chunk."""
    from rerun.chunk import RrdReader

    found = {}
    for chunk in RrdReader(str(path)).stream():
        found.setdefault(chunk.entity_path, []).append((chunk.is_static, chunk.to_record_batch()))
    return found


def column(chunks, name):
    """Values by frame."""
    values = {}
    for is_static, batch in chunks:
        if not is_static and name in batch.schema.names:
            values |= dict(zip(batch.column("frame").to_pylist(), batch.column(name).to_pylist(), strict=True))
    return values


def test_a_recording_gives_the_joints_back(tmp_path):
    motion = joint_motion(5, keypoints_2d=joint_motion(5).keypoints_2d.copy()).rows([0, 1, 3, 4])
    motion.keypoints_2d[1, 3, 2] = 0.0
    write_rrd(tmp_path / "a.rrd", [motion, body_motion(2, name="carl / 2")])
    found = read(tmp_path / "a.rrd")
    joints = column(found["/world/berta/joints"], "Points3D:positions")
    for row, frame in enumerate([0, 1, 3, 4]):
        assert np.abs(np.array(joints[frame]) - places(motion)[row]).max() < MILLIMETRE
    (clock,) = [batch.column("time") for is_static, batch in found["/world/berta/joints"] if not is_static]
    assert [value.value / 1e9 for value in clock] == pytest.approx([frame / FPS for frame in (0, 1, 3, 4)], abs=1e-5)
    (labels,) = [batch for is_static, batch in found["/world/berta/joints"] if is_static]
    assert labels.column("Points3D:labels").to_pylist() == [list(H36M.joints)]
    bones = column(found["/world/berta/bones"], "LineStrips3D:strips")
    assert np.abs(np.array(bones[0]) - places(motion)[0][np.array(H36M.edges)]).max() < MILLIMETRE
    spheres = column(found["/world/berta/uncertainty"], "Ellipsoids3D:half_sizes")
    assert np.allclose(spheres[0], 0.03)
    ghosts = column(found["/world/berta/hypotheses"], "LineStrips3D:strips")
    assert len(ghosts[0]) == 3 * 16
    flat = column(found["/image/berta/joints_2d"], "Points2D:positions")
    assert len(flat[0]) == 17 and len(flat[1]) == 16
    assert np.allclose(flat[0], motion.keypoints_2d[0, :, :2], atol=1e-3)
    scalars = column(found["/confidence/berta"], "Scalars:scalars")
    assert np.allclose(scalars[0], 0.9) and scalars[1][3] == 0.0
    assert any("carl" in entity for entity in found)


def test_people_are_cleared_when_they_leave(tmp_path):
    write_rrd(tmp_path / "a.rrd", [joint_motion(5).rows([0, 1, 3, 4])])
    cleared = column(read(tmp_path / "a.rrd")["/world/berta"], "Clear:is_recursive")
    assert cleared == {2: [True], 5: [True]}


def test_the_same_motion_gives_the_same_chunks(tmp_path):
    for name in ("a", "b"):
        write_rrd(tmp_path / f"{name}.rrd", [joint_motion(2)])
    one, two = (read(tmp_path / f"{name}.rrd") for name in ("a", "b"))
    assert set(one) == set(two) and not any("log_time" in batch.schema.names for _, batch in sum(one.values(), []))
