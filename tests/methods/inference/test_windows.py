import torch
from hypothesis import given
from hypothesis import strategies as st

from methods.inference.lifting import window_frames


@given(length=st.integers(1, 60), num_frames=st.integers(1, 30))
def test_every_frame_is_counted_once(length, num_frames):
    frames, counted = window_frames(length, num_frames)
    assert frames.shape == counted.shape == (len(frames), num_frames)
    assert sorted(frames[counted].tolist()) == list(range(length))
    inside = frames.diff(dim=1)
    assert ((inside == 1) | (frames[:, 1:] == length - 1)).all()  # consecutive, up to the end of a short sequence


def test_the_last_window_ends_with_the_sequence():
    frames, counted = window_frames(10, 4)
    assert frames[:, 0].tolist() == [0, 4, 6]
    assert counted[2].tolist() == [False, False, True, True]


def test_a_short_sequence_is_filled_up():
    frames, counted = window_frames(2, 4)
    assert torch.equal(frames, torch.tensor([[0, 1, 1, 1]]))
    assert counted.tolist() == [[True, True, False, False]]
