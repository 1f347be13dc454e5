"""Every publisher says what it is, without being imported."""

import argparse
import importlib

import pytest

from datamodules.sources import publishers

KNOWN = publishers()


def test_every_folder_of_sources_is_a_publisher():
    assert list(KNOWN) == [
        *("amass", "bedlam", "bvh", "cmu_mocap", "coco", "crowdpose", "halpe", "human36m", "motion_clips"),
        *("mpi_inf_3dhp", "muco", "ochuman", "panoptic", "ssp3d", "threedoh", "threedpw", "uiprmd"),
    ]
    assert [name for name, publisher in KNOWN.items() if publisher.download] == ["cmu_mocap"]


@pytest.mark.parametrize("publisher", KNOWN.values(), ids=KNOWN.keys())
def test_what_a_publisher_says(publisher):
    assert publisher.summary and "\n" not in publisher.summary and publisher.page.startswith("http")
    files = importlib.import_module(publisher.module)
    assert publisher.page in files.DESCRIPTION and publisher.name in files.plan.__module__
    files.add_options(argparse.ArgumentParser())
