"""Where the time of a call goes: named stages, added up while somebody asks for them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass
class Stages:
    """Seconds and calls by stage, in the order in which stages were first entered.

    The time of a stage within another one counts for the inner one only, so the seconds add up.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    within: list[float] = field(default_factory=list)  # seconds of inner stages, of each stage that is open

    @contextmanager
    def open(self, name: str) -> Iterator[None]:
        """Counts the block as a call of a stage."""
        self.seconds.setdefault(name, 0.0)
        self.within.append(0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] += spent - self.within.pop()
            self.calls[name] = self.calls.get(name, 0) + 1
            if self.within:
                self.within[-1] += spent

    def table(self) -> str:
        """A line for each stage: milliseconds a call, calls, seconds and share of all stages."""
        whole = sum(self.seconds.values()) or 1.0
        lines = [f"{'stage':<10}{'ms a call':>11}{'calls':>8}{'seconds':>10}{'share':>8}"]
        for name, seconds in self.seconds.items():
            calls = self.calls[name]
            share = seconds / whole
            lines.append(f"{name:<10}{1000.0 * seconds / calls:>11.1f}{calls:>8}{seconds:>10.2f}{share:>8.1%}")
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
    """Counts the block as a stage, if a caller measures."""
    stages = _ACTIVE.get()
    with nullcontext() if stages is None else stages.open(name):
        yield
