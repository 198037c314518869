"""Where choices come from: a seed, or hypothesis, which can then shrink a schedule that fails."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Chooser(Protocol):
    """Makes choices. Simple ones come first: hypothesis shrinks towards them."""

    def integer(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""

    def weighted(self, weights: Mapping[T, int]) -> T:
        """One of the keys, each as likely as its weight says."""

    def chance(self, percent: int) -> bool:
        """True so often."""


class SeedChooser:
    """Choices from one integer."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self._random.random() * len(options))]

    def weighted(self, weights: Mapping[T, int]) -> T:
        at = self._random.random() * sum(weights.values())
        for option, weight in weights.items():
            at -= weight
            if at < 0:
                return option
        raise ValueError("all weights are zero")

    def chance(self, percent: int) -> bool:
        return self._random.random() * 100 < percent


class HypothesisChooser:
    """Choices of a hypothesis test: give it the test's ``st.data()``."""

    def __init__(self, data: Any) -> None:
        from hypothesis import strategies

        self._data = data
        self._strategies = strategies

    def integer(self, low: int, high: int) -> int:
        return int(self._data.draw(self._strategies.integers(low, high)))

    def pick(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]

    def weighted(self, weights: Mapping[T, int]) -> T:
        return self.pick([option for option, weight in weights.items() if weight])

    def chance(self, percent: int) -> bool:
        return percent > 0 and (percent == 100 or self.integer(0, 1) == 1)
