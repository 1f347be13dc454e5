"""The help of `train`, and the order in which its arguments are read."""

import pytest

from scripts.train import ordered
from scripts.training.help import VERBS, page
from tests.places import ROOT

TRAIN = "noise2pose train"


@pytest.mark.parametrize("args", [[], *([verb] for verb in VERBS), ["-c", "a.yaml", "fit", "--model.width", "3"]])
def test_a_page_fits_on_one_screen_and_names_files_that_exist(args):
    text = page([*args, "--help"], TRAIN)
    assert text == page([*args, "-h"], TRAIN)
    lines = text.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 120
    files = {word for word in text.split() if word.startswith("configs/") and word.endswith(".yaml")}
    assert files and all((ROOT / file).is_file() for file in files)
    if args:
        assert f"{TRAIN} fit --help all" in text or f"{TRAIN} {args[0]} --help all" in text


def test_all_options_and_the_help_of_a_class_are_left_to_the_parser():
    for args in (["fit", "--help", "all"], ["fit", "--model.help", "methods.hmr.HMR"], ["fit", "-c", "a.yaml"], []):
        assert page(args, TRAIN) is None
    assert ordered(["fit", "--help", "all"]) == ["fit", "--help"]


def test_files_are_read_before_pieces_and_pieces_before_options():
    args = "fit --model.width 3 --data d.yaml -c a.yaml --name x --config=b.yaml --model=m.yaml --data.n -1 -c c.yaml"
    wanted = "fit -c a.yaml --config=b.yaml -c c.yaml --data d.yaml --model=m.yaml --model.width 3 --name x --data.n -1"
    assert ordered(args.split()) == wanted.split()
    assert ordered(["-c", "x.yaml", "fit", "-c"]) == ["-c", "x.yaml", "fit", "-c"]
