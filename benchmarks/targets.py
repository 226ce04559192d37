"""What a case is, and the figures that its targets compare with a limit."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.contestants import YARDSTICK
from benchmarks.inputs import Inputs
from benchmarks.measure import Raw

Figure = Callable[[Raw], float | None]


@dataclass(frozen=True)
class Target:
    """A figure, and the limit that it should reach."""

    text: str
    figure: Figure
    """Computes the figure from all runs of the case; None where it could not be measured."""
    limit: float
    is_least: bool
    """True where the figure should be at least the limit, False where it should be at most the limit."""
    unit: str

    def is_met(self, figure: float) -> bool:
        """Return whether the figure reaches the limit."""
        return figure >= self.limit if self.is_least else figure <= self.limit


@dataclass(frozen=True)
class Case:
    """Contestants that are measured in turns, and the targets."""

    title: str
    about: str
    measure: Callable[[Inputs, int], Raw]
    baseline: str
    """The contestant that the others' times are divided by; "" where they do different things."""
    targets: tuple[Target, ...]


def ratio(over: str | tuple[str, ...], under: str, value: str = "seconds") -> Figure:
    """Return the figure that divides an attribute of `over`'s samples by that of `under`'s: the median of all rounds.

    Where `over` names several contestants, it is the smallest of their medians.
    """

    def figure(raw: Raw) -> float | None:
        ratios = []
        for name in [over] if isinstance(over, str) else over:
            pairs = zip(raw.samples.get(name, []), raw.samples.get(under, []), strict=False)
            if found := [getattr(upper, value) / getattr(lower, value) for upper, lower in pairs]:
                ratios.append(statistics.median(found))
        return min(ratios, default=None)

    return figure


def middle(name: str, less: str | None = None) -> Figure:
    """Return the figure with the median of a contestant's seconds, minus those of `less` in the same round."""

    def figure(raw: Raw) -> float | None:
        samples = raw.samples.get(name, [])
        others = [0.0] * len(samples) if less is None else [sample.seconds for sample in raw.samples.get(less, [])]
        differences = [sample.seconds - other for sample, other in zip(samples, others, strict=False)]
        return statistics.median(differences) if differences else None

    return figure


def faster(text: str, over: str | tuple[str, ...], under: str, limit: float) -> Target:
    """Return the target that `under` is at least `limit` times as fast as `over`."""
    return Target(text, ratio(over, under), limit, True, "×")


def smaller(text: str, name: str, limit: float) -> Target:
    """Return the target that a contestant takes at most `limit` times the yardstick's peak of memory."""
    return Target(text, ratio(name, YARDSTICK, "peak_mb"), limit, False, "×")
