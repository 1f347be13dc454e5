"""Where the time of a call goes: named stages, added up while somebody asks for them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class Stages:
    """Seconds and calls by stage, in the order in which stages were first entered."""

    seconds: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, seconds: float) -> None:
        """Counts one call."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.calls[name] = self.calls.get(name, 0) + 1

    def table(self) -> str:
        """A line for each stage: milliseconds a call, calls, seconds and share of all stages."""
        whole = sum(self.seconds.values()) or 1.0
        lines = [f"{'stage':<10}{'ms a call':>11}{'calls':>8}{'seconds':>10}{'share':>8}"]
        for name, seconds in self.seconds.items():
            calls = self.calls[name]
            lines.append(f"{name:<10}{1000.0 * seconds / calls:>11.1f}{calls:>8}{seconds:>10.2f}{seconds / whole:>8.1%}")
        return "\n".join(lines)


_ACTIVE: ContextVar[Stages | None] = ContextVar("stages", default=None)


@contextmanager
def measured() -> Iterator[Stages]:
    """Adds up the stages of the block."""
    stages = Stages()
    token = _ACTIVE.set(stages)
    try:
        yield stages
    finally:
        _ACTIVE.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Counts the block as a stage, if a caller measures; stages must not lie in one another."""
    stages = _ACTIVE.get()
    if stages is None:
        yield
        return
    start = time.perf_counter()
    try:
        yield
    finally:
        stages.add(name, time.perf_counter() - start)
