"""Live streams without a network: files at their own rate, what cannot be watched, and connecting again."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
from make_videos import number_in, numbered, write_numbered, write_video
from servers import beside, files, serving, whole

from action_clip.errors import ActionClipError
from action_clip.system.terminal import LogFormatter
from action_clip.video.live import camera_of, containers, is_live, stream
from action_clip.video.live.camera import CameraFeed
from action_clip.video.live.feed import AS_THEY_COME, BrokenError, LiveFrame, Pace
from action_clip.video.live.opening import open_feed
from action_clip.video.live.stream import GridFrame, LiveStream
from action_clip.video.reader import VideoReader
from action_clip.video.source import VideoSource

STEP_S = 0.125
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def _never_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is, no frame is passed over."""
    monkeypatch.setattr(containers, "MOST_LATE_S", 1e9)


class Frames:
    """Receives the frames of a stream."""

    def __init__(self) -> None:
        self.frames: list[GridFrame] = []
        self.error: BaseException | None = None
        self.duration_s = 0.0

    def add(self, frame: GridFrame) -> None:
        self.frames.append(frame)

    def end(self, error: BaseException | None, duration_s: float) -> None:
        self.error, self.duration_s = error, duration_s

    @property
    def by_step(self) -> dict[int, int]:
        return {step: frame.index for frame in self.frames for step in frame.steps}


def watched(source: str | Path | int, step_s: float = STEP_S) -> tuple[Frames, LiveStream]:
    """What a stream gives until its end."""
    frames = Frames()
    live = LiveStream(source, step_s, lambda picture: picture, frames)
    live.start()
    live.wait_for_start()
    live.join(PATIENCE_S)
    return frames, live


@pytest.mark.parametrize("times", [None, [0, 40, 400, 410, 420, 430, 440, 450, 930, 1000]])
def test_a_file_has_the_frames_that_are_shown_in_the_middle_of_steps(tmp_path: Path, times: list[int] | None) -> None:
    path = write_numbered(tmp_path / "a.mkv", 25 if times is None else len(times), times=times)
    began = monotonic()
    frames, _ = watched(path)
    took_s = monotonic() - began
    with VideoReader(path) as video:
        steps = [step for step in range(20) if (step + 0.5) * STEP_S < frames.duration_s]
        expected = video.shown_at((np.array(steps) + 0.5) * STEP_S).tolist()
    assert frames.by_step == dict(zip(steps, expected, strict=True))
    assert [number_in(frame.pixels) for frame in frames.frames] == [frame.index for frame in frames.frames]
    assert frames.error is None
    assert took_s >= frames.frames[-1].time_s  # it is not faster than the video


def test_the_newest_picture(tmp_path: Path) -> None:
    _, live = watched(write_numbered(tmp_path / "a.mp4", 9))
    picture = live.picture()
    assert picture is not None
    assert number_in(picture) == 8


def test_times_on_the_wall_go_on_as_the_video_does(tmp_path: Path) -> None:
    frames, _ = watched(write_numbered(tmp_path / "a.mp4", 20))
    first, last = frames.frames[0], frames.frames[-1]
    assert first.time.tzinfo is not None
    assert (last.time - first.time).total_seconds() == pytest.approx(last.time_s - first.time_s, abs=0.02)
    assert last.due - first.due == pytest.approx(last.time_s - first.time_s, abs=0.001)


def test_frames_that_would_be_late_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding goes on with a keyframe: here all are late, but for the first, which is due when it comes."""
    monkeypatch.setattr(containers, "MOST_LATE_S", -1e9)
    with pytest.raises(ActionClipError, match="has no picture that can be decoded"):
        watched(write_numbered(tmp_path / "a.mp4", 9))


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [camera_of(name) for name in (0, "0", "12", "/dev/video3", "1234", "0.mp4", "²")] == [
        0, 0, 12, "/dev/video3", None, None, None,
    ]  # fmt: skip
    Path("12").touch()
    assert camera_of("12") is None
    assert [is_live(name) for name in ("RTSP://a/b", "rtsps://a", "rtmp://a", "rtmps://a", "udp://@:1", " 0 ")] == [
        *[True] * 5, False,
    ]  # fmt: skip
    assert not any(map(is_live, ("http://a/b", "rtp://a", "file:///a", "rtsp:a", "clip.mp4")))


@pytest.mark.parametrize("camera", [99, -1, "/dev/video99"])
def test_a_camera_that_is_not_there(capfd: pytest.CaptureFixture[str], camera: int | str) -> None:
    with pytest.raises(ActionClipError, match=rf"the camera {camera} cannot be opened: check that it is there"):
        open_feed(camera)
    assert capfd.readouterr() == ("", "")


def test_numbers_of_cameras_name_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """To OpenCV, 200 is camera 0 by V4L2."""
    asked: list[tuple[object, ...]] = []
    none = cv2.VideoCapture()

    def capture(*arguments: object) -> cv2.VideoCapture:
        asked.append(arguments)
        return none

    monkeypatch.setattr(cv2, "VideoCapture", capture)
    for camera in (99, 200):
        with pytest.raises(ActionClipError, match=rf"the camera {camera} cannot be opened"):
            CameraFeed(camera)
    assert asked == [(99,), ()]


def test_pictures_of_a_camera_are_rgb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV's capture of a file, which has an end, in place of a camera's."""
    red = np.full((48, 64, 3), (200, 10, 10), np.uint8)
    path = write_video(tmp_path / "a.avi", [red] * 3, "mjpeg", pix_fmt="yuvj444p")
    capture = cv2.VideoCapture(str(path))
    monkeypatch.setattr(cv2, "VideoCapture", lambda camera: capture)
    frames = CameraFeed(0).frames(lambda pts_s, arrived: arrived)
    found = [next(frames) for _ in range(3)]
    assert [frame.pts_s for frame in found] == [None] * 3
    assert np.abs(found[1].convert().astype(int) - red).max() < 12
    with pytest.raises(BrokenError, match="gives no picture"):
        next(frames)


@pytest.mark.skipif(os.name == "nt", reason="no named pipes")
def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ActionClipError, match="is a pipe or a device, which cannot be watched"):
        watched(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.mp4", "the video missing.mp4 does not exist"),
        (".", r"\. is a folder, not a video"),
        (
            "rtsp://me:secret@127.0.0.1:1/a",
            r"rtsp://me:\*\*\*@127\.0\.0\.1:1/a could not be opened \(Connection refused",
        ),
        ("rtmp://127.0.0.1:1/a", "could not be opened"),
        ("http://me:secret@127.0.0.1:1/a", r"http://me:\*\*\*@127\.0\.0\.1:1/a could not be read \(the server cannot"),
    ],
)
def test_what_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ActionClipError, match=message) as caught:
        watched(name)
    assert "secret" not in f"{caught.value}{caught.value.__cause__}"


@pytest.mark.parametrize("name", ["rtsp://a/b", "https://a/b"])
def test_nothing_connects_where_it_is_forbidden(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("ACTION_CLIP_OFFLINE", "1")
    with pytest.raises(ActionClipError, match="ACTION_CLIP_OFFLINE forbids connecting"):
        watched(name)


@pytest.mark.parametrize("named", ["file:///etc/hostname", "rtsp://127.0.0.1:{}/a", "rtmp://127.0.0.1:{}/a"])
@pytest.mark.parametrize("is_ended", [False, True])
def test_nothing_but_http_is_opened_for_a_playlist(named: str, is_ended: bool) -> None:
    end = "#EXT-X-ENDLIST\n" if is_ended else ""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        name = named.format(listener.getsockname()[1])
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{name}\n{end}"
        with serving(whole(playlist.encode())) as (address, _), pytest.raises(ActionClipError, match="could not be"):
            watched(address)
        with pytest.raises(BlockingIOError):  # nobody came
            listener.accept()


def test_one_variant_of_a_playlist_is_loaded(tmp_path: Path) -> None:
    """Of the others, what tells which one is the best."""
    segments = "".join(f"#EXT-X-DISCONTINUITY\n#EXTINF:0.36,\n{{0}}{number}.ts\n" for number in range(6))
    contents = {"play": b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100\nx.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=200\ny.m3u8\n"}
    for variant in "xy":
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n{segments.format(variant)}#EXT-X-ENDLIST\n"
        contents[f"{variant}.m3u8"] = playlist.encode()
        for number in range(6):
            path = write_numbered(tmp_path / f"{variant}{number}.ts", 9)
            contents[path.name] = path.read_bytes()
    asked: list[str] = []
    answer = files(contents)

    def count(handler: Any) -> None:
        asked.append(handler.path)
        answer(handler)

    with serving(count) as (address, _):
        frames, _ = watched(beside(address, "play"))
    assert len(frames.frames) > 6
    assert len([path for path in asked if path.endswith("5.ts")]) == 1


def test_what_has_a_length_is_a_file(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "a.mp4", 13)
    with serving(whole(path.read_bytes())) as (address, _):
        frames, _ = watched(address)
    assert [number_in(frame.pixels) for frame in frames.frames] == [1, 4, 7, 10]


def test_a_page_is_no_stream() -> None:
    page = b"<html>a page</html>"
    with serving(whole(page)) as (address, _), pytest.raises(ActionClipError, match="could not be read"):
        watched(address)


def test_silence_is_noticed_though_ffmpeg_returns_what_it_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time in which nothing came FFmpeg returns a packet that it had, and then would wait once more."""
    path = write_numbered(tmp_path / "a.mkv", 3)
    now = [100.0]
    asked: list[int] = []
    monkeypatch.setattr(containers, "monotonic", lambda: now[0])
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux() if packet.size]

        def demux() -> Iterator[Any]:
            for number, packet in enumerate(packets):
                asked.append(number)
                now[0] += 10.5 if number == 1 else 0.5
                yield packet

        stand_in = SimpleNamespace(demux=demux, format=container.format)
        video: Any = SimpleNamespace(
            container=stand_in, stream=container.streams.video[0], source=VideoSource("camera"), decode=lambda _: []
        )
        feed = containers.ContainerFeed(video, ExitStack(), AS_THEY_COME, has_end=False, silence_s=10.0)
        feed.join(PATIENCE_S)
        with pytest.raises(BrokenError, match="no data for 10 s"):
            list(feed.frames(lambda pts_s, arrived: arrived))
        feed.close()
    assert asked == [0, 1]


class Breaking:
    """A feed of some frames, which then breaks."""

    pace: Pace = AS_THEY_COME

    def __init__(self, count: int, arrivals: Iterator[float]) -> None:
        self._count = count
        self._arrivals = arrivals

    def frames(self, due: Any) -> Iterator[LiveFrame]:
        for number in range(self._count):
            yield LiveFrame(lambda number=number: numbered(number), None, next(self._arrivals))  # type: ignore[misc]
        raise BrokenError("the cable was pulled")

    def close(self) -> None:
        pass

    def join(self, timeout_s: float) -> None:
        pass


def test_it_connects_again_with_growing_pauses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Three frames, nothing three times, four frames, then nothing until it is stopped."""
    arrivals = iter([100.0, 100.1, 100.2, 130.0, 130.1, 130.2, 130.3])
    opened: list[int] = []
    frames = Frames()
    live = LiveStream("rtsp://me:secret@camera/1?token=hidden", 0.1, lambda picture: picture, frames)

    def open_next(source: str) -> Breaking:
        opened.append(len(opened))
        if len(opened) in (2, 3):
            raise ActionClipError("the stream rtsp://me:***@camera/1?token=*** could not be opened (no route)")
        if len(opened) == 7:
            live.stop()
        return Breaking({1: 3, 5: 4}.get(len(opened), 0), arrivals)

    monkeypatch.setattr(stream, "open_feed", open_next)
    monkeypatch.setattr(stream, "PAUSES_S", (0.01, 0.02, 0.03))
    waits: list[float | None] = []

    def wait(pause_s: float | None = None) -> bool:
        waits.append(pause_s)
        return live._stop.is_set()

    monkeypatch.setattr(live._stop, "wait", wait)
    live.start()
    live.join(PATIENCE_S)
    assert waits == [0.01, 0.02, 0.03, 0.03, 0.01, 0.02]
    said = [LogFormatter().format(record) for record in caplog.records]  # as the command prints them
    assert said[0] == "rtsp://me:***@camera/1?token=***: the cable was pulled; connecting again in 0 s"
    assert said[1] == (
        "the stream rtsp://me:***@camera/1?token=*** could not be opened (no route); connecting again in 0 s"
    )
    assert said[4] == "rtsp://me:***@camera/1?token=***: connected again"
    assert len(said) == 7
    assert "secret" not in caplog.text
    # The time between is nobody's, and the clock goes on.
    assert [(frame.index, frame.steps) for frame in frames.frames] == [
        (0, range(0, 1)), (1, range(1, 2)), (2, range(2, 3)),
        (3, range(300, 301)), (4, range(301, 302)), (5, range(302, 303)), (6, range(303, 304)),
    ]  # fmt: skip


def test_a_stream_that_stalls_does_not_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The frame before a pause stands for two seconds of it."""
    arrivals = iter([100.0, 100.5, 101.0, 131.0, 131.5])
    frames = Frames()
    live = LiveStream(0, 0.5, lambda picture: picture, frames)
    feeds = iter([Breaking(5, arrivals)])

    def open_next(source: object) -> Breaking:
        feed = next(feeds, None)
        if feed is None:
            live.stop()
            raise ActionClipError("gone")
        return feed

    monkeypatch.setattr(stream, "open_feed", open_next)
    monkeypatch.setattr(stream, "PAUSES_S", (0.01,))
    live.start()
    live.join(PATIENCE_S)
    steps = {frame.index: frame.steps for frame in frames.frames}
    assert steps[2] == range(2, 6)
    assert steps[3] == range(62, 63)
