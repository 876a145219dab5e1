"""Timing that survives a busy machine: variants take turns, and a ratio is the median of the ratios within a turn."""
from dataclasses import dataclass

import numpy as np

ROUND = 2e-3  # seconds that a variant's turn lasts
MOST = 200    # turns
MOST_CALLS = 10**6


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles around it."""
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values):
        low, median, high = np.percentile(values, [25, 50, 75])
        return cls(float(median), float(low), float(high))


def race(variants, seconds, least=5, limit=MOST_CALLS, turn_lasts=ROUND):
    """Time {name: run(calls) -> seconds} in turn, A B B A, until each has had its seconds; {name: seconds per call}.

    All have run once before. A turn is as many calls as last `turn_lasts`. The first is in every turn; another is
    dropped once it has used up its seconds and had three turns, or used up twenty times as much, so that a slow one
    does not hold up the rest.
    """
    ours = next(iter(variants))
    calls = {name: min(limit, max(1, int(turn_lasts / max(run(1), 1e-7)))) for name, run in variants.items()}
    times, used, running = {name: [] for name in variants}, dict.fromkeys(variants, 0.0), list(variants)
    for turn in range(MOST):
        for name in running if turn % 2 == 0 else running[::-1]:
            elapsed = variants[name](calls[name])
            used[name] += elapsed
            times[name].append(elapsed / calls[name])
        waited_for = [name for name in running
                      if used[name] < seconds or (len(times[name]) < 3 and used[name] < 20 * seconds)]
        running = [name for name in running if name in waited_for or name == ours]
        if not waited_for and turn + 1 >= least:
            break
    return times


def ratio(ours, theirs):
    """How many times faster ours is: the ratios within each turn, as a Spread."""
    return Spread.of([b / a for a, b in zip(ours, theirs)])


def geometric_mean(values):
    return float(np.exp(np.mean(np.log(values)))) if len(values) else float("nan")
