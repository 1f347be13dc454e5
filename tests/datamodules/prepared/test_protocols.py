import pytest

from datamodules.prepared.protocols import PUBLISHED, published
from noise2pose.errors import InputError
from tests.places import ROOT


def test_published_protocols_are_known_by_name_and_documented():
    text = (ROOT / "docs" / "protocols.md").read_text()
    for name, protocol in PUBLISHED.items():
        assert f"`{name}`" in text and protocol.name == name and protocol.ground_truth
    assert published("threedpw", split="validation").split == "validation"
    with pytest.raises(InputError, match="^unknown protocol human37m; known are human36m_lifting, "):
        published("human37m")
