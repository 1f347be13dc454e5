import numpy as np
import pytest

from noise2pose.errors import InputError
from noise2pose.object_npz import read_object_npz, write_object_npz


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_nested_arrays_are_read_as_numpy_wrote_them(tmp_path):
    arrays = [np.random.default_rng(0).random((5, 17, 2), dtype=np.float32), np.arange(6).reshape(2, 3)]
    metadata = {"layout": "h36m", "symmetry": [[1, 2], [3, 4]], "number": np.float64(2.5)}
    np.savez_compressed(
        tmp_path / "in.npz", positions_2d={"S1": {"Walk 1": arrays}}, metadata=metadata, plain=arrays[1]
    )
    found = read_object_npz(tmp_path / "in.npz")
    assert np.array_equal(found["positions_2d"]["S1"]["Walk 1"][0], arrays[0])
    assert found["metadata"] == metadata and np.array_equal(found["plain"], arrays[1])


def test_code_in_a_file_is_not_run(tmp_path, capsys):
    np.savez(tmp_path / "evil.npz", positions_2d=np.array({"S1": Evil()}, dtype=object))
    with pytest.raises(InputError, match="evil.npz.*wants to call builtins.print"):
        read_object_npz(tmp_path / "evil.npz")
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize("cut", [0, 10, 200, -30])
def test_a_broken_file_is_named(tmp_path, cut):
    np.savez(tmp_path / "whole.npz", positions_2d=np.array({"S1": np.ones((50, 2))}, dtype=object))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:cut])
    with pytest.raises(InputError, match="cut.npz cannot be read"):
        read_object_npz(tmp_path / "cut.npz")
    with pytest.raises(InputError, match="missing.npz does not exist"):
        read_object_npz(tmp_path / "missing.npz")


def test_what_is_written_is_read_by_numpy_of_either_version(tmp_path):
    array = np.random.default_rng(0).random((4, 17, 5, 5), dtype=np.float32)
    tree = {"S1": {"Walking": [lambda: array, lambda: array[::2]]}, "S5": {}}
    write_object_npz(tmp_path / "a.npz", "positions_2d", tree)
    found = np.load(tmp_path / "a.npz", allow_pickle=True)["positions_2d"].item()
    assert np.array_equal(found["S1"]["Walking"][0], array) and np.array_equal(found["S1"]["Walking"][1], array[::2])
    assert found["S5"] == {} and np.array_equal(
        read_object_npz(tmp_path / "a.npz")["positions_2d"]["S1"]["Walking"][0], array
    )
    assert b"numpy._core" not in (tmp_path / "a.npz").read_bytes()  # a name that NumPy 1 does not know
    write_object_npz(tmp_path / "b.npz", "positions_2d", tree)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
