"""Texts: labels of motion capture as participles, environments, and what is drawn."""

import numpy as np
import pytest

from methods.posepp.people.prompts import ENVIRONMENTS, Writer, in_progress, read_environments
from methods.posepp.settings import Prompts
from noise2pose.errors import InputError


@pytest.mark.parametrize(
    "label, text",
    [
        ("walk", "walking"),
        ("sit_down", "sitting down"),
        ("Run (fast)", "running"),
        ("dance, modern", "dancing"),
        ("A1_-_Stand_poses", ""),
        ("wave - left hand", "waving"),
        ("punching", "punching"),
        ("lie", "lying"),
        ("squat 2", "squatting"),
        ("range of motion", ""),
        ("", ""),
    ],
)
def test_labels_become_participles_or_nothing(label, text):
    assert in_progress(label) == text


def test_there_are_two_hundred_environments_and_none_twice():
    environments = read_environments(ENVIRONMENTS)
    assert len(environments) >= 200 and len(set(environments)) == len(environments)
    assert all(place == place.strip() and len(place.split()) > 1 for place in environments)


def test_a_text_says_who_does_what_where(tmp_path):
    (tmp_path / "places.txt").write_text("# two\non the moon\n\nin a well\n")
    writer = Writer(Prompts(suffix=", photograph", environments=str(tmp_path / "places.txt")))
    texts = {writer.write(np.random.default_rng(seed), "neutral", "walk") for seed in range(40)}
    places = ("on the moon", "in a well")
    assert texts == {f"A {who} walking {where}, photograph" for who in ("man", "woman") for where in places}
    assert writer.write(np.random.default_rng(0), "female", "???").startswith("A woman ")
    (tmp_path / "places.txt").write_text("# nothing\n")
    read_environments.cache_clear()
    with pytest.raises(InputError, match="places.txt: found no environment"):
        Writer(Prompts(environments=str(tmp_path / "places.txt")))
