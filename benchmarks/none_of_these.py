"""How well "none of these" tells clips whose label is missing from others, for several lists of texts.

For each clip and draw there are two questions: its label among nine others, and these nine without it. A score is good
where it is higher for the first than for the second: the area under the ROC curve (AUC) is how often it is, over all
pairs of one of each.

Choosing the best of several lists makes its figure too good. So the choice among FIRST, the lists that were written
before any figure was seen, is cross-validated: the labels are split into parts, for each part the list with the largest
AUC on the others is taken, and the mean over the parts is what a list that is chosen so can be expected to give. LATER
are those that were written when these figures were known; nano's own list is one of them with two generic words.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from action_clip import ActionClip, ActionClipError, EncodedVideo, Failure, LabelBank, score
from action_clip.models import AVERAGES

OTHERS = 9
DRAWS = 20
PARTS = 7
RESAMPLES = 200
OWN = "the model's own"
BARE = "the same, not in prompts"
FIRST: dict[str, tuple[str, ...]] = {
    "generic words": ("nothing", "something else", "something different", "none of these", "other"),
    "three generic words": ("nothing", "something else", "another action"),
    "people who do little": (
        *("a person", "a person standing", "a person sitting", "a person talking", "a person looking at the camera"),
        *("a person waiting", "people", "a face", "a group of people"),
    ),
    "scenes without people": (
        *("an empty street", "an empty room", "a landscape", "the sky", "a building", "a forest", "a beach", "a wall"),
        *("a road", "a city"),
    ),
    "everyday actions": (
        *("standing", "sitting", "walking", "talking", "eating", "drinking", "sleeping", "reading", "working"),
        *("waiting", "cooking", "driving", "playing", "running", "cleaning", "shopping"),
    ),
    "kinds of objects": (
        *("a person", "an animal", "a vehicle", "a building", "a tool", "a machine", "a plant", "food", "furniture"),
        *("clothes", "a toy", "a musical instrument", "sports equipment", "an electronic device", "a container"),
        "a landscape",
    ),
    "sixteen topics": (
        *("sport", "music", "cooking", "dancing", "animals", "vehicles", "tools", "clothes", "games", "plants"),
        *("hair", "makeup", "water", "snow", "electronics", "paper"),
    ),
    "groups of Kinetics-400": (
        *("arts and crafts", "jumping", "throwing", "auto maintenance", "ball sports", "body motions", "cleaning"),
        *("clothes", "communication", "cooking", "dancing", "eating and drinking", "electronics", "gardening", "golf"),
        *("gymnastics", "hair", "hands", "head and mouth", "heights", "interacting with animals", "juggling", "makeup"),
        *("martial arts", "moving on land", "moving on water", "music", "paper", "personal hygiene", "playing games"),
        *("racquet sports", "snow and ice", "swimming", "touching a person", "using tools", "water sports", "waxing"),
    ),
}
"""Texts for none, by what they are."""
LATER: dict[str, tuple[str, ...]] = {
    "kinds of time use": (
        *("personal care", "household activities", "caring for children", "helping others", "working", "education"),
        *("shopping", "professional services", "eating and drinking", "socializing and relaxing"),
        *("sports and exercise", "religious activities", "volunteering", "phone calls", "travelling"),
    ),
    "WordNet's kinds of verbs": (
        *("caring for the body", "changing", "thinking", "talking", "competing", "eating and drinking", "touching"),
        *("making something", "feeling", "moving", "seeing", "having something", "being together", "being", "weather"),
    ),
    "WordNet's kinds of nouns": (
        *("an act", "an animal", "an artifact", "the body", "communication", "an event", "a feeling", "food"),
        *("a group", "a place", "an object", "a person", "a plant", "a process", "a shape", "a substance"),
    ),
    "eight topics": ("sport", "music", "cooking", "dancing", "animals", "vehicles", "tools", "games"),
    "everyday topics": (
        *("sport", "music", "food", "animals", "vehicles", "nature", "work", "household", "people", "children"),
        *("shopping", "travelling", "school", "machines", "buildings", "clothes"),
    ),
    "twelve activities": (
        *("doing sports", "making music", "cooking", "dancing", "cleaning", "working with tools", "playing a game"),
        *("looking after an animal", "driving", "talking", "exercising", "washing"),
    ),
}


@dataclass(frozen=True, eq=False)
class Questions:
    """What is asked about each of N clips: the numbers of its labels, the right one first.

    Attributes:
        clips: (Q,) numbers of the clips.
        labels: (Q, 1 + OTHERS) numbers of the labels.
    """

    clips: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Outcome:
    """Scores, (Q, 2), with the right label among the labels and without it; each is higher where it is rather there.

    Attributes:
        not_none: 1 less the probability of "none of these".
        label: the probability of the best label.
        similarity: of the best label.
        right: whether the answer is right: the right label, or "none of these" where that is missing.
    """

    not_none: NDArray[np.float64]
    label: NDArray[np.float64]
    similarity: NDArray[np.float64]
    right: NDArray[np.float64]


def draw(truth: Sequence[int], labels: int, seed: int = 0) -> Questions:
    """Return DRAWS questions for each clip, by the number of its right label, of so many labels."""
    random = np.random.default_rng(seed)
    rows = [
        [right, *random.choice(np.delete(np.arange(labels), right), OTHERS, replace=False)]
        for _ in range(DRAWS)
        for right in truth
    ]
    return Questions(np.tile(np.arange(len(truth)), DRAWS), np.array(rows))


def outcome(features: NDArray[np.float32], bank: LabelBank, questions: Questions) -> Outcome:
    """Return the scores of all questions.

    Args:
        features: (N, D) of the clips.
        bank: of all labels, with or without texts for none: of these, the ones that are no labels of a question.
        questions: about them.
    """
    values = [[*_answers(features, bank, questions, has_right=has_right)] for has_right in (True, False)]
    return Outcome(*np.array(values, np.float64).transpose(2, 1, 0))


def _answers(
    features: NDArray[np.float32], bank: LabelBank, questions: Questions, *, has_right: bool
) -> Iterator[tuple[float, float, float, bool]]:
    """Yield the values of an Outcome for each question, with its right label or without it."""
    labels = questions.labels if has_right else questions.labels[:, 1:]
    count = labels.shape[1]
    answer = 0 if has_right else count
    for clip, numbers in zip(questions.clips, labels.tolist(), strict=True):
        names = tuple(bank.labels[number] for number in numbers)
        kept = [place for place, text in enumerate(bank.none_texts) if text not in names]
        columns = [*numbers, *(len(bank.labels) + place for place in kept)]
        texts = tuple(bank.none_texts[place] for place in kept)
        asked = replace(bank, labels=names, embeddings=bank.embeddings[:, columns], none_texts=texts)
        similarities, probabilities = score(features[clip], asked)
        not_none = 1.0 - float(probabilities[count:].sum())
        best = float(probabilities[:count].max())
        yield not_none, best, float(similarities[:count].max()), int(probabilities.argmax()) == answer


def with_texts(labels: LabelBank, texts: LabelBank) -> LabelBank:
    """Return a bank of the labels of the first one, and those of the second one as texts for none."""
    embeddings = np.concatenate([labels.embeddings, texts.embeddings], axis=1)
    return replace(labels, embeddings=embeddings, none_texts=texts.labels)


def outside_prompts(bank: LabelBank, prompt: int) -> LabelBank:
    """Return the bank with the texts for none in one and the same prompt, beside labels in all."""
    labels, none = np.split(bank.embeddings, [len(bank.labels)], axis=1)
    return replace(bank, embeddings=np.concatenate([labels, np.repeat(none[[prompt]], len(none), axis=0)], axis=1))


def auc(scores: NDArray[np.float64]) -> float:
    """Return the area under the ROC curve for scores of the Q positives and Q negatives, (Q, 2); ties count half."""
    positive, negative = scores[:, 0], np.sort(scores[:, 1])
    below = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
    return float(below.mean() / (2 * len(negative)))


def best_threshold(scores: NDArray[np.float64]) -> tuple[float, float]:
    """Return the threshold with the largest Youden index (W. J. Youden, 1950), and that index.

    The index is the share of positives that reach the threshold, less that of negatives.
    """
    thresholds = np.unique(scores)
    indices = [youden(scores, threshold) for threshold in thresholds]
    place = int(np.argmax(indices))
    return float(thresholds[place]), indices[place]


def youden(scores: NDArray[np.float64], threshold: float) -> float:
    """Return the Youden index of a threshold."""
    positive, negative = (scores >= threshold).mean(axis=0)
    return float(positive - negative)


def parts_of(truth: Sequence[int], labels: int, seed: int = 0) -> NDArray[np.int64]:
    """Return the part that each clip is in, (N,): clips of one label are in the same."""
    parts: NDArray[np.int64] = np.random.default_rng(seed).permutation(labels) % PARTS
    return parts[list(truth)]


def cross_validated(candidates: Mapping[str, NDArray[np.float64]], parts: NDArray[np.int64]) -> tuple[float, list[str]]:
    """Return the mean AUC over the parts, in each of the candidate that is best on the others, and their names.

    Args:
        candidates: scores, (Q, 2), by name.
        parts: (Q,).
    """
    chosen = [max(candidates, key=lambda name: auc(candidates[name][parts != part])) for part in range(PARTS)]
    areas = [auc(candidates[name][parts == part]) for part, name in enumerate(chosen)]
    return float(np.mean(areas)), chosen


def spread(clips: NDArray[np.int64], value: Callable[[NDArray[np.int64]], float], seed: int = 0) -> float:
    """Return the standard deviation of a value over RESAMPLES resamples of the clips (the bootstrap).

    Args:
        clips: (Q,) of the questions.
        value: of questions with these numbers.
        seed: of the resamples.
    """
    random, count = np.random.default_rng(seed), int(clips.max()) + 1
    questions = [np.flatnonzero(clips == clip) for clip in range(count)]
    samples = (random.integers(0, count, count) for _ in range(RESAMPLES))
    return float(np.std([value(np.concatenate([questions[clip] for clip in sample])) for sample in samples]))


def report(clips: Mapping[Path, str], model: ActionClip) -> str:
    """Return the figures for a model and labelled clips, as text.

    Raises ActionClipError where a clip cannot be read, or there are too few labels.
    """
    names = sorted(set(clips.values()))
    truth = [names.index(label) for label in clips.values()]
    if len(names) <= OTHERS:
        raise ActionClipError(f"the clips have {len(names)} labels: give a folder with more than {OTHERS}")
    features = np.stack([_features(result) for result in model.encode_many(clips)])
    questions = draw(truth, len(names))
    lists = {OWN: model.spec.none_texts, **LATER, **FIRST}

    labels = model.labels(names)
    banks = {name: with_texts(labels, model.labels(texts)) for name, texts in lists.items()}
    if "{}" in model.prompts and model.average == AVERAGES[0]:
        banks[BARE] = outside_prompts(banks[OWN], model.prompts.index("{}"))
    without = outcome(features, labels, questions)
    found = {name: outcome(features, bank, questions) for name, bank in banks.items()}
    together = {name: outcome(features, replace(bank, is_multi_label=True), questions) for name, bank in banks.items()}
    return "\n".join(
        [
            f"{len(clips)} clips, {len(names)} labels, {model.spec.name}: each clip's label among {OTHERS} others, and "
            f"these {OTHERS} alone, {DRAWS} draws",
            f"without --none: AUC {auc(without.label):.3f} by the best probability, {auc(without.similarity):.3f} by "
            f"the best similarity; right {without.right[:, 0].mean():.1%}",
            "",
            "AUC by the probability of none of these, by that of the best label (with --none, with --multi-label);",
            "right answers: the label where it is there, none of these where it is not",
            f"{'texts for none':<30}{'none':>7}{'label':>7}{'multi':>7}{'label':>8}{'none':>7}",
            *(_row(f"{name} ({len(bank.none_texts)})", found[name], together[name]) for name, bank in banks.items()),
            "",
            *_of_own(found, together[OWN], without, questions, parts_of(truth, len(names))[questions.clips]),
        ]
    )


def _features(result: EncodedVideo | Failure) -> NDArray[np.float32]:
    if isinstance(result, Failure):
        raise result.error
    return result.features


def _row(name: str, own: Outcome, together: Outcome) -> str:
    areas = "".join(f"{auc(scores):>7.3f}" for scores in (own.not_none, own.label, together.label))
    label, none = own.right.mean(axis=0)
    return f"{name:<30}{areas}{label:>8.1%}{none:>7.1%}"


def _of_own(
    found: Mapping[str, Outcome], together: Outcome, without: Outcome, questions: Questions, parts: NDArray[np.int64]
) -> Iterator[str]:
    """Yield lines about the model's own list, cross-validation, and thresholds."""
    own = found[OWN]
    for name, scores in {"best probability": without.label, "best similarity": without.similarity}.items():

        def gain(rows: NDArray[np.int64], scores: NDArray[np.float64] = scores) -> float:
            return auc(own.not_none[rows]) - auc(scores[rows])

        deviation = spread(questions.clips, gain)
        yield f"AUC of {OWN} list less that by the {name}: {gain(np.arange(len(scores))):+.3f} ± {deviation:.3f}"
    area, chosen = cross_validated({name: found[name].not_none for name in FIRST}, parts)
    base, _ = cross_validated({"best similarity": without.similarity}, parts)
    yield (
        f"one of the first {len(FIRST)} lists, chosen on the other labels: AUC {area:.3f}, by the best similarity "
        f"{base:.3f} (mean of {PARTS} parts; chosen: {', '.join(chosen)})"
    )
    for option, scores in {"--none": own.label, "--multi-label": together.label}.items():
        threshold, index = best_threshold(scores)
        others = [best_threshold(scores[parts != part])[0] for part in range(PARTS)]
        held_out = np.mean([youden(scores[parts == part], other) for part, other in enumerate(others)])
        yield (
            f"threshold for the best label with {option}: {threshold:.2f}, Youden index {index:.2f}, on labels that it "
            f"was not chosen on {held_out:.2f} (from {min(others):.2f} to {max(others):.2f})"
        )
