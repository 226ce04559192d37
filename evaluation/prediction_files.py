"""The answers in a file: what this program writes with --format json or csv, or scores made elsewhere."""

import csv
import io
import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from action_clip.data.classes import class_key, shown
from action_clip.data.dataset import Dataset
from action_clip.data.rows import MOST_BYTES
from action_clip.errors import ActionClipError
from action_clip.evaluation.answers import Answers
from action_clip.evaluation.model_answers import check_several, matched
from action_clip.output.writers import COLUMNS
from action_clip.system.addresses import display_name
from action_clip.system.files import read_text
from action_clip.tokenizer.label_files import column_head

_FILE_HEADS = ("video", "file", "filename", "path")
_ANSWER_HEADS = ("label", "prediction", "predicted", "answer")
_SUM_TOLERANCE = 0.01


@dataclass(frozen=True)
class _Answer:
    """What a file says about one video: scores by label, the best first where two are equal; or an error."""

    video: str
    where: str
    scores: Mapping[str, float]
    error: str | None = None


def read_answers(path: str, dataset: Dataset) -> Answers:
    """Return the answers in a file for the clips of a data set.

    The file is one of these:

    * the JSON lines or the CSV that this program writes for several videos;
    * JSON lines, or a list, of objects with `video` and `scores`, an object of labels to numbers; or `label` alone;
    * CSV with a column `video` and one for each label with its score, or a column `label` alone.

    Videos are those of the data by their paths, else by their names where only one has it.

    Raises:
        ActionClipError: it cannot be read, is none of these, has labels or no videos that the data do not have.
    """
    text = read_text(path, "file of predictions", MOST_BYTES)
    is_json = text.lstrip().startswith(("{", "["))
    found = list(_of_json(text, path) if is_json else _of_csv(text, path))
    if not found:
        raise ActionClipError(f"{path} has no predictions: write an object or a row for each video")
    choices = _choices(found, dataset, path)
    by_example = _by_example(found, dataset, path)
    places = {class_key(choice): index for index, choice in enumerate(choices)}
    scores = np.full((len(dataset), len(choices)), np.nan)
    failures: dict[int, str] = {}
    for index, example in enumerate(dataset.examples):
        answer = by_example.get(index)
        if answer is None:
            failures[index] = f"{path} has no prediction for {display_name(example.video)}"
        elif answer.error is not None or not answer.scores:
            failures[index] = answer.error or f"{answer.where} has no answer"
        else:
            for label, score in answer.scores.items():
                scores[index, places[class_key(label)]] = score
    own = matched(dataset, choices, path)
    right = tuple(tuple(own[label] for label in example.labels) for example in dataset.examples)
    return Answers(
        dataset, path, choices, right, scores, failures, are_probabilities=_are_probabilities(by_example.values())
    )


def _of_json(text: str, path: str) -> Iterator[_Answer]:
    for where, item in _objects(text, path):
        video = next((item[head] for head in _FILE_HEADS if isinstance(item.get(head), str)), None)
        if video is None:
            raise ActionClipError(f"{where} has no video: write its path as `video`")
        if "start_s" in item:
            raise ActionClipError(
                f"{where} is about a part of a video, as --window gives: give answers for whole clips"
            )
        if isinstance(item.get("error"), str):
            yield _Answer(video, where, {}, item["error"])
        elif isinstance(item.get("predictions"), list):
            ranked = [entry for entry in item["predictions"] if isinstance(entry, dict)]
            pairs = [(entry.get("label"), entry.get("probability")) for entry in ranked]
            yield _Answer(video, where, _scores(pairs, where))
        elif isinstance(item.get("scores"), dict):
            yield _Answer(video, where, _scores(item["scores"].items(), where))
        elif label := next((item[head] for head in _ANSWER_HEADS if isinstance(item.get(head), str)), None):
            yield _Answer(video, where, {label: math.inf})
        else:
            raise ActionClipError(f"{where} has neither `predictions` nor `scores` nor `label`: write one of them")


def _objects(text: str, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    items: list[tuple[str, Any]] = []
    try:
        if text.lstrip().startswith("["):
            items = [(f"object {number} of {path}", item) for number, item in enumerate(json.loads(text), start=1)]
        else:
            for number, line in enumerate(text.splitlines(), start=1):
                if line.strip():
                    items.append((f"line {number} of {path}", json.loads(line)))
    except (ValueError, RecursionError) as error:
        raise ActionClipError(f"{path} is not JSON with an object a line ({error}): check it") from error
    for where, item in items:
        if not isinstance(item, dict):
            raise ActionClipError(f"{where} is no object: write one with `video` and `scores`")
        yield where, item


def _of_csv(text: str, path: str) -> Iterator[_Answer]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if any(row)]
    except csv.Error as error:
        raise ActionClipError(f"{path} is no table ({error}): check its quotation marks") from error
    heads, rows = rows[0] if rows else [], rows[1:]
    if tuple(heads) == COLUMNS:
        yield from _of_ranked_rows(rows, path)
        return
    files = [place for place, head in enumerate(heads) if column_head(head) in _FILE_HEADS]
    if len(files) != 1 or len(heads) < 2:
        raise ActionClipError(
            f"{path} has the columns {shown(heads) or '(none)'}: write `video` and one for each label, or `label`, or "
            "give what --format json or csv writes"
        )
    labels = [place for place in range(len(heads)) if place != files[0]]
    is_answer = len(labels) == 1 and column_head(heads[labels[0]]) in _ANSWER_HEADS
    for number, row in enumerate(rows, start=2):
        where = f"row {number} of {path}"
        if len(row) != len(heads):
            raise ActionClipError(f"{where} has {len(row)} cells, and the first row {len(heads)}: write as many")
        if is_answer:
            yield _Answer(row[files[0]], where, {row[labels[0]]: math.inf})
        else:
            yield _Answer(row[files[0]], where, _scores([(heads[place], row[place]) for place in labels], where))


def _of_ranked_rows(rows: Sequence[Sequence[str]], path: str) -> Iterator[_Answer]:
    """Yield the answers in this program's CSV: a row a rank; of a video that failed, a row with its name alone."""
    by_video: dict[str, list[tuple[str, str]]] = {}
    for number, row in enumerate(rows, start=2):
        if len(row) != len(COLUMNS):
            raise ActionClipError(f"row {number} of {path} has {len(row)} cells, not {len(COLUMNS)}: check it")
        video, rank, _, label, probability = row
        by_video.setdefault(video, [])
        if rank:
            by_video[video].append((label, probability))
    for video, pairs in by_video.items():
        error = None if pairs else f"{path} has no answer for {video}"
        yield _Answer(video, path, _scores(pairs, path), error)


def _scores(pairs: Iterable[tuple[Any, Any]], where: str) -> Mapping[str, float]:
    scores: dict[str, float] = {}
    keys: set[str] = set()
    for label, value in pairs:
        try:
            score = float(value)
        except (TypeError, ValueError):
            score = math.nan
        if not isinstance(label, str) or not math.isfinite(score):
            raise ActionClipError(f"{where} has {value!r} for the score of {label!r}: write a number")
        if (key := class_key(label)) in keys:
            raise ActionClipError(f"{where} has two scores for {label!r}: leave one of them")
        keys.add(key)
        scores[label] = score
    return scores


def _choices(found: Iterable[_Answer], dataset: Dataset, path: str) -> tuple[str, ...]:
    """Return the labels that answers choose from: those of the data, then others that occur."""
    choices = {class_key(text): text for text in dataset.classes}
    for answer in found:
        for label in answer.scores:
            choices.setdefault(class_key(label), label)
    check_several(tuple(choices.values()), dataset)
    known = {class_key(label) for answer in found for label in answer.scores}
    if known and not known & {class_key(text) for text in dataset.classes}:
        raise ActionClipError(
            f"{path} has none of the labels of {dataset.name}, but "
            f"{shown([*choices.values()][len(dataset.classes) :])}: give the predictions for these data"
        )
    return tuple(choices.values())


def _by_example(found: Sequence[_Answer], dataset: Dataset, path: str) -> dict[int, _Answer]:
    """Return the answers by the index of the example that they are about.

    Raises ActionClipError where there are none, or two for one example.
    """
    by_path: dict[str, list[int]] = defaultdict(list)
    by_name: dict[str, list[int]] = defaultdict(list)
    for index, example in enumerate(dataset.examples):
        by_path[os.path.realpath(example.video)].append(index)
        for name in {os.path.basename(example.video), os.path.splitext(os.path.basename(example.video))[0]}:
            by_name[name].append(index)
    answers: dict[int, _Answer] = {}
    for answer in found:
        name = os.path.basename(answer.video.replace("\\", "/"))
        same = by_path.get(os.path.realpath(answer.video)) or by_name.get(name, [])
        if len(same) != 1:
            continue
        index = same[0]
        if index in answers:
            raise ActionClipError(
                f"{answer.where} and {answers[index].where} are both about {dataset.examples[index].video}: leave one"
            )
        answers[index] = answer
    if not answers:
        raise ActionClipError(
            f"{path} has no prediction for a clip of {dataset.name}, but for {found[0].video} and the like: give those "
            "for these data"
        )
    return answers


def _are_probabilities(answers: Iterable[_Answer]) -> bool:
    """Return whether all scores are from 0 to 1, and those of one video not more than 1 together."""
    scores = [answer.scores.values() for answer in answers]
    return all(all(0 <= score <= 1 for score in values) and sum(values) <= 1 + _SUM_TOLERANCE for values in scores)
