"""Several videos at once: answers as one by one, in order, lazily, with failures as values, and no thread left."""

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_server import Fault, FaultServer, wait_until
from make_videos import number_in, numbered, write_numbered
from numpy.typing import NDArray
from small_models import CLASSES, random_closed_model, random_model, save_closed_model, save_model

import action_clip.models.engine
import action_clip.video.address
from action_clip import ActionClip, ActionClipError, EncodedVideo, Failure, Prediction, TimeSformer
from action_clip.commands.samples import SAMPLE_VIDEO
from action_clip.models.engine import Limits, Stages, run
from action_clip.output.sheet import save_sheet

LABELS = ["drinking", "riding a bicycle", "playing the drums"]
T = 4


def frames_of(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (T, 48, 60, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ActionClip:
    folder = save_model(random_model(1, T, True), tmp_path_factory.mktemp("model"), frames=T)
    return ActionClip(folder, cache=False)


def workers() -> list[threading.Thread]:
    """The threads that do the engine's work, as their names say."""
    return [thread for thread in threading.enumerate() if "(complete)" in thread.name]


def test_the_answers_are_those_of_one_video_at_a_time(model: ActionClip) -> None:
    videos = [frames_of(seed) for seed in range(9)] + [SAMPLE_VIDEO]
    bank = model.labels(LABELS)
    results = list(model.classify_many(videos, bank, top_k=2))
    for video, result in zip(videos, results, strict=True):
        expected = model.classify(video, bank, top_k=2)
        assert isinstance(result, Prediction)
        np.testing.assert_array_equal(result.video_features, expected.video_features)
        np.testing.assert_array_equal(result.probabilities, expected.probabilities)
        assert result.ranked == expected.ranked
        assert (result.frame_indices, result.frame_times_s) == (expected.frame_indices, expected.frame_times_s)
        assert (result.video, result.duration_s) == (expected.video, expected.duration_s)
        assert result.frames.shape == (0, 0, 0, 3)
        assert result.timings_s.keys() == {"decode", "preprocess", "image", "fusion", "score"}


def test_predictions_without_thumbnails_are_tables_and_no_sheets(model: ActionClip, tmp_path: Path) -> None:
    [result] = model.classify_many([frames_of(1)], LABELS)
    assert isinstance(result, Prediction)
    assert result._repr_html_().startswith("<table>")
    with pytest.raises(ActionClipError, match=r"no thumbnails.* classify the video alone"):
        save_sheet(tmp_path / "sheet.png", result)
    assert not (tmp_path / "sheet.png").exists()


def test_predictions_have_a_small_frame_from_the_middle_where_it_is_asked_for(tmp_path: Path) -> None:
    model = ActionClip(save_model(random_model(1, 4, False), tmp_path / "model", frames=4))
    video = write_numbered(tmp_path / "a.mp4", 64, options={"g": "10", "sc_threshold": "0"})
    frames = [numbered(number, 640, 384) for number in range(64)]
    labels = ["eating", "läuft"]
    # The middle one of the frames that are looked at; when the video is known, the keyframe next to its middle.
    for expected in (39, 30):
        [of_file, of_frames] = model.classify_many([video, frames], labels, thumbnail=True)
        assert isinstance(of_file, Prediction)
        assert isinstance(of_frames, Prediction)
        assert of_file.thumbnail is not None
        assert number_in(of_file.thumbnail) == expected
        assert of_frames.thumbnail is not None
        assert (number_in(of_frames.thumbnail), of_frames.thumbnail.shape) == (39, (96, 160, 3))
        assert of_file.frames.size == 0
    [without] = model.classify_many([video], labels)
    assert isinstance(without, Prediction)
    assert without.thumbnail is None


def test_a_closed_set_gives_small_frames_too(tmp_path: Path) -> None:
    model = TimeSformer(save_closed_model(random_closed_model(1, frames=4), tmp_path / "closed"))
    [(_, answer)] = model.classify_as_completed([[numbered(5)] * 4], thumbnail=True)
    assert isinstance(answer, Prediction)
    assert answer.thumbnail is not None
    assert number_in(answer.thumbnail) == 5


def test_encoded_videos_answer_later_questions(model: ActionClip) -> None:
    videos = [frames_of(seed) for seed in range(3)]
    for video, encoded in zip(videos, model.encode_many(iter(videos)), strict=True):
        assert isinstance(encoded, EncodedVideo)
        answer = model.predict(encoded, LABELS)
        np.testing.assert_array_equal(answer.probabilities, model.classify(video, LABELS).probabilities)


def test_a_closed_set_takes_several_videos_too(tmp_path: Path) -> None:
    model = TimeSformer(save_closed_model(random_closed_model(1, T), tmp_path / "closed"), cache=False)
    videos = [frames_of(seed) for seed in range(3)]
    answers = list(model.classify_many(videos, top_k=1))
    assert [len(answer.labels) for answer in answers if isinstance(answer, Prediction)] == [len(CLASSES)] * 3
    pairs = dict(model.classify_as_completed(videos, top_k=1))
    for number, video in enumerate(videos):
        pair = pairs[number]
        assert isinstance(pair, Prediction)
        np.testing.assert_array_equal(pair.probabilities, model.classify(video).probabilities)


def test_a_video_that_fails_stands_in_its_place_and_stops_nothing(model: ActionClip, tmp_path: Path) -> None:
    def broken() -> Iterator[NDArray[np.uint8]]:
        yield frames_of(1)[0]
        raise KeyError("a fault in the caller's own generator")

    text = tmp_path / "text.mp4"
    text.write_text("no video")
    entry: Any = next(os.scandir(os.fsencode(text.parent)))  # its path is bytes
    videos: list[Any] = [frames_of(1), tmp_path / "missing.mp4", text, broken(), 7, frames_of(2), "https://u:p@[::1"]
    results = list(model.classify_many([*videos, entry], LABELS))
    assert [isinstance(result, Failure) for result in results] == [False, True, True, True, True, False, True, True]
    failures = {number: result for number, result in enumerate(results) if isinstance(result, Failure)}
    assert "missing.mp4" in str(failures[1].error)
    assert failures[1].video == str(tmp_path / "missing.mp4")
    assert failures[1].to_dict() == {"video": failures[1].video, "error": str(failures[1].error)}
    assert "KeyError" in str(failures[3].error)
    assert failures[3].video is failures[4].video is None
    assert failures[7].video == failures[2].video
    assert "p@" not in f"{failures[6].video} {failures[6].error}"
    assert isinstance(failures[3].error.__cause__, KeyError)


def test_pairs_come_as_they_finish(model: ActionClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.models.engine, "_STALLED_S", 0.1)
    gate = threading.Event()

    def slow() -> Iterator[NDArray[np.uint8]]:
        gate.wait(60)
        yield from frames_of(0)

    results = model.classify_as_completed([slow(), slow(), slow(), *map(frames_of, range(1, 9))], LABELS)
    early = [next(results)[0] for _ in range(8)]
    assert sorted(early) == list(range(3, 11))
    gate.set()
    assert sorted(number for number, _ in results) == [0, 1, 2]


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="threads have no clocks here")
def test_a_video_that_takes_long_to_compute_does_not_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.models.engine, "_STALLED_S", 0.02)
    at_once = []
    active = 0
    lock = threading.Lock()

    def compute(number: int) -> int:
        nonlocal active
        with lock:
            active += 1
            at_once.append(active)
        began = time.thread_time()
        while time.thread_time() - began < 0.1:
            pass
        with lock:
            active -= 1
        return number

    stages = Stages[int, int, int](compute, lambda _: [], lambda: None, Limits(workers=1, runs=1, items_per_run=1))
    assert [result for _, result in run(range(4), stages, ordered=True)] == [0, 1, 2, 3]
    assert max(at_once) == 1


def test_in_order_the_others_are_encoded_while_one_stalls(model: ActionClip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.models.engine, "_STALLED_S", 0.1)
    taken = []
    gate = threading.Event()

    def slow() -> Iterator[NDArray[np.uint8]]:
        gate.wait(60)
        yield from frames_of(0)

    def videos() -> Iterator[Any]:
        for number in range(40):
            taken.append(number)
            yield slow() if number == 0 else frames_of(number)

    results = model.classify_many(videos(), LABELS)
    first: list[Any] = []
    consumer = threading.Thread(target=lambda: first.append(next(results)))
    consumer.start()
    wait_until(lambda: len(taken) == 40)
    assert not first
    gate.set()
    consumer.join(60)
    expected = model.classify(frames_of(0), LABELS)
    np.testing.assert_array_equal(first[0].probabilities, expected.probabilities)
    assert len(list(results)) == 39


def test_videos_are_taken_a_bounded_number_ahead(model: ActionClip) -> None:
    taken = []

    def endless() -> Iterator[NDArray[np.uint8]]:
        for number in count():
            taken.append(number)
            yield frames_of(number % 7)

    results = model.classify_many(endless(), LABELS)
    assert taken == []
    assert not workers()
    assert len(list(islice(results, 3))) == 3
    time.sleep(0.5)
    assert len(taken) < 3 + 4 * (os.cpu_count() or 1) + 8


@pytest.mark.parametrize("method", ["classify_many", "classify_as_completed"])
def test_threads_end_when_the_results_are_no_longer_wanted(model: ActionClip, method: str) -> None:
    classify: Any = getattr(model, method)
    results = classify(map(frames_of, count()), LABELS)
    next(results)
    assert workers()
    results.close()
    wait_until(lambda: not workers())

    results = classify(map(frames_of, count()), LABELS)
    next(results)
    del results
    gc.collect()
    wait_until(lambda: not workers())

    assert len(list(model.classify_many(map(frames_of, range(4)), LABELS))) == 4
    wait_until(lambda: not workers())


def test_a_server_that_stalls_does_not_keep_a_thread(model: ActionClip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(action_clip.video.address, "URL_TIMEOUT_S", 600.0)
    over, stalled = threading.Event(), threading.Event()

    def stall() -> None:
        stalled.set()
        over.wait(120)

    with FaultServer() as server:
        server.add("/clip.gif", SAMPLE_VIDEO.read_bytes(), [Fault(halfway=stall)] * 3)
        results: Any = model.classify_as_completed([f"{server.url}/clip.gif", frames_of(1), frames_of(2)], LABELS)
        assert next(results)[0] != 0
        assert stalled.wait(60)
        results.close()
        try:
            wait_until(lambda: not workers())
        finally:
            over.set()


def test_what_the_iterable_raises_comes_after_the_results_before(model: ActionClip) -> None:
    def videos() -> Iterator[NDArray[np.uint8]]:
        yield frames_of(1)
        yield frames_of(2)
        raise ValueError("no more")

    results = model.classify_many(videos(), LABELS)
    assert isinstance(next(results), Prediction)
    assert isinstance(next(results), Prediction)
    with pytest.raises(ValueError, match="no more"):
        next(results)


def test_a_fault_of_the_model_is_raised(tmp_path: Path) -> None:
    folder = save_model(random_model(1, T, True), tmp_path / "model", frames=T)
    results = ActionClip(folder, cache=False).classify_many([frames_of(1)], LABELS)
    (folder / "fusion.onnx").write_bytes(b"no graph")
    with pytest.raises(ActionClipError, match=r"fusion\.onnx cannot be loaded"):
        next(results)
    wait_until(lambda: not workers())


def test_what_concerns_no_single_video_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_model(random_model(1, T, True), tmp_path / "model", frames=T)
    model = ActionClip(folder)
    bank = model.labels(LABELS)
    with monkeypatch.context() as patch:
        patch.setenv("ACTION_CLIP_CACHE_GB", "nan")
        with pytest.raises(ActionClipError, match="ACTION_CLIP_CACHE_GB"):
            next(model.classify_many([SAMPLE_VIDEO], bank))
    (folder / "fusion.onnx").write_bytes(b"no graph")
    with pytest.raises(ActionClipError, match=r"fusion\.onnx cannot be loaded"):
        next(model.classify_many([SAMPLE_VIDEO], bank))


def test_wrong_arguments_are_refused_at_once(model: ActionClip) -> None:
    wrong: list[Any] = ["clip.mp4", Path("clip.mp4"), 7]
    for videos in wrong:
        for method in (partial(model.classify_many, labels=LABELS), model.encode_many):
            with pytest.raises(ActionClipError, match="give a list of them"):
                method(videos)
    with pytest.raises(ActionClipError, match="labels"):
        model.classify_many([], [])
    with pytest.raises(ActionClipError, match="top_k"):
        model.classify_many([], LABELS, top_k=0)
    with pytest.raises(ActionClipError, match="sampling"):
        model.classify_many([], LABELS, sampling="best")
    with pytest.raises(ActionClipError, match="channels is 'hsv': choose rgb or bgr"):
        model.classify_many([], LABELS, channels="hsv")
    assert list(model.classify_many([], LABELS)) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_results_that_were_begun_before_a_fork_are_an_error_in_the_child(model: ActionClip) -> None:
    code = f"""
import os, sys
import numpy as np
from action_clip import ActionClip, ActionClipError
frames = np.zeros((8, 32, 32, 3), np.uint8)
with ActionClip("nano") as model:
    results = model.classify_many([frames] * 5, {LABELS!r})
    next(results)
    if (child := os.fork()) == 0:
        try:
            next(results)
        except ActionClipError as error:
            print(error, flush=True)
        os._exit(0 if len(list(model.classify_many([frames], {LABELS!r}))) == 1 else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(list(results)))
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    sentence = "these results were begun in another process: begin again in this one"
    assert process.stdout.splitlines() == [sentence, "0 4"]
    assert process.returncode == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_process_ends_although_a_video_never_comes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    code = f"""
from action_clip import ActionClip
videos = [{str(tmp_path / "pipe.mp4")!r}, {str(SAMPLE_VIDEO)!r}]
results = ActionClip("nano").classify_as_completed(videos, {LABELS!r})
print(next(results)[0])
results.close()
"""
    command = [sys.executable, "-c", f"import action_clip.models.engine as e; e._STALLED_S = 0.1\n{code}"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout, process.stderr) == (0, "1\n", "")


def test_no_graph_begins_to_run_while_python_exits() -> None:
    """Python 3.11 to 3.13 end other threads then, in the middle of C++ code, which aborts the process."""
    code = """
import atexit, itertools, time
begun = []

def look():
    count = len(begun)
    time.sleep(0.3)
    print(len(begun) - count)

atexit.register(look)  # called after the engine's own, which is registered later
from action_clip.models.engine import Limits, Ready, Stages, run

def prepare(number):
    time.sleep(5 if number == 1 else 0.001)
    return Ready(number)

def encode(batch):
    begun.append(batch)
    time.sleep(0.02)
    return batch

results = run(itertools.count(), Stages(prepare, encode, bool, Limits(2, 2, 1)), ordered=True)
next(results)
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout, process.stderr) == (0, "0\n", "")
