"""No key and no password reaches what a run records; options that only sound like one are left alone."""

import pytest

from noise2pose.credentials import refuse_credentials, without_credentials
from noise2pose.errors import InputError
from noise2pose.files import command


@pytest.mark.parametrize(
    "config",
    [
        {"trainer": {"logger": [{"init_args": {"settings": {"api_key": "abc"}}}]}},
        {"data": {"init_args": {"password": "abc"}}},
        {"data": {"init_args": {"hf_token": "abc"}}},
        {"data": {"root": "https://me:abc@host/x"}},
    ],
)
def test_a_credential_in_a_configuration_is_refused_without_repeating_it(config):
    with pytest.raises(InputError, match="holds a credential") as told:
        refuse_credentials(config)
    assert "abc" not in str(told.value)


def test_what_only_sounds_like_one_is_accepted():
    refuse_credentials(
        {
            "model": {"num_tokens": 3, "token_width": "wide", "class_token": "x", "token": None, "password": ""},
            "data": {"root": "https://host/me@x", "key": "joints", "keypoints_2d": "gt", "api_key": None},
        }
    )


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["fit", "--x.api_key=abc", "--name", "a"], ["fit", "--x.api_key=***", "--name", "a"]),
        (["fit", "--x.password", "a b", "--name", "a"], ["fit", "--x.password", "***", "--name", "a"]),
        (["get", "https://me:abc@host/x"], ["get", "https://***@host/x"]),
        (["fit", "--model.num_tokens", "3"], ["fit", "--model.num_tokens", "3"]),
    ],
)
def test_a_command_hides_them(words, shown, monkeypatch):
    assert without_credentials(words) == shown
    monkeypatch.setattr("sys.argv", ["scripts/train.py", *words])
    assert "abc" not in command() and "a b" not in command()
