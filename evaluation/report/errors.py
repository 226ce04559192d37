"""The clips behind errors, grouped by what was taken for what."""

import math
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from action_clip.data.dataset import Example
from action_clip.evaluation.answers import Answers
from action_clip.output.captions import title
from action_clip.output.report.links import Link, link
from action_clip.system.addresses import display_name


@dataclass(frozen=True)
class Wrong:
    """A clip whose answer is none of its labels.

    Attributes:
        index: of its example.
        title: its file's name.
        name: its path or address.
        link: to it.
        score: of the answer; None where it is not known.
        right_score: of its label, or the best of several; None as above.
        place: of that label among the answers, from 1; None as above.
        frames: of it, as JPEG files.
    """

    index: int
    title: str
    name: str
    link: Link | None
    score: float | None
    right_score: float | None
    place: int | None
    frames: Sequence[bytes] = ()


@dataclass(frozen=True)
class Pair:
    """The clips with the same labels and the same wrong answer."""

    labels: tuple[str, ...]
    answer: str
    id: str
    clips: Sequence[Wrong]


def wrong_pairs(answers: Answers, page: str | os.PathLike[str]) -> list[Pair]:
    """Return the clips with wrong answers, the most frequent pairs first, and in each the surest answers first.

    `page` is the path of the page, for links.
    """
    by_pair: dict[tuple[tuple[int, ...], int], list[Wrong]] = defaultdict(list)
    ranks, best, answered = answers.ranks, answers.best, answers.answered
    for index, example in enumerate(answers.dataset.examples):
        if answered[index] and ranks[index] > 0:
            answer = int(best[index])
            by_pair[answers.right[index], answer].append(
                _wrong(answers, index, example, answer, int(ranks[index]), page)
            )
    pairs = [
        Pair(
            tuple(answers.choices[label] for label in labels),
            answers.choices[answer],
            pair_id(labels, answer),
            sorted(clips, key=lambda clip: -(clip.score or 0)),
        )
        for (labels, answer), clips in by_pair.items()
    ]
    return sorted(pairs, key=lambda pair: (-len(pair.clips), pair.labels, pair.answer))


def pair_id(labels: Sequence[int], answer: int) -> str:
    """Return the name of the pair's place in the page."""
    return f"error-{'-'.join(map(str, labels))}-{answer}"


def _wrong(
    answers: Answers, index: int, example: Example, answer: int, rank: int, page: str | os.PathLike[str]
) -> Wrong:
    known = [score for label in answers.right[index] if not math.isnan(score := float(answers.scores[index, label]))]
    name = display_name(example.video)
    return Wrong(
        index=index,
        title=title(name),
        name=name,
        link=link(name, page),
        score=_finite(float(answers.scores[index, answer])),
        right_score=_finite(max(known)) if known else None,
        place=rank + 1 if known else None,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
