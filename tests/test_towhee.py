"""The operators in real Towhee pipelines, on real video: the numbers of calling them as plain functions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import CLASSES, decoded, random_closed_model, save_closed_model

from action_clip import ActionClipOperator, TimeSformerOperator
from action_clip.commands.samples import SAMPLE_LABELS, SAMPLE_VIDEO
from action_clip.tokenizer.prompts import read_labels

Decoder = Callable[[str], list[Any]]


@pytest.fixture(scope="module")
def nano() -> ActionClipOperator:
    return ActionClipOperator("nano", classmap={label: i for i, label in enumerate(read_labels(SAMPLE_LABELS))})


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> TimeSformerOperator:
    folder = save_closed_model(random_closed_model(1, frames=8, size=224), tmp_path_factory.mktemp("closed"))
    return TimeSformerOperator(str(folder), topk=3)


def images(path: str) -> list[Any]:
    return list(decoded(Path(path)))


def video_frames(towhee: Any, mode: str) -> Decoder:
    """A decoder that gives Towhee's own frames, RGB or BGR, with their times in milliseconds."""

    def decode(path: str) -> list[Any]:
        step = 1 if mode == "RGB" else -1
        return [
            towhee.types.VideoFrame(np.ascontiguousarray(image[..., ::step]), mode, 100 * number, number == 0)
            for number, image in enumerate(decoded(Path(path)))
        ]

    return decode


def in_a_pipeline(towhee: Any, decode: Decoder, operator: Callable[..., Any]) -> list[Any]:
    """Path in; labels, scores and features out."""
    pipeline = (
        towhee.pipe.input("path")
        .map("path", "frames", decode)
        .map("frames", ("labels", "scores", "features"), operator)
        .output("labels", "scores", "features")
    )
    answer: list[Any] = pipeline(str(SAMPLE_VIDEO)).get()
    return answer


@pytest.mark.parametrize("form", ["images", "RGB", "BGR"])
@pytest.mark.parametrize("which", ["nano", "closed"])
def test_a_pipeline_gives_the_answer_of_the_function(
    request: pytest.FixtureRequest, towhee: Any, which: str, form: str
) -> None:
    operator = request.getfixturevalue(which)
    decode = images if form == "images" else video_frames(towhee, form)
    assert isinstance(decode(str(SAMPLE_VIDEO))[0], np.ndarray if form == "images" else towhee.types.VideoFrame)

    labels, scores, features = in_a_pipeline(towhee, decode, operator)

    plain = operator(images(str(SAMPLE_VIDEO)))
    assert labels == plain[0]
    assert all(type(score) is float for score in scores)
    np.testing.assert_allclose(scores, plain[1], atol=1e-6)
    assert type(features) is np.ndarray
    np.testing.assert_allclose(features, plain[2], atol=1e-6)
    if which == "nano":
        assert (len(labels), labels[0]) == (5, "playing piano")
    else:
        assert len(labels) == 3
        assert set(labels) < set(CLASSES)


def test_what_is_wrong_with_the_frames_is_said(towhee: Any, closed: TimeSformerOperator) -> None:
    with pytest.raises(RuntimeError, match="there are no frames: give at least one RGB image"):
        in_a_pipeline(towhee, lambda path: [], closed)


def test_several_videos_of_one_pipeline(towhee: Any, closed: TimeSformerOperator) -> None:
    frames = decoded(SAMPLE_VIDEO)
    pipeline = towhee.pipe.input("frames").map("frames", ("labels", "scores", "features"), closed)
    pipeline = pipeline.output("scores")
    parts = [list(frames[:5]), list(frames[20:]), list(frames)]
    answers = [queue.get()[0] for queue in pipeline.batch(parts)]
    assert len({tuple(scores) for scores in answers}) == 3
    for part, scores in zip(parts, answers, strict=True):
        np.testing.assert_allclose(scores, closed(part)[1], atol=1e-6)
