import builtins
import functools
import os
import pickle
import sys
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import scipy.sparse

from noise2pose import safe_pickle
from noise2pose.errors import InputError
from noise2pose.safe_pickle import read_object_npz, write_object_npz
from tests.noise2pose.published_bodies import Chumpy


def sequence(**more):
    """A sequence of 3DPW, as its files hold it."""
    generator = np.random.default_rng(0)
    return {
        "sequence": "downtown_bar_00",
        "poses": [generator.normal(size=(5, 72)) for _ in range(2)],
        "betas": [generator.normal(size=300) for _ in range(2)],
        "genders": ["m", "f"],
        "poses2d": [generator.normal(size=(5, 3, 18)).astype(np.float32)],
        "campose_valid": [np.array([True, False, True, True, False])],
        "img_frame_ids": np.arange(5),
        "cam_intrinsics": np.eye(3),
        "trans": [np.asfortranarray(generator.normal(size=(5, 3)))],
        **more,
    }


def same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        return all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        return (
            all(map(same, found.ravel(), expected.ravel()))
            if found.dtype == object
            else np.array_equal(found, expected)
        )
    return found == expected


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_containers_of_arrays_are_read_exactly(tmp_path, protocol):
    content = sequence(
        ordered=OrderedDict(b=(1, 2.5), a={1, 2}),
        big=np.arange(3, dtype=">i4"),
        words=np.array(["nose", "left ear"]),
        bytes=np.array([b"nose", b"ear"]),
        objects=np.array([np.ones(2), None, {"a": np.zeros(0)}], dtype=object),
        scalars=[np.float64(2.5), np.int32(-3), np.bool_(True), np.str_("male"), 1 + 2j, b"", b"\xff"],
        same=[None, True, "é", 1 << 70],
    )
    (tmp_path / "s.pkl").write_bytes(pickle.dumps(content, protocol))
    assert same(safe_pickle.load(tmp_path / "s.pkl"), pickle.loads(pickle.dumps(content, protocol)))


def test_a_file_of_python_2_is_read(tmp_path):
    """Written by hand, as Python 2 writes it: protocol 2, bytes as strings, NumPy's old places."""
    values = np.array([[0.5, -2.0, 1e300]])
    raw = values.tobytes()
    file = (
        b"\x80\x02}q\x00U\x05posesq\x01]q\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85"
        b"U\x01b\x87Rq\x05(K\x01K\x01K\x03\x86cnumpy\ndtype\nq\x06U\x02f8K\x00K\x01\x87Rq\x07"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U" + bytes([len(raw)]) + raw + b"tbas."
    )
    (tmp_path / "s.pkl").write_bytes(file)
    found = safe_pickle.load(tmp_path / "s.pkl")
    assert list(found) == ["poses"] and np.array_equal(found["poses"][0], values)
    assert np.dtype("f8").isnative  # NumPy's shared types are as they were


class Call:
    """Calls a function when a trusting reader reads it."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Restores:
    def __setstate__(self, state):
        open(state["path"], "w").close()

    def __getstate__(self):
        return {"path": os.environ["SENTINEL"]}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "smuggled, wanted",
    [
        (lambda path: Call(os.system, f"touch {path}"), "(posix|nt).system"),
        (lambda path: Call(builtins.eval, f"open({str(path)!r}, 'w')"), "builtin(s|__).eval"),
        (lambda path: Call(builtins.getattr, "text", "upper"), "builtin(s|__).getattr"),
        (lambda path: Call(np.load, str(path)), "numpy.load"),
        (lambda path: Call(np.ndarray.tofile, np.ones(1), str(path)), "(builtin(s|__).getattr|numpy.ndarray.tofile)"),
        (lambda path: Call(np.savetxt, str(path), np.ones(1)), "numpy.savetxt"),
        (lambda path: Call(functools.partial, os.system, f"touch {path}"), "functools.partial"),
        (lambda path: Call(defaultdict, os.getcwd), "collections.defaultdict"),
        (lambda path: Restores(), "Restores"),
    ],
)
def test_code_in_a_file_is_refused_by_name_and_not_run(tmp_path, monkeypatch, smuggled, wanted, protocol):
    sentinel = tmp_path / "sentinel"
    monkeypatch.setenv("SENTINEL", str(sentinel))
    content = pickle.dumps(sequence(extra=smuggled(sentinel)), protocol)
    (tmp_path / "evil.pkl").write_bytes(content)
    with pytest.raises(InputError, match=f"evil.pkl cannot be read .*it wants to call .*{wanted}"):
        safe_pickle.load(tmp_path / "evil.pkl")
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "content",
    [
        # A type that says its objects are numbers would hand out memory of the file's choosing.
        b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'|'\nN(S'a'\nt(S'a'\n(cnumpy\ndtype\n(S'O'\ntRI0\ntdI8\nI1\nI0\ntb.",
        b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI1\nI1\nI0\ntb.",
        b"cnumpy\ndtype\n(S'V8'\ntR.",
        b"cnumpy\ndtype\n(S'O,i4'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O'\ntRS'12345678'\ntR.",
        b"cnumpy\nndarray\n(I4\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cchumpy.ch\nCh\n(I0\ntS'b'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n(I9\ntcnumpy\ndtype\n(S'O'\ntRI00\n(lNaNatb.",
        b"c_codecs\nencode\n(Va\nVrot13\ntR.",
        b"ccopy_reg\n_reconstructor\n(c__builtin__\nset\nc__builtin__\nobject\nNtR.",
        b"c__builtin__\nset\n(tR(dS'a'\nI1\nsb.",
    ],
)
def test_what_poses_as_data_is_refused(tmp_path, content):
    (tmp_path / "evil.pkl").write_bytes(content)
    with pytest.raises(InputError, match="evil.pkl cannot be read"):
        safe_pickle.load(tmp_path / "evil.pkl")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"PK\x03\x04 a zip", b"\x93NUMPY\x01\x00", b"(" * 100, b"\x80\x63."]
)
def test_what_is_no_pickle_is_named(tmp_path, content):
    (tmp_path / "text.pkl").write_bytes(content)
    with pytest.raises(InputError, match="text.pkl cannot be read as a pickle file"):
        safe_pickle.load(tmp_path / "text.pkl")


def test_a_truncated_or_missing_file_is_named(tmp_path):
    whole = pickle.dumps(sequence(), 2)
    for length in (1, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "half.pkl").write_bytes(whole[:length])
        with pytest.raises(InputError, match="half.pkl cannot be read"):
            safe_pickle.load(tmp_path / "half.pkl")
    with pytest.raises(InputError, match="nowhere.pkl does not exist"):
        safe_pickle.load(tmp_path / "nowhere.pkl")
    with pytest.raises(InputError, match="cannot be read"):
        safe_pickle.load(tmp_path)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
@pytest.mark.parametrize("kind", ["csc_matrix", "csr_matrix", "coo_matrix", "csr_array"])
def test_sparse_matrices_become_dense(tmp_path, kind, protocol):
    dense = np.random.default_rng(0).random((4, 9)) * (np.random.default_rng(1).random((4, 9)) < 0.3)
    content = pickle.dumps({"J_regressor": getattr(scipy.sparse, kind)(dense)}, protocol)
    assert b"scipy.sparse._" in content.replace(b"\x8c", b"")
    for place in (b"scipy.sparse." + kind[:3].encode(), b"scipy.sparse._" + kind[:3].encode()):
        old = content if protocol == 4 else content.replace(b"scipy.sparse._" + kind[:3].encode(), place)
        (tmp_path / "s.pkl").write_bytes(old)
        assert np.array_equal(np.asarray(safe_pickle.load(tmp_path / "s.pkl")["J_regressor"]), dense)


@pytest.mark.parametrize("protocol", [0, 2])
def test_objects_of_chumpy_are_evaluated_without_chumpy(tmp_path, protocol):
    chumpy = Chumpy()
    make = chumpy.make
    values = np.random.default_rng(0).normal(size=(6, 3, 4))
    flat = np.arange(values.size).reshape(values.shape)[:, :, :2]
    tree = {
        "v_template": make("Ch", x=values[..., 0]),
        "shapedirs": make("Select", a=make("Ch", x=values), idxs=flat.ravel(), preferred_shape=flat.shape),
        "J_transformed": make("MatVecMult", mtx=scipy.sparse.csc_matrix(np.eye(3)), vec=make("Ch", x=np.ones(3))),
        "f": np.arange(6, dtype=np.uint32),
    }
    (tmp_path / "SMPL.pkl").write_bytes(chumpy.dumps(tree, protocol))
    found = safe_pickle.load(tmp_path / "SMPL.pkl")
    assert "chumpy" not in sys.modules
    assert np.array_equal(np.asarray(found["v_template"]), values[..., 0])
    assert np.array_equal(np.asarray(found["shapedirs"]), values[:, :, :2])
    assert np.array_equal(found["f"], tree["f"])
    with pytest.raises(TypeError, match="MatVecMult.* is not evaluated"):
        np.asarray(found["J_transformed"])


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
