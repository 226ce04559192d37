"""Whole videos in windows: which frames and parts, the answers of their frames alone, and what goes wrong."""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fault_server import Fault, FaultServer, wait_until
from make_videos import copy_packets, moving, number_in, numbered, write_numbered, write_video
from numpy.typing import NDArray
from small_models import random_closed_model, random_model, save_closed_model, save_model

import action_clip.models.steps
import action_clip.models.window_encoder
import action_clip.models.windows
import action_clip.video.address
import action_clip.video.seeking
from action_clip import ActionClip, ActionClipError, Failure, TimeSformer, VideoReader
from action_clip.models.engine import Limits, Ready, Stages, run
from action_clip.models.model_graphs import ModelGraphs
from action_clip.models.prediction import Window
from action_clip.models.windows import make_spacing
from action_clip.video.pixels import upright_rgb
from action_clip.video.preprocess import clip_tensor, cropped
from action_clip.video.source import Video

LABELS = ["drinking", "riding a bicycle", "playing the drums"]
T = 4
GROUPS = {"g": "20", "keyint_min": "20", "sc_threshold": "0", "bf": "2"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(random_model(1, T, True), tmp_path_factory.mktemp("model"), frames=T)


@pytest.fixture
def model(folder: Path) -> ActionClip:
    return ActionClip(folder, cache=False)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """55 frames of 40 ms."""
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", moving(55), options=GROUPS)


@pytest.fixture
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.models.window_encoder, "_MOST_FRAMES", 3)


def temporal(folder: Path) -> Path:
    """A model whose image graph is said to mix the frames of a clip."""
    save_model(random_model(2, T, True), folder, frames=T)
    for role in ("text", "image", "fusion"):
        proto = onnx.load(folder / f"{role}.onnx")
        onnx.helper.set_model_props(
            proto, {entry.key: entry.value for entry in proto.metadata_props} | {"temporal": "shift"}
        )
        onnx.save(proto, folder / f"{role}.onnx")
    return folder


def workers() -> list[threading.Thread]:
    """The threads that do the engine's work, as their names say."""
    return [thread for thread in threading.enumerate() if "(complete)" in thread.name]


def spans(windows: Sequence[Window]) -> list[tuple[float, float]]:
    return [(round(window.start_s, 6), round(window.end_s, 6)) for window in windows]


def frames_of(windows: Sequence[Window]) -> list[tuple[int, ...]]:
    return [window.prediction.frame_indices for window in windows]


def assert_answers_are_those_of_their_frames(windows: Sequence[Window], model: Any, path: Path) -> None:
    """Each window has the features of a clip of its frames."""
    spec = model.spec
    with VideoReader(path, threads=1) as reader:
        for window in windows:
            frames = reader.frames_at(window.prediction.frame_indices)
            tensor = clip_tensor(frames.frames, spec.image_size, spec.mean, spec.std, spec.resize)
            expected = model.encode_clips(tensor[np.newaxis])
            np.testing.assert_allclose(window.prediction.video_features, expected.features[0], atol=2e-5)
            assert window.prediction.frame_times_s == frames.times_s
            assert window.prediction.duration_s == frames.duration_s


@pytest.mark.usefixtures("short_stretches")
def test_windows_lie_on_one_grid_and_end_with_the_video(model: ActionClip, video: Path) -> None:
    # 2.2 s in steps of 0.25 s: nine of them, in whose middle a frame of 0.04 s is shown
    grid = [3, 9, 15, 21, 28, 34, 40, 46, 53]
    windows = list(model.timeline(video, LABELS, window=1.0))
    assert spans(windows) == [(0, 1), (0.5, 1.5), (1, 2), (1.5, 2.2)]
    expected = [grid[0:4], grid[2:6], grid[4:8], [grid[6], grid[6], grid[7], grid[8]]]
    assert frames_of(windows) == [tuple(frames) for frames in expected]
    assert_answers_are_those_of_their_frames(windows, model, video)
    bank = model.labels(LABELS)
    for window in windows:
        prediction = window.prediction
        assert prediction.labels == tuple(LABELS)
        assert prediction.probabilities.sum() == pytest.approx(1)
        assert (prediction.video, prediction.model) == (str(video), model.spec.name)
        assert prediction.timings_s.keys() == {"decode", "preprocess", "image", "fusion", "score"}
    by_hand = action_clip.score(windows[1].prediction.video_features, bank)
    np.testing.assert_allclose(windows[1].prediction.probabilities, by_hand.probabilities, atol=1e-6)


@pytest.mark.usefixtures("short_stretches")
def test_other_strides(model: ActionClip, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.models.windows, "_MOST_WINDOWS", 2)
    whole = list(model.timeline(video, LABELS, window=1.0, stride=1.0))
    assert spans(whole) == [(0, 1), (1, 2), (2, 2.2)]
    assert frames_of(whole)[2] == (53,) * T
    each = list(model.timeline(video, LABELS, window=1.0, stride=0.25))
    assert spans(each) == [(0, 1), (0.25, 1.25), (0.5, 1.5), (0.75, 1.75), (1, 2), (1.25, 2.2)]
    for window in whole[:2]:
        [same] = [other for other in each if other.start_s == window.start_s]
        np.testing.assert_allclose(window.prediction.video_features, same.prediction.video_features, atol=2e-5)
    assert_answers_are_those_of_their_frames(each, model, video)


@pytest.mark.usefixtures("short_stretches")
def test_graphs_that_see_whole_clips(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    encode = action_clip.models.steps.encode_frames

    def watched(graphs: Any, clips: NDArray[np.float32]) -> Any:
        shapes.append(clips.shape)
        return encode(graphs, clips)

    monkeypatch.setattr(action_clip.models.steps, "encode_frames", watched)
    zero_shot = ActionClip(temporal(tmp_path / "temporal"), cache=False)
    windows = list(zero_shot.timeline(video, LABELS, window=1.0))
    assert {shape[1:] for shape in shapes} == {(T, 3, 32, 32)}
    assert sum(len(shape) and shape[0] for shape in shapes) == 4
    assert_answers_are_those_of_their_frames(windows, zero_shot, video)

    closed = TimeSformer(save_closed_model(random_closed_model(1, T), tmp_path / "closed", batch=1), cache=False)
    windows = list(closed.timeline(video, window=1.0, top_k=2))
    assert spans(windows) == [(0, 1), (0.5, 1.5), (1, 2), (1.5, 2.2)]
    assert_answers_are_those_of_their_frames(windows, closed, video)
    assert windows[0].prediction.labels == closed.classes
    assert windows[0].prediction.timings_s.keys() == {"decode", "preprocess", "video", "score"}


def test_nano(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", moving(18), rate=10)
    with ActionClip("nano", cache=False, threads=1) as nano:
        windows = list(nano.timeline(path, LABELS, window=1.2))
        assert spans(windows) == [(0, 1.2), (0.6, 1.8)]
        assert_answers_are_those_of_their_frames(windows, nano, path)


@pytest.mark.usefixtures("short_stretches")
def test_each_frame_is_decoded_and_encoded_once(folder: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, packets, rows = [], [], []
    decode, encode = Video.decode, action_clip.models.steps.frame_features

    def converting(frame: Any, aspect: Any) -> Any:
        pictures.append(frame.pts)
        return upright_rgb(frame, aspect)

    def decoding(self: Video, packet: Any) -> Any:
        packets.extend([] if packet is None else [packet.pts])
        return decode(self, packet)

    def encoding(graphs: Any, frames: NDArray[np.float32]) -> Any:
        rows.append(len(frames))
        return encode(graphs, frames)

    monkeypatch.setattr(action_clip.video.seeking, "upright_rgb", converting)
    monkeypatch.setattr(Video, "decode", decoding)
    monkeypatch.setattr(action_clip.models.steps, "frame_features", encoding)
    windows = list(ActionClip(folder, cache=False).timeline(video, LABELS, window=1.0, stride=0.25))
    looked_at = {index for window in windows for index in window.prediction.frame_indices}
    assert len(pictures) == len(set(pictures)) == sum(rows) == len(looked_at) == 9
    assert len(packets) == len(set(packets)) <= 55


def test_a_second_question_decodes_nothing(folder: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = list(ActionClip(folder).timeline(video, LABELS, window=1.0))

    def refuse(*_: object) -> None:
        raise AssertionError("a packet is decoded")

    started: list[ModelGraphs] = []
    monkeypatch.setattr(ModelGraphs, "start", lambda graphs: started.append(graphs))
    monkeypatch.setattr(Video, "decode", refuse)
    again = list(ActionClip(folder).timeline(video, ["eating"], window=1.0, stride=0.25))
    assert started == []  # nor are sessions made that are not needed
    for window in first[:3]:
        [same] = [other for other in again if other.start_s == window.start_s]
        np.testing.assert_allclose(window.prediction.video_features, same.prediction.video_features, atol=1e-6)
    assert again[0].prediction.timings_s.keys() == first[0].prediction.timings_s.keys()
    with pytest.raises(ActionClipError, match="a packet is decoded"):
        list(ActionClip(folder).timeline(video, LABELS, window=0.9))


@pytest.mark.parametrize("window", [2.2, 2.3, 1e300])
def test_a_video_that_is_no_longer_than_a_window_is_classified(model: ActionClip, video: Path, window: float) -> None:
    [only] = model.timeline(video, LABELS, window=window)
    expected = model.classify(video, LABELS, thumbnails=False)
    assert (only.start_s, only.end_s) == (0, expected.duration_s)
    assert only.prediction.frame_indices == expected.frame_indices
    assert only.prediction.frame_times_s == expected.frame_times_s
    np.testing.assert_allclose(only.prediction.probabilities, expected.probabilities, atol=1e-5)


def test_one_frame(model: ActionClip, tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "clip.mp4", 1)
    [only] = model.timeline(path, LABELS)
    assert only.prediction.frame_indices == (0,) * T
    assert (only.start_s, only.end_s) == (0, only.prediction.duration_s)


def test_a_variable_rate_and_a_gap_of_minutes(model: ActionClip, tmp_path: Path) -> None:
    times = [*range(0, 1000, 40), *range(120_000, 121_000, 100)]
    path = write_video(tmp_path / "clip.mkv", moving(len(times)), times=times, options={"g": "20", "bf": "0"})
    windows = list(model.timeline(path, LABELS, window=1.0, stride=1.0))
    assert len(windows) == 121
    assert spans(windows)[119:] == [(119, 120), (120, 120.94)]
    assert frames_of(windows)[0] == (3, 9, 15, 21)
    assert set(frames_of(windows)[1:120]) == {(24,) * T}
    assert frames_of(windows)[120] == (26, 28, 31, 33)
    assert_answers_are_those_of_their_frames([windows[0], windows[60], windows[120]], model, path)


def test_timestamps_that_begin_at_an_hour(model: ActionClip, video: Path, tmp_path: Path) -> None:
    plain = copy_packets(video, tmp_path / "plain.ts")
    with_hour = copy_packets(video, tmp_path / "hour.ts", shift=3600 * 12800)
    expected = list(model.timeline(plain, LABELS, window=1.0))
    windows = list(model.timeline(with_hour, LABELS, window=1.0))
    assert spans(windows) == spans(expected)
    assert frames_of(windows) == frames_of(expected)


@pytest.mark.usefixtures("short_stretches")
@pytest.mark.parametrize("begins_s", [0, 3600])
def test_timestamps_that_jump_back(model: ActionClip, tmp_path: Path, begins_s: int) -> None:
    """By an hour: FFmpeg takes that for timestamps that begin anew after 26 hours."""
    part = write_numbered(tmp_path / "part.ts", 30, options=GROUPS)
    later = copy_packets(part, tmp_path / "later.ts", shift=begins_s * 90_000)
    path = tmp_path / "both.ts"
    path.write_bytes(later.read_bytes() + part.read_bytes())
    windows = list(model.timeline(path, LABELS, window=1.0))
    assert spans(windows)[-1][1] == pytest.approx(2.4, abs=0.05)
    assert frames_of(windows)[0] == (3, 9, 15, 21)
    assert_answers_are_those_of_their_frames(windows, model, path)


def test_a_file_that_was_cut(model: ActionClip, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "clip.mkv", moving(55), options=GROUPS)
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    windows = list(model.timeline(path, LABELS, window=1.0))
    with VideoReader(path) as reader:
        assert 20 < len(reader) < 50
        assert windows[-1].end_s == reader.duration_s
    assert_answers_are_those_of_their_frames(windows, model, path)

    path = tmp_path / "cut.mp4"
    path.write_bytes(write_video(tmp_path / "clip.mp4", moving(9)).read_bytes()[:900])
    with pytest.raises(ActionClipError, match=r"cut\.mp4 cannot be read as a video"):
        list(model.timeline(path, LABELS))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe(model: ActionClip, video: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(video.read_bytes()))
    writer.start()
    windows = list(model.timeline(pipe, LABELS, window=1.0))
    writer.join(60)
    assert frames_of(windows) == frames_of(list(model.timeline(video, LABELS, window=1.0)))


@pytest.mark.usefixtures("short_stretches")
def test_a_video_that_fails_stops_no_other(
    model: ActionClip, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = write_numbered(tmp_path / "numbers.mp4", 60, options=GROUPS)

    def failing(frame: NDArray[np.uint8], *how: Any) -> NDArray[np.uint8]:
        if frame.min() > 20 and number_in(frame) > 40:  # a picture of `numbers`
            raise ActionClipError("no more")
        return cropped(frame, *how)

    monkeypatch.setattr(action_clip.models.window_encoder, "cropped", failing)
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    array: Any = np.zeros((9, 48, 60, 3), np.uint8)
    results = list(model.timelines([video, text, numbers, array, tmp_path / "none.mp4", video], LABELS, window=1.0))
    assert [number for number, _ in results] == [0] * 4 + [1] + [2] * 3 + [3, 4] + [5] * 4
    failures = {number: result for number, result in results if isinstance(result, Failure)}
    assert failures.keys() == {1, 2, 3, 4}
    assert failures[1].video == str(text)
    assert str(failures[2].error) == "no more"
    assert "name a file or an address" in str(failures[3].error)
    assert "does not exist" in str(failures[4].error)
    answered = [result for number, result in results if number == 2 and isinstance(result, Window)]
    assert spans(answered) == [(0, 1), (0.5, 1.5)]
    wait_until(lambda: not workers())


def test_what_a_single_video_raises(model: ActionClip, tmp_path: Path) -> None:
    with pytest.raises(ActionClipError, match="does not exist"):
        next(model.timeline(tmp_path / "none.mp4", LABELS))


@pytest.mark.usefixtures("short_stretches")
def test_closing_in_the_middle_leaves_no_thread(model: ActionClip, video: Path) -> None:
    results: Any = model.timeline(video, LABELS, window=0.2)
    assert not workers()
    next(results)
    results.close()
    wait_until(lambda: not workers())


def test_closing_while_the_next_video_is_opened_leaves_no_thread(
    model: ActionClip, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action_clip.video.address, "URL_TIMEOUT_S", 600.0)
    over, stalled = threading.Event(), threading.Event()

    def stall() -> None:
        stalled.set()
        over.wait(120)

    with FaultServer() as server:
        server.add("/clip.mp4", video.read_bytes(), [Fault(halfway=stall)] * 3)
        results = model.timelines([video, f"{server.url}/clip.mp4"], LABELS, window=1.0)
        assert next(results)[0] == 0
        assert stalled.wait(60)
        results.close()
        try:
            wait_until(lambda: not workers())
        finally:
            over.set()


@pytest.mark.parametrize("window", [0, -1.0, float("nan"), float("inf"), None, "4"])
def test_windows_that_are_no_length_are_refused(model: ActionClip, video: Path, window: Any) -> None:
    with pytest.raises(ActionClipError, match=r"the window is .*: give a number of seconds above 0"):
        model.timeline(video, LABELS, window=window).__next__()


@pytest.mark.parametrize("stride", [0, -1.0, float("nan"), float("inf"), "2"])
def test_strides_that_are_no_length_are_refused(model: ActionClip, video: Path, stride: Any) -> None:
    with pytest.raises(ActionClipError, match=r"the stride is .*: give a number of seconds above 0"):
        next(model.timeline(video, LABELS, stride=stride))


def test_a_stride_above_the_window_is_refused(model: ActionClip, video: Path) -> None:
    with pytest.raises(ActionClipError, match="leave out parts of the video: give a stride of 4 at most"):
        next(model.timeline(video, LABELS, window=4, stride=4.5))


@pytest.mark.parametrize("window", [1e-7, 5e-324])
def test_windows_that_are_too_short_for_the_video(model: ActionClip, video: Path, window: float) -> None:
    with pytest.raises(ActionClipError, match=r"has 2 s, which are too many windows of .* give windows of 0\.01 s or"):
        next(model.timeline(video, LABELS, window=window))


def test_a_stride_is_brought_to_the_grid(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "action_clip"):
        assert make_spacing(4.0, 2.0, 8).stride == 4
        assert make_spacing(4.0, None, 1).stride == 1
        assert not caplog.records
        assert make_spacing(4.0, 1.3, 8).stride == 3
        assert make_spacing(4.0, 0.1, 8).stride == 1
    assert [record.getMessage() for record in caplog.records] == [
        "windows begin every 1.5 s, not every 1.3 s: on the frames that are looked at, 0.5 s apart",
        "windows begin every 0.5 s, not every 0.1 s: on the frames that are looked at, 0.5 s apart",
    ]


def test_lengths_of_any_size_and_type_become_floats() -> None:
    assert make_spacing(1e308, 1e308, 8).stride == 8
    spacing = make_spacing(np.float32(4), np.float32(1), 8)  # type: ignore[arg-type]
    assert (type(spacing.window_s), spacing.stride) == (float, 2)
    with pytest.raises(ActionClipError, match="the window is 1000"):
        make_spacing(10**400, None, 8)


def test_windows_shorter_than_frames(model: ActionClip, tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", [numbered(number) for number in range(5)], rate=5)
    windows = list(model.timeline(path, LABELS, window=0.1, stride=0.1))
    assert [set(frames) for frames in frames_of(windows)] == [{number // 2} for number in range(10)]
    features = [window.prediction.video_features for window in windows]
    for first, second in list(pairwise(features))[::2]:
        np.testing.assert_allclose(first, second, atol=1e-5)


def test_a_bounded_number_waits_for_one_that_stalls() -> None:
    gate, begun = threading.Event(), []

    def prepare(number: int) -> Ready[int]:
        begun.append(number)
        if number == 0:
            gate.wait(60)
        return Ready(number)

    encode: Callable[[Sequence[int]], Sequence[int]] = list
    results = run(range(99), Stages(prepare, encode, lambda: None, Limits(3, 3, 1, pending=5)), ordered=True)
    found: list[Any] = []
    consumer = threading.Thread(target=lambda: found.extend(results))
    consumer.start()
    wait_until(lambda: len(begun) == 5)
    threading.Event().wait(0.3)
    assert len(begun) == 5
    gate.set()
    consumer.join(60)
    assert found == [(number, number) for number in range(99)]
