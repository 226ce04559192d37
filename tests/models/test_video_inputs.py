"""The embedded model gives one answer for one video, in whatever form it is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_models import decoded

from action_clip import ActionClip, ActionClipError, Prediction
from action_clip.commands.samples import SAMPLE_LABELS, SAMPLE_VIDEO
from action_clip.tokenizer.prompts import read_labels

LABELS = read_labels(SAMPLE_LABELS)[:4]
Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def nano() -> ActionClip:
    return ActionClip("nano", prompts=["{}"], cache=False)


@pytest.fixture(scope="module")
def images() -> Images:
    return decoded(SAMPLE_VIDEO)


@pytest.fixture(scope="module")
def expected(nano: ActionClip) -> Prediction:
    return nano.classify(SAMPLE_VIDEO, LABELS)


@pytest.mark.parametrize(
    ("form", "channels"),
    [
        (np.asarray, "rgb"),
        (list, "rgb"),
        (lambda images: (image for image in images), "rgb"),
        (lambda images: [Image.fromarray(image) for image in images], "rgb"),
        (lambda images: np.ascontiguousarray(images[..., ::-1]), "bgr"),
        (lambda images: [image[..., ::-1] for image in images], "bgr"),
    ],
    ids=["array", "list", "generator", "PIL images", "BGR array", "BGR list"],
)
def test_decoded_images_answer_as_their_file(
    nano: ActionClip, images: Images, expected: Prediction, form: Callable[[Images], Any], channels: str
) -> None:
    prediction = nano.classify(form(images), LABELS, channels=channels)
    np.testing.assert_allclose(prediction.probabilities, expected.probabilities, atol=1e-6)
    np.testing.assert_allclose(prediction.similarities, expected.similarities, atol=1e-6)
    assert prediction.frame_indices == expected.frame_indices
    assert (prediction.video, prediction.duration_s, prediction.frame_times_s) == (None, None, ())


@pytest.mark.parametrize("kind", ["capture", "container", "path"])
def test_open_captures_and_containers_answer_as_their_file(nano: ActionClip, expected: Prediction, kind: str) -> None:
    video: Any = Path(SAMPLE_VIDEO)
    if kind == "capture":
        video = cv2.VideoCapture(str(SAMPLE_VIDEO))
    elif kind == "container":
        video = av.open(str(SAMPLE_VIDEO))
    prediction = nano.classify(video, LABELS)
    if kind == "container":
        video.close()
    np.testing.assert_allclose(prediction.probabilities, expected.probabilities, atol=1e-3)
    assert prediction.frame_indices == expected.frame_indices
    np.testing.assert_allclose(prediction.frame_times_s, expected.frame_times_s, atol=1e-6)
    assert prediction.duration_s == pytest.approx(expected.duration_s, abs=0.1)
    assert prediction.video == (str(SAMPLE_VIDEO) if kind == "path" else None)


def test_the_order_of_channels_changes_the_answer(nano: ActionClip, images: Images, expected: Prediction) -> None:
    prediction = nano.classify(images, LABELS, channels="bgr")
    assert np.abs(prediction.similarities - expected.similarities).max() > 1e-3


def test_other_inputs_are_errors_that_say_what_to_give(nano: ActionClip) -> None:
    with pytest.raises(
        ActionClipError, match=r"the list has the path a\.mp4, not an image: classify one video at a time"
    ):
        nano.classify(["a.mp4"], LABELS)
    with pytest.raises(ActionClipError, match="the video is the number 0: of a camera, read as many frames"):
        nano.encode_video(0)  # type: ignore[arg-type]
