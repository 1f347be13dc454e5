"""BEDLAM from its labels for SMPL to batches."""

import numpy as np
import pytest
from PIL import Image

from datamodules.evaluation_people import BEDLAM
from noise2pose.errors import InputError
from scripts.prepare import main
from tests.datamodules import bedlam_tree, gendered_bodies

SCENE = "20221010_3_250_static_6fps"


def prepare(source, output, *more):
    return main(["bedlam", "--source", str(source), "--output", str(output), "--num_workers", "0", *more])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    gendered_bodies.write(folder / "bodies")
    arrays = bedlam_tree.write(folder / "data", folder / "bodies")
    assert prepare(folder / "data", folder / "out") == 0
    return folder, arrays


def test_joints_lie_where_the_publisher_projects_them(home):
    folder, arrays = home
    module = BEDLAM(root=str(folder / "out"), bodies=str(folder / "bodies"))
    found = 0
    for split, recordings in (("train", range(4)), ("val", range(4, 5))):
        batch = module.load(split)
        assert len(batch["box"]) == len(recordings) * len(bedlam_tree.PEOPLE) * bedlam_tree.FRAMES
        assert batch["gender"].unique().tolist() == [0]  # of the body, not of who was scanned
        for row, (joints, subject) in enumerate(zip(batch["smpl_joints"].numpy(), batch["subject"], strict=True)):
            pixels = joints[:, :2] / joints[:, 2:] * bedlam_tree.FOCAL + np.array(bedlam_tree.SIZE) / 2
            distances = np.abs(arrays["gtkps"][:, :24, :2] - pixels).max(axis=(1, 2))
            nearest = int(distances.argmin())
            assert distances[nearest] < 0.05 and str(arrays["sub"][nearest]) == subject
            assert int(str(arrays["imgname"][nearest])[4:10]) in recordings
            expected = [*arrays["center"][nearest], 200.0 * arrays["scale"][nearest]]
            np.testing.assert_allclose(batch["box"][row], expected, rtol=1e-4)
            found += 1
    assert found == len(arrays["imgname"])
    with pytest.raises(InputError, match="labels are withheld"):
        module.load("test")


def test_images_are_those_of_the_rows(home):
    folder, arrays = home
    module = BEDLAM(root=str(folder / "out"), bodies=str(folder / "bodies"), images=True, image_size=32)
    module.prepare_data()
    rows = np.load(folder / "out" / "picture.npy")
    assert len(np.unique(rows)) == len(np.unique(arrays["imgname"]))  # two people share each


def test_with_gendered_bodies_the_label_counts(tmp_path, home):
    assert prepare(home[0] / "data", tmp_path / "out", "--bodies", "gendered") == 0
    assert sorted(set(np.load(tmp_path / "out" / "gender.npy").tolist())) == [1, 2]
    module = BEDLAM(root=str(tmp_path / "out"), bodies=str(home[0] / "bodies"))
    assert module.protocols("val")[0].ground_truth == "SMPL, gendered"


def test_what_is_wrong_is_named_and_the_rest_is_prepared(tmp_path, home, capsys):
    source = tmp_path / "data"
    arrays = bedlam_tree.write(source, home[0] / "bodies")
    names = [source / SCENE / "png" / str(name) for name in arrays["imgname"]]
    names[0].unlink()
    Image.new("RGB", bedlam_tree.SIZE[::-1]).save(names[1])
    arrays["shape"] = np.concatenate((arrays["shape"], np.zeros((len(arrays["shape"]), 1))), axis=1)
    arrays["pose_cam"][4, 7], arrays["scale"][5], arrays["gender"][8] = np.nan, 0.0, "x"
    np.savez(source / f"{SCENE}.npz", **arrays)
    np.savez(source / "elsewhere.npz", a=np.zeros(1))
    assert prepare(source, tmp_path / "out") == 1
    printed = capsys.readouterr().err
    for line in (
        "elsewhere.npz: left out: its images are not here",
        "has an image that is missing or cannot be opened; skipped",
        "has an image that is stored on its side: turn it clockwise by 90 degrees first; skipped",
        "has a `pose_cam` with NaN or infinity; skipped",
        "has a `scale` that is not above 0; skipped",
        "has a `gender` that is none of male, female and neutral; skipped",
    ):
        assert line in printed
    rows = len(np.load(tmp_path / "out" / "betas.npy"))
    assert rows == len(arrays["imgname"]) - 2 - 2 - 3  # both people of each of the two images


@pytest.mark.parametrize(
    "change, message",
    [
        ({"pose_cam": np.zeros((20, 165))}, "these are labels for SMPL-X"),
        ({"cam_ext": None}, "has no `cam_ext`"),
        ({"sub": np.array(["a"])}, "`sub` has another number of rows"),
    ],
)
def test_other_labels_stop_with_one_line(tmp_path, home, capsys, change, message):
    (tmp_path / SCENE / "png").mkdir(parents=True)
    changed = {key: value for key, value in {**home[1], **change}.items() if value is not None}
    np.savez(tmp_path / f"{SCENE}.npz", **changed)
    assert prepare(tmp_path, tmp_path / "out") in (1, 2)
    assert message in capsys.readouterr().err
