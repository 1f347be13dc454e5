"""Small files that would grow to all memory are refused, quickly."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from noise2pose import safe_pickle
from noise2pose.bodies.files import read
from noise2pose.errors import InputError
from noise2pose.keypoints.files import read_keypoints
from noise2pose.limits import SMALL, check_arrays
from noise2pose.stand_ins import SparseMatrix


def header(shape):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_a_header_that_claims_more_than_the_file_has_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("poses.npy", header((10**12, 3)))
    for reader in (check_arrays, safe_pickle.read_object_npz, read, read_keypoints):
        with pytest.raises(InputError, match=r"a.npz: poses.npy: its header claims 24,000,000,000,000 bytes"):
            reader(path)
    (tmp_path / "a.npy").write_bytes(header((10**12,)))
    with pytest.raises(InputError, match="a.npy: its header claims"):
        check_arrays(tmp_path / "a.npy")


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("noise2pose.limits.SMALL", 1 << 20)
    np.savez_compressed(tmp_path / "bomb.npz", poses=np.zeros(1 << 18))
    np.savez_compressed(tmp_path / "small.npz", poses=np.zeros(1 << 16))
    np.savez_compressed(tmp_path / "full.npz", poses=np.random.default_rng(0).random(1 << 18))
    with pytest.raises(InputError, match=r"bomb.npz: [\d,]+ bytes would unpack to 2,097,[\d,]+, more than"):
        check_arrays(tmp_path / "bomb.npz")
    check_arrays(tmp_path / "small.npz")
    check_arrays(tmp_path / "full.npz")
    assert SMALL == 1 << 30


def nested(kind, depth=60):
    """The opcodes of a container of twice the same container, and so on."""
    make = {"list": b"]q{}h{}ah{}a", "tuple": b"h{}\x86q{}"}[kind]
    code = b"K\x01q\x00"
    for level in range(depth):
        old, new = bytes([level]), bytes([level + 1])
        code += make.replace(b"q{}", b"q" + new).replace(b"h{}", b"h" + old)
    return code


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x04" + nested("list") + b".", "its containers repeat each other"),
        (b"\x80\x04}X\x01\x00\x00\x00v" + nested("tuple") + b"s.", "its containers repeat each other"),
        (b"\x80\x04}" + nested("tuple") + b"K\x01s.", "keys within keys"),
        (b"\x80\x04}(" + nested("tuple") + b"K\x01u.", "keys within keys"),
        (b"\x80\x04\x8f(" + nested("tuple") + b"\x90.", "keys within keys"),
        (b"\x80\x04(" + nested("tuple") + b"\x91.", "keys within keys"),
        (b"\x80\x02cbuiltins\nset\n]" + nested("tuple") + b"a\x85R.", "keys within keys"),
        (b"\x80\x02cnumpy\ndtype\n" + nested("tuple") + b"\x85R.", "an array of an unusual type"),
        (b"\x80\x04]q\x00h\x00ah\x00a.", "a container holds itself"),
    ],
)
def test_nested_references_are_refused(tmp_path, content, message):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(InputError, match=message):
        safe_pickle.load(tmp_path / "a.pkl")


def test_copies_of_the_same_text_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("noise2pose.safe_pickle.SMALL", 1 << 10)
    text = b"X" + (1000).to_bytes(4, "little") + b"a" * 1000 + b"q\x00"
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02]q\x01" + text + b"0h\x01c_codecs\nencode\nh\x00\x85Ra" * 1000 + b".")
    with pytest.raises(InputError, match="it copies the same values until memory is full"):
        safe_pickle.load(tmp_path / "a.pkl")


def test_values_that_are_shared_as_usual_are_read(tmp_path):
    shared = [np.arange(6.0), {"a": (1, 2)}]
    content = {"x": [shared] * 50, "keys": {(1, "a"): {1, 2}, frozenset([3]): 4}}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    found = safe_pickle.load(tmp_path / "a.pkl")
    assert found["keys"] == content["keys"] and len(found["x"]) == 50 and np.array_equal(found["x"][49][0], shared[0])


def test_a_sparse_matrix_is_not_written_out_beyond_all_memory():
    matrix = SparseMatrix()
    vars(matrix).update(_shape=(10**6, 10**6), data=np.zeros(0))
    with pytest.raises(TypeError, match="1000000 x 1000000 is too large"):
        np.asarray(matrix)
