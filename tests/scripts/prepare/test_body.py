import pickle

import numpy as np
import pytest

from noise2pose.bodies import BodyModel
from scripts.prepare import main
from tests.noise2pose.published_bodies import h36m_regressor, published


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    (folder / "SMPL_FEMALE.pkl").write_bytes(pickle.dumps(published("smpl"), 2))
    np.save(folder / "J_regressor_h36m.npy", h36m_regressor(published("smpl")["v_template"]))
    return folder


def body(*arguments):
    return main(["body", *map(str, arguments)])


def test_a_body_is_converted_and_told(source, tmp_path, capsys):
    target = tmp_path / "bodies" / "smpl.npz"
    regressor = f"h36m_17={source / 'J_regressor_h36m.npy'}"
    assert body("--source", source / "SMPL_FEMALE.pkl", "--output", target, "--regressor", regressor) == 0
    printed = capsys.readouterr().out
    assert "SMPL, female, 6890 vertices, 24 joints; regressors: h36m_17" in printed
    assert "has the left leg first as published; legs exchanged" in printed and "do not pass it on" in printed
    assert BodyModel.load(target).regressors == ("smpl_24", "h36m_17", "coco_face")
    assert [path.name for path in target.parent.iterdir()] == ["smpl.npz"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--source", "nowhere.pkl", "--output", "{}/b.npz"), "nowhere.pkl does not exist"),
        (("--source", "nowhere.npz", "--output", "{}/b.npz"), "nowhere.npz does not exist"),
        (("--source", "{0}", "--output", "{}/b.npz"), "expected a .pkl or .npz file of SMPL"),
        (("--source", "SMPL", "--output", "{}/b.npz", "--regressor", "h36m_17"), "expected NAME=FILE.npy"),
        (("--source", "SMPL", "--output", "{}/b.npz", "--regressor", "lsp=x.npy"), "no regressor of lsp is known"),
        (("--source", "SMPL", "--output", "{}/b.npz", "--regressor", "h36m_17=x.npy"), "x.npy does not exist"),
        (("--source", "SMPL", "--output", "{}/b.pkl"), "ends in .npz"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(source, tmp_path, capsys, arguments, message):
    smpl = source / "SMPL_FEMALE.pkl"
    assert body(*(smpl if word == "SMPL" else word.format(tmp_path) for word in arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert not list(tmp_path.iterdir())


def test_help_says_where_the_files_come_from_and_under_which_licence(capsys):
    with pytest.raises(SystemExit):
        body("--help")
    printed = capsys.readouterr().out
    assert "smpl.is.tue.mpg.de" in printed and "must not be passed on" in printed and "SPIN" in printed
