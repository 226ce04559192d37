"""A video is encoded once: later answers come from the video bank, equal to the bit, as long as nothing has changed."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_models import random_closed_model, random_model, save_closed_model, save_model

import action_clip.models.video_encoder
from action_clip import ActionClip, EncodedVideo, Failure, Prediction, TimeSformer
from action_clip.commands.samples import SAMPLE_VIDEO
from action_clip.models.runtime.graph import Graph

LABELS = ["drinking", "riding a bicycle", "playing the drums"]
T = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_model(random_model(1, T, True), tmp_path / "model", frames=T)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACTION_CLIP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return Path(shutil.copy2(SAMPLE_VIDEO, tmp_path / "clip.mp4"))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the graphs that were run, but for texts."""
    names = []
    run = Graph.outputs

    def noting(self: Graph, rows: NDArray[Any], count: int) -> list[NDArray[np.float32]]:
        if self.path.stem != "text":
            names.append(self.path.stem)
        return run(self, rows, count)

    monkeypatch.setattr(Graph, "outputs", noting)
    return names


def same(one: Any, other: Any) -> None:
    assert isinstance(one, Prediction)
    assert isinstance(other, Prediction)
    np.testing.assert_array_equal(one.video_features, other.video_features)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.frames, other.frames)
    assert (one.video, one.duration_s, one.frame_indices, one.frame_times_s) == (
        other.video,
        other.duration_s,
        other.frame_indices,
        other.frame_times_s,
    )
    assert one.timings_s.keys() == other.timings_s.keys()


def test_the_second_answer_runs_no_graph(home: Path, folder: Path, clip: Path, ran: list[str]) -> None:
    first = ActionClip(folder).classify(clip, LABELS)
    assert ran == ["image", "fusion"]
    second = ActionClip(folder).classify(clip, LABELS)
    assert ran == ["image", "fusion"]
    same(first, second)
    assert second.timings_s["image"] == second.timings_s["fusion"] == second.timings_s["preprocess"] == 0
    assert second.timings_s["decode"] > 0
    same(first, ActionClip(folder, cache=False).classify(clip, LABELS))
    assert len(ran) == 4


def test_several_videos_are_known_from_one_and_one_from_several(
    home: Path, folder: Path, clip: Path, tmp_path: Path, ran: list[str]
) -> None:
    other = Path(shutil.copy2(clip, tmp_path / "other.mp4"))
    os.utime(other, (1, 1))
    first = list(ActionClip(folder).classify_many([clip, other], LABELS))
    assert sorted(ran) == ["fusion", "fusion", "image", "image"]
    again = list(ActionClip(folder).classify_many([clip, other, "missing.mp4"], LABELS))
    one = [ActionClip(folder).classify(path, LABELS, thumbnails=False) for path in (clip, other)]
    assert len(ran) == 4
    for number in range(2):
        same(first[number], again[number])
        same(first[number], one[number])
    assert isinstance(again[2], Failure)


def test_a_new_process_knows_all_videos_of_a_short_loop(home: Path, folder: Path, tmp_path: Path) -> None:
    paths = [str(shutil.copy(SAMPLE_VIDEO, tmp_path / f"{number}.gif")) for number in range(4)]
    for number, path in enumerate(paths):
        os.utime(path, (number, number))
    code = f"""
from action_clip import ActionClip
model = ActionClip({str(folder)!r})
print(sum(model.classify(path, {LABELS!r}).timings_s["image"] > 0 for path in {paths[:2]!r}))
print(sum(each.timings_s["image"] > 0 for each in model.classify_many({paths!r}, {LABELS!r})))
"""
    for expected in ("2\n2\n", "0\n0\n"):
        process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
        assert (process.stdout, process.stderr) == (expected, "")


def test_frame_features_are_kept(home: Path, folder: Path, clip: Path) -> None:
    first, second = (ActionClip(folder).encode_video(clip) for _ in range(2))
    assert first.frame_features is not None
    assert second.frame_features is not None
    assert first.frame_features.shape[0] == T
    np.testing.assert_array_equal(first.frame_features, second.frame_features)
    np.testing.assert_array_equal(first.features, second.features)


def test_a_closed_set_knows_its_videos(home: Path, tmp_path: Path, clip: Path, ran: list[str]) -> None:
    closed = save_closed_model(random_closed_model(1, T), tmp_path / "closed")
    first, second = (TimeSformer(closed).classify(clip) for _ in range(2))
    same(first, second)
    assert ran == ["video"]


Change = Callable[[Path, Path], dict[str, Any]]


def with_another_time(clip: Path, folder: Path) -> dict[str, Any]:
    os.utime(clip, (1, 1))
    return {}


def with_other_bytes(clip: Path, folder: Path) -> dict[str, Any]:
    facts = clip.stat()
    content = bytearray(clip.read_bytes())
    content[-1] ^= 1
    clip.write_bytes(content)
    os.utime(clip, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    return {}


def with_another_model(clip: Path, folder: Path) -> dict[str, Any]:
    save_model(random_model(2, T, True), folder, frames=T)
    return {}


def with_another_sampling(clip: Path, folder: Path) -> dict[str, Any]:
    return {"sampling": "random", "seed": 3}


@pytest.mark.parametrize(
    "change", [with_another_time, with_other_bytes, with_another_model, with_another_sampling], ids=lambda f: f.__name__
)
def test_what_has_changed_is_encoded_again(
    home: Path, folder: Path, clip: Path, ran: list[str], change: Change
) -> None:
    ActionClip(folder).classify(clip, LABELS)
    options = change(clip, folder)
    changed = ActionClip(folder).classify(clip, LABELS, **options)
    assert len(ran) == 4
    same(changed, ActionClip(folder, cache=False).classify(clip, LABELS, **options))


def test_the_seed_counts_for_random_frames_alone(home: Path, folder: Path, clip: Path, ran: list[str]) -> None:
    for sampling, runs in (("uniform", 1), ("random", 2)):
        ran.clear()
        for seed in (1, 2, 1, 2):
            ActionClip(folder).classify(clip, LABELS, sampling=sampling, seed=seed)
        assert ran == ["image", "fusion"] * runs


def test_a_moved_file_is_known_under_its_new_name(home: Path, folder: Path, clip: Path, ran: list[str]) -> None:
    first = ActionClip(folder).classify(clip, LABELS)
    moved = clip.rename(clip.with_name("moved.mp4"))
    second = ActionClip(folder).classify(moved, LABELS)
    assert len(ran) == 2
    assert (first.video, second.video) == (str(clip), str(moved))


def test_another_ending_is_another_video(home: Path, folder: Path, tmp_path: Path) -> None:
    """FFmpeg takes JPEG pictures for a video in a file that ends in .mjpeg, and for one picture in one in .jpg."""
    content = io.BytesIO()
    for shade in (0, 90, 180, 255):
        Image.new("RGB", (64, 64), (shade, 255 - shade, 90)).save(content, "jpeg")
    video = tmp_path / "clip.mjpeg"
    video.write_bytes(content.getvalue())
    assert ActionClip(folder).classify(video, LABELS).frame_indices == (0, 1, 2, 3)
    picture = video.rename(tmp_path / "clip.JPG")
    known, anew = (ActionClip(folder, cache=cache).classify(picture, LABELS) for cache in (True, False))
    assert anew.frame_indices == (0, 0, 0, 0)
    np.testing.assert_array_equal(known.video_features, anew.video_features)


def test_another_decoder_decodes_again(
    home: Path, folder: Path, clip: Path, ran: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ActionClip(folder).classify(clip, LABELS)
    spec = av.__spec__
    assert spec is not None
    (tmp_path / "about.py").write_text('__version__ = "1.2.3"')
    with monkeypatch.context() as patch:
        patch.setattr(spec, "origin", str(tmp_path / "__init__.py"))
        ActionClip(folder).classify(clip, LABELS)
    assert len(ran) == 4
    monkeypatch.setenv("ACTION_CLIP_MAX_PIXELS", "1000000")  # of larger frames their neighbours are taken
    ActionClip(folder).classify(clip, LABELS)
    assert len(ran) == 6


def test_a_model_that_was_exported_again_while_another_is_in_use(home: Path, folder: Path, clip: Path) -> None:
    """The answers of the one that has begun to run are not kept as those of the other."""
    old = ActionClip(folder)
    old.encode_video(np.zeros((T, 40, 40, 3), np.uint8))
    save_model(random_model(2, T, True), folder, frames=T)
    old.encode_video(clip)
    known, anew = (ActionClip(folder, cache=cache).encode_video(clip) for cache in (True, False))
    np.testing.assert_array_equal(known.features, anew.features)


def test_a_file_that_changes_while_it_is_read_is_not_kept(
    home: Path, folder: Path, clip: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = clip.stat()
    decode = action_clip.models.video_encoder.VideoEncoder.decode

    def changing(self: Any, source: Any) -> Any:
        decoded = decode(self, source)
        os.utime(clip, (2, 2))
        return decoded

    with monkeypatch.context() as patch:
        patch.setattr(action_clip.models.video_encoder.VideoEncoder, "decode", changing)
        ActionClip(folder).classify(clip, LABELS)
    os.utime(clip, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    ActionClip(folder).classify(clip, LABELS)
    assert len(ran) == 4


def test_frames_and_pipes_are_not_kept(home: Path, folder: Path, ran: list[str]) -> None:
    frames = np.zeros((T, 40, 40, 3), np.uint8)

    def images() -> Iterator[NDArray[np.uint8]]:
        yield from frames

    for _ in range(2):
        for video in (frames, list(frames), images()):
            assert isinstance(ActionClip(folder).encode_video(video), EncodedVideo)
    assert len(ran) == 12
