"""Scores, features and frames against plain numpy, on small random models."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from small_models import preprocessed, random_model, save_model

import action_clip.models.model_graphs
from action_clip import ActionClip, ActionClipError
from action_clip.models.cache.session_cache import cached_graph
from action_clip.tokenizer.bpe import default_tokenizer
from action_clip.tokenizer.prompts import DEFAULT_PROMPTS, fill_prompts

ROOT = Path(__file__).parents[2]
LABELS = ["drinking", "riding a bicycle", "playing the drums"]


def frames_of(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 48, 60, 3), dtype=np.uint8)


@pytest.mark.parametrize("transformer", [False, True], ids=["meanP", "transformer"])
@pytest.mark.parametrize("count", [1, 3, 400])
def test_probabilities_are_those_computed_by_hand(tmp_path: Path, transformer: bool, count: int) -> None:
    model = random_model(1, 8, transformer)
    save_model(model, tmp_path, frames=8)
    labels = [f"{LABELS[i % 3]} {i}" for i in range(count)]
    frames = frames_of(8)
    tokens = default_tokenizer().encode(fill_prompts(DEFAULT_PROMPTS, labels))
    expected = model.probabilities(frames, tokens, 16, scale=10.0)

    prediction = ActionClip(tmp_path).classify(frames, labels)

    np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-5)
    assert prediction.probabilities.sum() == pytest.approx(1)
    assert prediction.top_k == min(5, count)
    assert [entry.rank for entry in prediction.ranked] == list(range(1, min(5, count) + 1))
    highest = [entry.probability for entry in prediction.ranked]
    np.testing.assert_allclose(highest, np.sort(expected)[::-1][:5], atol=1e-5)
    np.testing.assert_allclose(highest, expected[[entry.index for entry in prediction.ranked]], atol=1e-5)
    assert [entry.label for entry in prediction.ranked] == [labels[entry.index] for entry in prediction.ranked]


def test_averaged_embeddings_are_one_normalised_mean_a_label(tmp_path: Path) -> None:
    model = random_model(2, 4, False)
    save_model(model, tmp_path, frames=4)
    tokens = default_tokenizer().encode(fill_prompts(DEFAULT_PROMPTS, LABELS))
    text = model.text(tokens)
    text = (text / np.linalg.norm(text, axis=1, keepdims=True)).reshape(16, 3, -1).mean(axis=0)
    text /= np.linalg.norm(text, axis=1, keepdims=True)

    averaging = ActionClip(tmp_path, average="embeddings")
    bank = averaging.labels(LABELS).embeddings
    video = averaging.encode_video(frames_of(4))
    prediction = averaging.classify(frames_of(4), LABELS)

    assert bank.shape == (1, 3, 16)
    np.testing.assert_allclose(bank[0], text, atol=1e-5)
    exponentials = np.exp(10.0 * (text @ video.features))
    np.testing.assert_allclose(prediction.probabilities, exponentials / exponentials.sum(), atol=1e-5)
    other = ActionClip(tmp_path).classify(frames_of(4), LABELS)
    assert np.abs(other.probabilities - prediction.probabilities).max() > 1e-3


def test_labels_that_are_the_same_to_the_model_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_model(random_model(3, 4, True), tmp_path, frames=4)
    model = ActionClip(tmp_path)
    labels = ["eating", "drinking", "Eating "]
    with caplog.at_level("WARNING", logger="action_clip"):
        for seed in (0, 1):
            prediction = model.classify(frames_of(4, seed), labels)
        model.labels(labels)
    assert prediction.labels == ("eating", "drinking", "Eating")
    assert prediction.probabilities[0] == pytest.approx(prediction.probabilities[2])
    (message,) = [message for message in caplog.messages if "same to the model" in message]
    assert message.endswith(": 'eating', 'Eating'")


def test_video_features_are_normalised_and_come_with_the_frames(tmp_path: Path) -> None:
    model = random_model(3, 4, True)
    save_model(model, tmp_path, frames=4)
    frames = frames_of(10)

    encoded = ActionClip(tmp_path).encode_video(frames)

    assert encoded.clip.indices == (0, 3, 5, 8)  # int(i * 2.5 + 0.75)
    expected = model.fusion(model.image(preprocessed(frames[[0, 3, 5, 8]])))
    np.testing.assert_allclose(encoded.features, expected / np.linalg.norm(expected), atol=1e-5)
    np.testing.assert_array_equal(encoded.clip.frames, frames[[0, 3, 5, 8]])
    assert set(encoded.timings_s) == {"decode", "preprocess", "image", "fusion"}


def test_fewer_frames_than_the_model_looks_at_are_repeated(tmp_path: Path) -> None:
    save_model(random_model(3, 8, False), tmp_path, frames=8)
    prediction = ActionClip(tmp_path).classify(frames_of(3), LABELS)
    assert prediction.frame_indices == (0, 0, 0, 1, 1, 1, 2, 2)
    assert prediction.video is None
    assert prediction.duration_s is None


@pytest.mark.parametrize(
    "fixed", [{"batch": 1}, {"batch": 5}, {"length": 77}, {"batch": 1, "length": 77}, {"tokens": "int32"}]
)
def test_graphs_are_fed_in_the_shapes_that_they_declare(tmp_path: Path, fixed: dict[str, int]) -> None:
    model = random_model(4, 8, True)
    labels = [*LABELS, "a much longer label that needs many more tokens than the others do"]
    save_model(model, tmp_path / "free", frames=8)
    save_model(model, tmp_path / "fixed", frames=8, **fixed)  # type: ignore[arg-type]
    free = ActionClip(tmp_path / "free").classify(frames_of(8), labels)
    declared = ActionClip(tmp_path / "fixed").classify(frames_of(8), labels)
    np.testing.assert_allclose(declared.probabilities, free.probabilities, atol=1e-6)


def test_float16_graphs_are_fed_float16(tmp_path: Path) -> None:
    model = random_model(5, 8, True)
    save_model(model, tmp_path / "single", frames=8)
    save_model(model, tmp_path / "half", frames=8, floats="float16")
    single = ActionClip(tmp_path / "single").classify(frames_of(8), LABELS)
    half = ActionClip(tmp_path / "half").classify(frames_of(8), LABELS)
    np.testing.assert_allclose(half.probabilities, single.probabilities, atol=0.02)
    assert half.video_features.dtype == np.float32


def test_repeated_labels_are_used_once_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_model(random_model(6, 8, False), tmp_path, frames=8)
    prediction = ActionClip(tmp_path).classify(frames_of(8), ["eating", " drinking ", "eating"])
    assert prediction.labels == ("eating", "drinking")
    assert [record.message for record in caplog.records] == ["labels given more than once are used once: 'eating'"]


def test_own_prompts_replace_the_models(tmp_path: Path) -> None:
    model = random_model(7, 8, False)
    save_model(model, tmp_path / "a", frames=8, prompts=["someone is {}", "{}!"])
    save_model(model, tmp_path / "b", frames=8)
    own = ActionClip(tmp_path / "b", prompts=["someone is {}", "{}!"]).classify(frames_of(8), LABELS)
    exported = ActionClip(tmp_path / "a").classify(frames_of(8), LABELS)
    expected = model.probabilities(
        frames_of(8), default_tokenizer().encode(fill_prompts(["someone is {}", "{}!"], LABELS)), 2, scale=10.0
    )
    np.testing.assert_allclose(own.probabilities, expected, atol=1e-5)
    np.testing.assert_array_equal(own.probabilities, exported.probabilities)


def test_a_clip_is_never_split(tmp_path: Path) -> None:
    model = random_model(8, 300, False)
    save_model(model, tmp_path, frames=300)
    # Every frame's features change with those of all the others.
    graph = onnx.load(tmp_path / "image.onnx")
    graph.graph.node[-1].output[0] = "own"
    graph.graph.node.extend(
        [
            onnx.helper.make_node("CumSum", ["own", "first"], ["sums"], exclusive=1),
            onnx.helper.make_node("Tanh", ["sums"], ["features"]),
        ]
    )
    graph.graph.initializer.append(numpy_helper.from_array(np.array(0), "first"))
    onnx.save(graph, tmp_path / "image.onnx")
    frames = frames_of(300)
    own = model.image(preprocessed(frames))
    expected = np.tanh(own.cumsum(axis=0) - own).mean(axis=0)
    features = ActionClip(tmp_path).encode_video(frames).features
    np.testing.assert_allclose(features, expected / np.linalg.norm(expected), atol=1e-4)


def test_graphs_to_be_exported_are_missed_before_the_video_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("action_clip.video.inputs.read_clip", opened)
    recogniser = ActionClip("vit-b-16-16f")
    for call in (
        lambda: recogniser.classify("clip.mp4", LABELS),
        lambda: recogniser.encode_video("clip.mp4"),
        lambda: recogniser.labels(LABELS),
    ):
        with pytest.raises(ActionClipError) as caught:
            call()
        assert str(caught.value) == (
            "the graphs of vit-b-16-16f are not on this disk yet: run action-clip export vit-b-16-16f once "
            "(it needs pip install 'action-clip[export]', in a clone '.[export]'), "
            "or use --model nano, which needs no download"
        )
    # What is wrong with the labels is known earlier.
    with pytest.raises(ActionClipError, match="the label 'word word"):
        recogniser.classify("clip.mp4", ["word " * 100])


def test_known_labels_need_no_text_graph(tmp_path: Path, opened: list[Path]) -> None:
    save_model(random_model(8, 8, False), tmp_path, frames=8)
    first = ActionClip(tmp_path).classify(frames_of(8), LABELS)
    text, image, fusion = (cached_graph(tmp_path / f"{role}.onnx") for role in ("text", "image", "fusion"))
    opened.clear()
    recogniser = ActionClip(tmp_path)
    again = recogniser.classify(frames_of(8), LABELS[::-1])
    np.testing.assert_allclose(again.probabilities, first.probabilities[::-1], atol=1e-7)
    assert set(opened) == {image, fusion}
    recogniser.labels([*LABELS, "something new"])
    assert set(opened) == {image, fusion, text}


def test_features_of_another_text_graph_are_not_used(tmp_path: Path) -> None:
    save_model(random_model(9, 8, False), tmp_path, frames=8)
    before = ActionClip(tmp_path).labels(LABELS).embeddings
    save_model(random_model(10, 8, False), tmp_path, frames=8)
    after = ActionClip(tmp_path).labels(LABELS).embeddings
    assert np.abs(before - after).max() > 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"average": "votes"}, "average is 'votes': choose probabilities or embeddings"),
        ({"threads": 0}, "threads is 0: give a number above 0"),
        ({"threads": 1.5}, "threads is 1.5: give a whole number above 0"),
        ({"threads": "2"}, "threads is '2': give a whole number above 0"),
        ({"prompts": "a video of {}"}, "prompts is one string, 'a video of {}': give a list of templates"),
        ({"prompts": ["no place"]}, "prompts must be templates with exactly one {} each"),
        ({"device": "abacus"}, "the device 'abacus' is not there: this onnxruntime has cpu"),
    ],
)
def test_wrong_choices_are_named(tmp_path: Path, arguments: dict[str, object], message: str) -> None:
    save_model(random_model(11, 8, False), tmp_path, frames=8)
    with pytest.raises(ActionClipError) as caught:
        ActionClip(tmp_path, **arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((8, 40, 40), np.uint8),
        np.zeros((8, 40, 40, 3), np.float32),
        np.zeros((0, 40, 40, 3), np.uint8),
        np.zeros((8, 40, 40, 4), np.uint8),
        np.array(5),
        None,
    ],
)
def test_frames_of_another_shape_are_refused(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    save_model(random_model(12, 8, False), tmp_path, frames=8)
    with pytest.raises(ActionClipError, match=r"\(T, H, W, 3\)|no frames"):
        ActionClip(tmp_path).classify(frames, LABELS)


def test_a_label_too_long_is_named_with_its_token_count(tmp_path: Path) -> None:
    save_model(random_model(13, 8, False), tmp_path, frames=8)
    label = "very " * 80 + "long"
    with pytest.raises(ActionClipError, match=r"label 'very very .* makes, in its prompt, \d\d tokens"):
        ActionClip(tmp_path).classify(frames_of(8), ["eating", label])


@pytest.mark.parametrize("labels", [[1, 2], [b"eating"], "eating", [], ["eating", " "], ["\udcff"]])
def test_invalid_labels_are_refused(tmp_path: Path, labels: object) -> None:
    save_model(random_model(13, 8, False), tmp_path, frames=8)
    with pytest.raises(ActionClipError, match="label"):
        ActionClip(tmp_path).classify(frames_of(8), labels)  # type: ignore[arg-type]


def test_labels_and_prompts_may_be_any_iterable(tmp_path: Path) -> None:
    save_model(random_model(13, 8, False), tmp_path, frames=8)
    one = ActionClip(tmp_path, prompts=(p for p in ("{}", "a {}"))).classify(frames_of(8), (name for name in LABELS))
    other = ActionClip(tmp_path, prompts=["{}", "a {}"]).classify(frames_of(8), np.array(LABELS))
    assert one.labels == tuple(LABELS)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_graphs_of_two_models_are_not_mixed(tmp_path: Path) -> None:
    model = random_model(14, 8, False)
    save_model(model, tmp_path, frames=8)
    narrow = replace(model, text_out=model.text_out[:, :12])
    save_model(narrow, tmp_path / "narrow", frames=8)
    (tmp_path / "text.onnx").write_bytes((tmp_path / "narrow" / "text.onnx").read_bytes())
    with pytest.raises(ActionClipError, match="the text graph gives 12 numbers and the fusion graph 16"):
        ActionClip(tmp_path).classify(frames_of(8), LABELS)


def test_an_unknown_model_names_those_there_are() -> None:
    with pytest.raises(ActionClipError, match="no model or folder 'vit-99': the models are vit-32-8f, nano"):
        ActionClip("vit-99")


def test_a_folder_without_graphs_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ActionClipError, match="no graph in it says that it is the text or the image or the fusion"):
        ActionClip(tmp_path)


def test_a_damaged_graph_is_named(tmp_path: Path) -> None:
    save_model(random_model(14, 8, False), tmp_path, frames=8)
    whole = (tmp_path / "image.onnx").read_bytes()
    # Metadata comes last in the file: damage the graph, keep the metadata readable.
    broken = whole.replace(b"AveragePool", b"AveragePoo1")
    assert broken != whole
    (tmp_path / "image.onnx").write_bytes(broken)
    with pytest.raises(ActionClipError, match=r"image\.onnx cannot be loaded on 'cpu'"):
        ActionClip(tmp_path).classify(frames_of(8), LABELS)


def test_metadata_that_does_not_fit_the_graphs_is_an_error(tmp_path: Path) -> None:
    save_model(random_model(15, 8, True), tmp_path, frames=8)
    save_model(random_model(15, 4, True), tmp_path / "other", frames=4)
    (tmp_path / "fusion.onnx").write_bytes((tmp_path / "other" / "fusion.onnx").read_bytes())
    with pytest.raises(ActionClipError, match=r"fusion\.onnx takes \(any, 4, 16\), not \(1, 8, 16\)"):
        ActionClip(tmp_path).classify(frames_of(8), LABELS)


def test_features_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    model = random_model(16, 8, False)
    model.patches[:] = np.nan
    save_model(model, tmp_path, frames=8)
    with pytest.raises(ActionClipError, match="zero or not finite"):
        ActionClip(tmp_path).classify(frames_of(8), LABELS)


def test_more_threads_than_cores_are_clamped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action_clip.models.model_graphs, "usable_cores", lambda: 3)
    chosen = []
    make = onnxruntime.InferenceSession

    def watched(path: Path, options: Any, **named: Any) -> Any:
        chosen.append(options.intra_op_num_threads)
        return make(path, options, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    save_model(random_model(1, 8, True), tmp_path, frames=8)
    frames = np.zeros((8, 40, 40, 3), np.uint8)
    for threads in (100_000, 3, 2):
        ActionClip(tmp_path, threads=threads, cache=False).classify(frames, ["eating", "drinking"])
    assert chosen == [3] * 6 + [2] * 3
    assert caplog.messages == ["100000 threads are asked for, and there are cores for 3: that many are used"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes are not bound to cores there")
def test_cores_are_those_of_the_process() -> None:
    program = (
        "import os; from action_clip.models.model_graphs import usable_cores; "
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(usable_cores())"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "1\n"
