import time

import pytest

from noise2pose.timing import measured, stage


def test_inner_stages_are_not_counted_twice():
    with measured() as stages:
        for _ in range(3):
            with stage("outer"):
                time.sleep(0.01)
                with stage("inner"):
                    time.sleep(0.02)
    assert stages.calls == {"outer": 3, "inner": 3}
    assert 0.03 <= stages.seconds["outer"] and 0.06 <= stages.seconds["inner"]
    header, outer, inner = stages.table().splitlines()
    assert header.split() == ["stage", "ms", "a", "call", "calls", "seconds", "share"]
    assert outer.split()[0] == "outer" and inner.split()[2] == "3"
    assert float(outer.split()[-1][:-1]) + float(inner.split()[-1][:-1]) == pytest.approx(100.0, abs=0.11)


def test_nothing_is_counted_outside():
    with stage("free"):
        pass
    with measured() as stages, pytest.raises(KeyError), stage("fails"):
        raise KeyError
    assert stages.calls == {"fails": 1} and list(stages.seconds) == ["fails"]
