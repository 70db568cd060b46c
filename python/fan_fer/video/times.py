"""Times that increase, from the stamps that files give: some repeat, fall, leap, or are missing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from statistics import median
from typing import Generic, TypeVar

T = TypeVar("T")

HELD = 32  # items at most that wait for a stamp to go by
RUN = 8  # stamps that rise among themselves are a recording that begins anew
LEAP = 5.0  # steps beyond which a stamp is believed only when the next does not come back


def increasing(stamped: Iterable[tuple[float | None, T]], step: float) -> Iterator[tuple[float, T]]:
    """The items with times in seconds that increase strictly, from stamps in seconds; None where there is no stamp.

    A stamp that does not increase is replaced by a time between its neighbours', so that no error is carried on.
    Where stamps fall for good, as in recordings that were joined, times go on from the last one with the new stamps'
    differences. ``step``: seconds between two items while nothing else is known.
    """
    times = _Times[T](step)
    for stamp, item in stamped:
        yield from times.add(stamp, item)
    yield from times.end()


class _Times(Generic[T]):
    def __init__(self, step: float) -> None:
        self._last: float | None = None
        self._shift = 0.0  # from stamps to times
        self._steps = deque([step], maxlen=25)
        self._held: list[tuple[float | None, T]] = []

    def add(self, stamp: float | None, item: T) -> Iterator[tuple[float, T]]:
        self._held.append((stamp, item))
        if self._last is None and (stamp is not None or len(self._held) == HELD):
            self._last = self._before(stamp)
        if self._last is not None:
            yield from self._settle(self._last, RUN, HELD)

    def end(self) -> Iterator[tuple[float, T]]:
        yield from self._settle(self._before(None) if self._last is None else self._last, 2, 1)

    def _before(self, stamp: float | None) -> float:
        """A step before the first item, all but the last of those held having no stamp. None gets a time below 0."""
        step = self._steps[0]
        if stamp is None:
            return -step
        self._shift = max(0.0, step * (len(self._held) - 1) - stamp)
        return stamp + self._shift - step * len(self._held)

    def _settle(self, last: float, run: int, limit: int) -> Iterator[tuple[float, T]]:
        """Gives what is certain, and what is not once ``limit`` are held or ``run`` of them rise among themselves."""
        while self._held:
            step = median(self._steps)
            times = [None if stamp is None else stamp + self._shift for stamp, _ in self._held]
            full = len(times) >= limit
            rising = _rising(times)
            if (anchor := _anchor(times, last, step, full)) is not None:
                time, place = anchor
                count = place + 1
                if count == 1:
                    self._steps.append(time - last)
            elif len(rising) >= run:
                # The first of the run comes a step after those before it.
                self._shift += last + step * (len(times) - len(rising) + 1) - rising[0]
                continue
            elif full:
                count = len(times)
                time = last + step * count
            else:
                break
            for number, (_, item) in enumerate(self._held[:count], start=1):
                yield time if number == count else max(0.0, last + (time - last) * number / count), item
            del self._held[:count]
            last = time
        self._last = last


def _anchor(times: list[float | None], last: float, step: float, full: bool) -> tuple[float, int] | None:
    """The first time that holds, and its place: it comes soon after ``last``, or what follows does not fall back."""
    later = [(time, place) for place, time in enumerate(times) if time is not None and time > last]
    soon = [time - last <= LEAP * step * (place + 1) for time, place in later]
    if not later or (len(later) == 1 and not soon[0] and not full):
        return None
    refuted = not soon[0] and len(later) > 1 and soon[1] and later[1] < later[0]
    return later[1] if refuted else later[0]


def _rising(times: list[float | None]) -> list[float]:
    """Those at the end that rise."""
    run: list[float] = []
    for time in reversed(times):
        if time is None or (run and time >= run[0]):
            break
        run.insert(0, time)
    return run
