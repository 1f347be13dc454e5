import zipfile

import pytest

from tests.datamodules.acclaim import amc, asf
from tests.scripts.prepare.cmu import BROKEN, prepare


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two subjects and five clips in the layout of the official archive, one of them broken."""
    path = tmp_path_factory.mktemp("archive") / "allasfamc.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for subject in ("01", "02"):
            file.writestr(f"all_asfamc/subjects/{subject}/{subject}.asf", asf())
        for number in range(1, 4):
            file.writestr(f"all_asfamc/subjects/01/01_{number:02d}.amc", amc(seed=number))
        file.writestr("all_asfamc/subjects/02/02_01.amc", amc(frames=600, seed=9))
        file.writestr("all_asfamc/subjects/02/02_02.amc", BROKEN)
        file.writestr("__MACOSX/all_asfamc/subjects/01/._01_01.amc", "not a motion")
    return path


@pytest.fixture(scope="module")
def prepared(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "out"
    return folder, prepare("--source", archive, "--output", folder, status=1)  # one clip is broken
