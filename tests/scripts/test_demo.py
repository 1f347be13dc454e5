import pytest
from PIL import Image

from scripts import demo


@pytest.mark.slow
def test_the_picture_of_the_readme_is_drawn_by_the_demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the rendered images are kept
    assert demo.main(["--picture", str(tmp_path / "overview.png")]) == 0
    with Image.open(tmp_path / "overview.png") as drawn, Image.open(demo.ROOT / "docs" / "overview.png") as shown:
        assert drawn.size == shown.size and drawn.format == "PNG"
