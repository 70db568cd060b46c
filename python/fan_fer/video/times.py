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
        if self._last is None:
            self._last = stamp or 0.0
            yield self._last, item
            return
        self._held.append((stamp, item))
        yield from self._settle(self._last, RUN, HELD)

    def end(self) -> Iterator[tuple[float, T]]:
        if self._last is not None:
            yield from self._settle(self._last, 2, 1)

    def _settle(self, last: float, run: int, limit: int) -> Iterator[tuple[float, T]]:
        """Gives what is certain, and what is not once ``limit`` are held or ``run`` of them rise among themselves."""
        while self._held:
            step = median(self._steps)
            times = [None if stamp is None else stamp + self._shift for stamp, _ in self._held]
            full = len(times) >= limit
            good = _anchor(times, last, step, full)
            if good is not None:
                time = times[good] or last
                if good == 0:
                    self._steps.append(time - last)
            elif (rising := _rising(times)) >= run and times[-rising] is not None:
                # The first of the run comes a step after those before it.
                self._shift += last + step * (len(times) - rising + 1) - (times[-rising] or 0.0)
                continue
            elif full:
                good = len(times) - 1
                time = last + step * len(times)
            else:
                break
            count = good + 1
            for number, (_, item) in enumerate(self._held[:count], start=1):
                yield last + (time - last) * number / count, item
            del self._held[:count]
            last = time
        self._last = last


def _anchor(times: list[float | None], last: float, step: float, full: bool) -> int | None:
    """The first that holds: it comes after ``last``, and soon, or the next that does so does not fall back."""
    ahead = [(time, number) for number, time in enumerate(times) if time is not None and time > last]
    if not ahead:
        return None
    (time, first), *others = ahead
    if time - last <= LEAP * step * (first + 1):
        return first
    if not others:
        return first if full else None
    time_back, back = others[0]
    return back if time_back < time and time_back - last <= LEAP * step * (back + 1) else first


def _rising(times: list[float | None]) -> int:
    """How many at the end rise."""
    count = 0
    above = float("inf")
    for time in reversed(times):
        if time is None or time >= above:
            break
        count, above = count + 1, time
    return count
