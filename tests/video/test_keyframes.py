"""Keyframes stand for the frames near them: which frames of the video they are, and what happens where they are few."""

from collections.abc import Callable
from pathlib import Path

import pytest
from make_videos import numbers_in, with_edits, write_numbered

import action_clip.video.strategies
from action_clip.video.reader import read_clip
from action_clip.video.sampling import Keyframes, make_sampler

keyframes = make_sampler("keyframes", 4, 0)
GROUPS = {"g": "10", "keyint_min": "10", "sc_threshold": "0", "bf": "3"}


@pytest.mark.parametrize("name", ["clip.mp4", "clip.ts"])
def test_a_short_video_with_too_few_keyframes(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = write_numbered(tmp_path / name, 60, options={"g": "40", "sc_threshold": "0"})
    assert numbers_in(read_clip(path, keyframes).frames) == [7, 22, 37, 52]
    # Each of these frames has a keyframe of its own.
    assert numbers_in(read_clip(path, Keyframes(lambda _: [3, 3, 50])).frames) == [0, 0, 40]
    assert not caplog.records


@pytest.mark.parametrize("name", ["clip.mp4", "clip.ts"])
def test_a_long_video_with_too_few_keyframes(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_numbered(tmp_path / name, 60, options={"g": "40", "sc_threshold": "0"})
    monkeypatch.setattr(action_clip.video.strategies, "SHORT_PIXELS", 60 * 160 * 96 - 1)
    clip = read_clip(path, keyframes)
    assert numbers_in(clip.frames) == list(clip.indices) == [0, 40, 40, 40]
    assert clip.times_s == pytest.approx([0, 1.6, 1.6, 1.6], abs=0.002)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: it has so few keyframes that 2 different frames are looked at instead of 4; the sampling "
        '"uniform" looks at all of them, but takes longer'
    ]


def edited(*edits: tuple[int, int]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        whole = write_numbered(folder / "whole.mp4", 120, options=GROUPS)
        return with_edits(whole, folder / "clip.mp4", edits)

    return make


def offset(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        start = {"output_ts_offset": "100"}
        return write_numbered(folder / name, 120, options=GROUPS, container_options=start)

    return make


def unmoved(name: str, codec: str, **options: str) -> Callable[[Path], Path]:
    return lambda folder: write_numbered(folder / name, 120, codec, options=options)


OPEN = "log-level=none:keyint=10:min-keyint=10:bframes=4:b-adapt=0:open-gop=1"


@pytest.mark.parametrize(
    ("make", "total"),
    [
        (edited((87, 33)), 87),
        (edited((90, 30)), 90),
        (edited((77, 0)), 77),
        (edited((50, 33)), 50),
        (edited((20, 0), (60, 60)), 80),
        (edited((25, 0), (53, 67)), 78),
        (edited((40, 80), (80, 0)), 120),
        (edited((25, -1), (120, 0)), 120),
        (edited((120, 0), (120, 0)), 240),
        (offset("clip.mp4"), 120),
        (offset("clip.mkv"), 120),
        (unmoved("clip.mp4", "libx265", **{"x265-params": OPEN}), 120),
        (unmoved("clip.mkv", "libx265", **{"x265-params": OPEN}), 120),
        (unmoved("clip.avi", "libx264", **GROUPS), 120),
        (unmoved("clip.avi", "mpeg4", bf="2", g="10"), 120),
        (unmoved("clip.mp4", "mpeg4", bf="2", g="10"), 120),
        (unmoved("clip.webm", "libvpx-vp9", **{"g": "10", "cpu-used": "8"}), 120),
    ],
)
def test_which_frames_of_the_video_keyframes_are(
    tmp_path: Path, make: Callable[[Path], Path], total: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path)
    monkeypatch.setattr(action_clip.video.strategies, "SHORT_PIXELS", 0)
    clip = read_clip(path, keyframes)
    every = read_clip(path, lambda count: list(range(count)))
    numbers = numbers_in(every.frames)
    assert len(set(clip.indices)) >= 3
    assert numbers_in(clip.frames) == [numbers[index] for index in clip.indices]
    assert clip.times_s == pytest.approx([every.times_s[index] for index in clip.indices], abs=0.002)
    assert clip.total_frames == every.total_frames == total
