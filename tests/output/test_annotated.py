"""Annotated videos: each is decoded again, and compared with the video that it was made of."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream
from fault_server import FaultServer
from make_videos import break_packets, moving, numbered, write_video
from numpy.typing import NDArray
from PIL import Image

from action_clip.errors import ActionClipError
from action_clip.models.prediction import Prediction, Window
from action_clip.output.annotated import TimedLabels, save_video
from action_clip.output.overlay import Overlay
from action_clip.output.saving import VIDEOS
from action_clip.video.reader import VideoReader

Pictures = NDArray[np.uint8]
SIZE = (320, 240)
LABELS = ("running", "走路", "مشي (אב)")
KINDS = pytest.mark.parametrize("ending", VIDEOS)


def prediction(labels: Sequence[str] = LABELS, best: int = 0, none: bool = False) -> Prediction:
    """The label at the place `best` has 0.7, the others share the rest."""
    probabilities = np.full(len(labels), 0.3 / max(len(labels) - 1, 1))
    probabilities[best] = 0.7
    return Prediction(
        labels=tuple(labels),
        probabilities=probabilities,
        similarities=probabilities,
        top_k=5,
        video_features=np.zeros(4, np.float32),
        frame_indices=(0,),
        model="nano",
        video="clip.mp4",
        duration_s=4.0,
        frame_times_s=(0.0,),
        frames=np.zeros((0, 0, 0, 3), np.uint8),
        timings_s={},
        none_index=len(labels) - 1 if none else None,
    )


def windows(*best: int, length_s: float = 2.0, stride_s: float = 1.0) -> list[Window]:
    return [
        Window(place * stride_s, place * stride_s + length_s, prediction(best=label))
        for place, label in enumerate(best)
    ]


def large(count: int, width: int = SIZE[0], height: int = SIZE[1]) -> list[Pictures]:
    return [numbered(number, width, height) for number in range(count)]


def frames(path: Path) -> Pictures:
    with VideoReader(path) as video:
        return video.frames_at(range(len(video))).frames


def times(path: Path) -> list[float]:
    with VideoReader(path) as video:
        return [*video.times_s, video.duration_s]


def drawn(picture: Pictures, answer: Prediction) -> Pictures:
    expected = picture.copy()
    Overlay(picture.shape[1], picture.shape[0]).draw(expected, answer.ranked)
    return expected


def difference(one: Pictures, other: Pictures) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())


def sound(path: Path) -> list[tuple[str, list[bytes], list[Fraction]]]:
    """Of each track the codec, its packets and their times."""
    found = []
    with av.open(str(path)) as container:
        count = len(container.streams.audio)
    for number in range(count):
        with av.open(str(path)) as container:
            track = container.streams.audio[number]
            packets = [packet for packet in container.demux(track) if packet.size]
            unit = Fraction(track.time_base.numerator, track.time_base.denominator) if track.time_base else Fraction(0)
            moments = [packet.pts * unit for packet in packets if packet.pts is not None]
            found.append((track.codec.canonical_name, [bytes(packet) for packet in packets], moments))
    return found


def samples(path: Path, number: int = 0) -> NDArray[np.float32]:
    """The sound of a track, in mono, at 8000 samples a second."""
    resampler = av.AudioResampler("fltp", "mono", 8000)
    pieces = []
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.audio[number]):
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
    return np.concatenate(pieces)


def with_sound(
    path: Path, *codecs: str, count: int = 50, seconds: float = 2.0, rate: int = 44_100, layout: str = "mono"
) -> Path:
    """A video of so many frames at 25 a second, with a tone in each track, another pitch in each."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=25)
        picture.width, picture.height = SIZE
        picture.pix_fmt = "yuv420p"
        tracks = []
        for codec in codecs:
            track = container.add_stream(codec, rate=48_000 if codec == "libopus" else rate, layout=layout)
            assert isinstance(track, AudioStream)
            track.metadata["language"] = "nor"
            tracks.append(track)
        for number, pixels in enumerate(large(count)):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(picture.encode(frame))
        for place, track in enumerate(tracks):
            moments = np.arange(int(seconds * track.rate)) / track.rate
            tone = (np.sin(moments * 2 * np.pi * 300 * (place + 1)) * 0.4).astype(np.float32)
            tones = np.repeat(tone[None], track.channels, axis=0)
            piece = av.AudioFrame.from_ndarray(tones, "fltp", layout)
            piece.sample_rate, piece.pts, piece.time_base = track.rate, 0, Fraction(1, track.rate)
            container.mux(track.encode(piece))
            container.mux(track.encode(None))
        container.mux(picture.encode(None))
    return path


@KINDS
def test_every_frame_has_the_labels_and_keeps_its_time(tmp_path: Path, ending: str) -> None:
    source = write_video(tmp_path / "clip.mp4", large(30))
    target = tmp_path / f"out{ending}"
    target.write_bytes(b"old")
    save_video(target, source, prediction())
    before, after = frames(source), frames(target)
    assert len(after) == 30
    for number in range(30):
        expected = drawn(before[number], prediction())
        assert difference(after[number], expected) < 2.5
        assert difference(after[number][:100, :200], before[number][:100, :200]) > 20
    assert times(target) == pytest.approx(times(source), abs=0.0051)
    with av.open(str(target)) as container:
        assert container.streams.video[0].average_rate == 25
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", f"out{ending}"]


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".webm", ".gif"])
def test_a_variable_frame_rate_is_kept(tmp_path: Path, ending: str) -> None:
    moments = [0, 40, 80, 500, 520, 1500, 1540]
    source = write_video(tmp_path / "clip.mkv", large(7), times=moments)
    target = tmp_path / f"out{ending}"
    save_video(target, source, prediction())
    assert times(target)[:-1] == [moment / 1000 for moment in moments]


def test_times_are_exact_where_the_container_has_the_unit(tmp_path: Path) -> None:
    source = write_video(tmp_path / "clip.mp4", large(20), rate=30, options={"bf": "2"})
    save_video(tmp_path / "out.mp4", source, prediction())
    assert times(tmp_path / "out.mp4") == times(source)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].start_time == 0


def test_frames_of_one_moment_get_moments_of_their_own(tmp_path: Path) -> None:
    source = write_video(tmp_path / "clip.mkv", large(9), times=[0, 1, 2, 3, 4, 5, 6, 7, 50])
    save_video(tmp_path / "out.gif", source, prediction())
    assert times(tmp_path / "out.gif")[:-1] == [0, 0.01, 0.05]
    source = write_video(tmp_path / "quick.mkv", large(9), rate=4000)  # four frames a millisecond, its unit
    assert len(set(times(source)[:-1])) < 9
    save_video(tmp_path / "out.mp4", source, prediction())
    assert times(tmp_path / "out.mp4")[:-1] == [number / 1000 for number in range(9)]


@KINDS
def test_each_frame_shows_the_window_whose_middle_is_nearest(tmp_path: Path, ending: str) -> None:
    source = write_video(tmp_path / "clip.mp4", large(40), rate=10)
    target = tmp_path / f"out{ending}"
    save_video(target, source, windows(0, 1, 2))  # their middles are 1, 2 and 3 s
    before, after = frames(source), frames(target)
    for number in range(40):
        nearest = 0 if number < 15 else 1 if number < 25 else 2
        likeness = [difference(after[number], drawn(before[number], prediction(best=best))) for best in range(3)]
        assert int(np.argmin(likeness)) == nearest, number


def test_the_nearest_window_is_found_at_any_time() -> None:
    labels = TimedLabels(windows(0, 1, 2))
    moments = {-1.0: 0, 0.0: 0, 1.49: 0, 1.51: 1, 2.4: 1, 2.6: 2, 99.0: 2}
    assert {moment: labels.at(moment)[0].index for moment in moments} == moments
    with pytest.raises(ActionClipError, match="there are no windows"):
        TimedLabels([])


def test_none_of_these_is_shown_like_a_label(tmp_path: Path) -> None:
    source = write_video(tmp_path / "clip.mp4", large(3))
    answer = prediction(("running", "none of these"), best=1, none=True)
    save_video(tmp_path / "out.mp4", source, answer)
    assert difference(frames(tmp_path / "out.mp4")[1], drawn(frames(source)[1], answer)) < 2


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".webm"])
@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_video_looks_as_before(tmp_path: Path, ending: str, rotation: int) -> None:
    source = write_video(tmp_path / "clip.mp4", large(5), rotation=rotation)
    target = tmp_path / f"out{ending}"
    save_video(target, source, prediction())
    before = frames(source)
    assert before.shape[1:3] == ((320, 240) if rotation != 180 else (240, 320))
    assert difference(frames(target)[2], drawn(before[2], prediction())) < 2.5


def anamorphic(path: Path, *, rotation: int | None = None) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 240, 240, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for number in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(number, 240, 240), "rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("ending", "rotation", "stored", "aspect"),
    [
        (".mp4", None, (240, 240), Fraction(4, 3)),
        (".mkv", None, (240, 240), Fraction(4, 3)),
        (".mp4", 90, (240, 320), Fraction(1)),
        (".webm", None, (320, 240), Fraction(1)),
        (".gif", None, (320, 240), Fraction(1)),
    ],
)
def test_the_shape_of_pixels_is_kept(
    tmp_path: Path, ending: str, rotation: int | None, stored: tuple[int, int], aspect: Fraction
) -> None:
    source = anamorphic(tmp_path / "clip.mp4", rotation=rotation)
    target = tmp_path / f"out{ending}"
    save_video(target, source, prediction())
    with av.open(str(target)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == stored
        assert Fraction(str(stream.sample_aspect_ratio or 1)) in (aspect, 0)
    before, after = frames(source), frames(target)
    assert before.shape[1:3] == ((320, 240) if rotation else (240, 320))
    assert difference(after[2], drawn(before[2], prediction())) < 6


@KINDS
@pytest.mark.parametrize("size", [(161, 97), (1, 1), (16, 16), (2, 300)])
def test_any_size_is_kept(tmp_path: Path, ending: str, size: tuple[int, int]) -> None:
    width, height = size
    picture = np.full((height, width, 3), (200, 60, 20), np.uint8)
    source = write_video(tmp_path / "clip.mkv", [picture] * 3, "ffv1", pix_fmt="bgr0")
    target = tmp_path / f"out{ending}"
    save_video(target, source, prediction())
    found = frames(target)
    assert found.shape == (3, height, width, 3)
    assert difference(found[1], drawn(picture, prediction())) < 12


def test_high_dynamic_range_is_written_as_it_is_shown(tmp_path: Path) -> None:
    source = tmp_path / "clip.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p10le"
        stream.codec_context.color_trc, stream.codec_context.color_primaries = 16, 9
        stream.codec_context.colorspace = 9
        for _ in range(3):
            picture = np.full((96, 160, 3), 30_000, np.uint16)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb48le")))
        container.mux(stream.encode(None))
    save_video(tmp_path / "out.mp4", source, prediction())
    assert difference(frames(tmp_path / "out.mp4")[1], drawn(frames(source)[1], prediction())) < 3
    with av.open(str(tmp_path / "out.mp4")) as container:
        (frame, *_) = container.decode(video=0)
        assert frame.format.name == "yuv420p"
        assert (frame.color_trc, frame.color_primaries, frame.colorspace) == (1, 1, 1)


@pytest.mark.parametrize(
    ("ending", "name", "codec"),
    [
        (".mp4", "clip.mp4", "aac"),
        (".mp4", "clip.mkv", "libopus"),
        (".mkv", "clip.mp4", "aac"),
        (".mkv", "clip.mkv", "flac"),
        (".webm", "clip.webm", "libopus"),
    ],
)
def test_sound_is_copied_packet_by_packet(tmp_path: Path, ending: str, name: str, codec: str) -> None:
    source = with_sound_in(tmp_path / name, codec)
    target = tmp_path / f"out{ending}"
    save_video(target, source, prediction())
    (before,), (after,) = sound(source), sound(target)
    assert after[:2] == before[:2]
    gaps = [float(moment - after[2][0]) for moment in after[2]]
    assert gaps == pytest.approx([float(moment - before[2][0]) for moment in before[2]], abs=0.0011)
    assert len(frames(target)) == 50
    assert together(target) == pytest.approx(together(source), abs=0.025)  # some write that sound begins before 0


def with_sound_in(path: Path, *codecs: str) -> Path:
    """As `with_sound`; WebM, which cannot hold H.264, is made of it."""
    if path.suffix != ".webm":
        return with_sound(path, *codecs)
    save_video(path, with_sound(path.with_suffix(".mkv"), *codecs), prediction())
    return path


def together(path: Path, number: int = 0) -> float:
    """By how many seconds the sound that is played begins before the picture."""
    picture, *tracks = times_in(path)
    return picture - tracks[number]


@pytest.mark.parametrize(
    ("ending", "codec", "encoded", "rate"), [(".webm", "aac", "opus", 48_000), (".mp4", "pcm_s16le", "aac", 44_100)]
)
def test_sound_that_the_container_cannot_hold_is_encoded_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ending: str, codec: str, encoded: str, rate: int
) -> None:
    source = with_sound(tmp_path / "clip.mkv", codec)
    target = tmp_path / f"out{ending}"
    save_video(target, source, prediction())
    ((name, packets, _),) = sound(target)
    assert name == encoded
    assert packets
    with av.open(str(target)) as container:
        assert container.streams.audio[0].rate == rate
    before, after = samples(source), samples(target)
    assert len(after) == pytest.approx(len(before), abs=800)
    length = min(len(before), len(after)) - 400
    assert np.corrcoef(before[400:length], after[400:length])[0, 1] > 0.98
    assert caplog.records == []


def test_all_tracks_are_kept_with_their_languages(tmp_path: Path) -> None:
    source = with_sound(tmp_path / "clip.mkv", "aac", "libopus", "pcm_s16le")
    target = tmp_path / "out.mp4"
    save_video(target, source, prediction())
    before, after = sound(source), sound(target)
    assert [codec for codec, _, _ in after] == ["aac", "opus", "aac"]
    assert [packets for _, packets, _ in after[:2]] == [packets for _, packets, _ in before[:2]]
    assert np.corrcoef(samples(source, 2)[400:12000], samples(target, 2)[400:12000])[0, 1] > 0.98
    with av.open(str(target)) as container:
        assert [track.metadata.get("language") for track in container.streams.audio] == ["nor"] * 3


def test_sound_that_lasts_longer_than_the_picture_is_kept(tmp_path: Path) -> None:
    source = with_sound(tmp_path / "clip.mp4", "aac", count=10, seconds=3.0)
    save_video(tmp_path / "out.mp4", source, prediction())
    assert sound(tmp_path / "out.mp4")[0][1] == sound(source)[0][1]


@pytest.mark.parametrize(("picture_ms", "sound_ms"), [(700, 0), (10_700, 10_000), (10_000, 10_700)])
def test_picture_and_sound_stay_together_wherever_they_begin(tmp_path: Path, picture_ms: int, sound_ms: int) -> None:
    source = tmp_path / "clip.mkv"
    with (
        av.open(str(with_sound(tmp_path / "early.mkv", "libopus", "pcm_s16le"))) as early,
        av.open(str(source), "w") as container,
    ):
        copies = {stream.index: container.add_stream_from_template(stream) for stream in early.streams}
        for packet in early.demux():
            if not packet.size or packet.pts is None:
                continue
            shift = picture_ms if packet.stream.type == "video" else sound_ms
            packet.pts += shift
            packet.dts = None if packet.dts is None else packet.dts + shift
            packet.stream = copies[packet.stream_index]
            container.mux(packet)
    for ending in (".mp4", ".mkv", ".webm"):
        save_video(tmp_path / f"out{ending}", source, prediction())
        for number in (0, 1):  # in MP4 and WebM, the second one is encoded anew
            assert together(tmp_path / f"out{ending}", number) == pytest.approx(together(source, number), abs=0.03)
        assert sound(tmp_path / f"out{ending}")[0][1] == sound(source)[0][1]
        assert min(times_in(tmp_path / f"out{ending}")) < 0.03


def times_in(path: Path) -> list[float]:
    """When the streams begin, in seconds on the clock of the container."""
    with av.open(str(path)) as container:
        return [(stream.start_time or 0) * float(stream.time_base or 0) for stream in container.streams]


@pytest.mark.parametrize("later_s", [0, 3600], ids=["back", "as if a clock of 26 hours had begun anew"])
def test_sound_whose_clock_begins_anew_goes_on(tmp_path: Path, later_s: int) -> None:
    second = with_sound(tmp_path / "second.ts", "mp2")
    first = tmp_path / "first.ts"
    with (
        av.open(str(second)) as early,
        av.open(str(first), "w", container_options={"output_ts_offset": str(later_s)}) as container,
    ):
        copies = {stream.index: container.add_stream_from_template(stream) for stream in early.streams}
        for packet in early.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                container.mux(packet)
    source = tmp_path / "joined.ts"
    source.write_bytes(first.read_bytes() + second.read_bytes())
    (_, packets, _) = sound(source)[0]
    for ending in (".mkv", ".mp4", ".webm"):
        save_video(tmp_path / f"out{ending}", source, prediction())
        ((_, copied, moments),) = sound(tmp_path / f"out{ending}")
        assert len(frames(tmp_path / f"out{ending}")) == 100
        assert moments == sorted(set(moments))
        assert float(moments[-1] - moments[0]) == pytest.approx(4, abs=0.1)
        if ending == ".mkv":
            assert copied == packets


@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_sound_that_changes_its_rate_and_channels_is_encoded_anew(tmp_path: Path, ending: str) -> None:
    """As broadcasts do from one programme to the next."""
    parts = [
        with_sound(tmp_path / "one.ts", "mp2"),
        with_sound(tmp_path / "other.ts", "mp2", rate=48_000, layout="stereo"),
    ]
    source = tmp_path / "joined.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    save_video(tmp_path / f"out{ending}", source, prediction())
    copy = samples(tmp_path / f"out{ending}")
    assert len(copy) / 8000 == pytest.approx(4, abs=0.15)
    for second in (1, 3):  # a tone of 300 Hz
        heard = np.abs(np.fft.rfft(copy[second * 8000 - 4000 : second * 8000 + 4000]))
        assert heard.argmax() == 300


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".webm"])
def test_damaged_sound_is_kept_as_far_as_it_can_be_decoded(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = with_sound(tmp_path / "clip.ts", "aac")
    data = source.read_bytes()
    start = data.index(b"\xff\xf1", len(data) // 2)  # the head of a packet
    source.write_bytes(data[:start] + data[start:].replace(b"\xff\xf1", b"\0\0", 3))
    with caplog.at_level(logging.WARNING, "action_clip"):
        save_video(tmp_path / f"out{ending}", source, prediction(["𓀀"]))
    notes = [record.getMessage() for record in caplog.records]
    assert ("the sound is damaged: it is encoded anew, as far as it can be decoded" in notes) == (ending != ".webm")
    assert sum("no typeface" in note for note in notes) == 1
    assert len(frames(tmp_path / f"out{ending}")) == 50
    assert len(samples(tmp_path / f"out{ending}")) > 8000


def test_tracks_that_cannot_be_kept_are_counted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = with_sound(tmp_path / "clip.mkv", "aac", "aac", "aac")
    data = source.read_bytes()
    first = data.find(b"A_AAC")
    second = data.find(b"A_AAC", first + 1)
    third = data.find(b"A_AAC", second + 1)
    assert 0 < first < second < third
    for place in (second, third):
        data = data[:place] + b"A_XYZ" + data[place + 5 :]
    source.write_bytes(data)
    with caplog.at_level(logging.WARNING, "action_clip"):
        save_video(tmp_path / "out.mp4", source, prediction())
    assert [record.getMessage() for record in caplog.records] == [
        "2 of 3 sound tracks cannot be decoded, and are left out"
    ]
    assert [codec for codec, _, _ in sound(tmp_path / "out.mp4")] == ["aac"]


@pytest.mark.parametrize(("loop", "expected"), [(None, None), (0, 0), (3, 3)])
def test_a_gif_is_played_as_often_as_before(tmp_path: Path, loop: int | None, expected: int | None) -> None:
    first, *rest = (Image.fromarray(picture) for picture in large(4))
    how: dict[str, Any] = {} if loop is None else {"loop": loop}
    first.save(tmp_path / "clip.gif", save_all=True, append_images=rest, duration=[100, 250, 40, 700], **how)
    save_video(tmp_path / "out.gif", tmp_path / "clip.gif", prediction())
    with Image.open(tmp_path / "out.gif") as image:
        assert image.info.get("loop") == expected
        durations = []
        for number in range(4):
            image.seek(number)
            durations.append(image.info["duration"])
    assert durations == [100, 250, 40, 700]
    for before, after in zip(frames(tmp_path / "clip.gif"), frames(tmp_path / "out.gif"), strict=True):
        assert difference(after[150:], before[150:]) < 2
        assert difference(after, drawn(before, prediction())) < 2


@KINDS
def test_animated_webp_and_pictures_are_videos_too(tmp_path: Path, ending: str) -> None:
    first, *rest = (Image.fromarray(picture) for picture in large(4))
    first.save(tmp_path / "clip.webp", save_all=True, append_images=rest, duration=[100, 250, 40, 700], lossless=True)
    first.save(tmp_path / "picture.png")
    save_video(tmp_path / f"out{ending}", tmp_path / "clip.webp", prediction())
    assert times(tmp_path / f"out{ending}") == pytest.approx([0, 0.1, 0.35, 0.39, 1.09], abs=0.0011)
    save_video(tmp_path / f"one{ending}", tmp_path / "picture.png", prediction())
    (found,) = frames(tmp_path / f"one{ending}")
    assert difference(found, drawn(large(1)[0], prediction())) < 2.5


def test_broken_frames_are_replaced_as_in_the_answer(tmp_path: Path) -> None:
    source = write_video(tmp_path / "clip.mp4", large(12), options={"g": "1"})
    break_packets(source, [4, 5, 6])
    save_video(tmp_path / "out.mp4", source, prediction())
    before, after = frames(source), frames(tmp_path / "out.mp4")
    assert len(before) == len(after) == 12
    for number in range(12):
        assert difference(after[number], drawn(before[number], prediction())) < 2.5


def test_a_video_at_an_address_is_read_again(tmp_path: Path) -> None:
    content = with_sound(tmp_path / "clip.mp4", "aac").read_bytes()
    with FaultServer() as server:
        server.add("/clip.mp4", content)
        save_video(tmp_path / "out.mp4", f"{server.url}/clip.mp4", prediction())
    assert sound(tmp_path / "out.mp4")[0][1] == sound(tmp_path / "clip.mp4")[0][1]
    assert len(frames(tmp_path / "out.mp4")) == 50


def test_progress_counts_all_frames(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    save_video(
        tmp_path / "out.mp4",
        write_video(tmp_path / "clip.mp4", large(7)),
        prediction(),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(number, 7) for number in range(1, 8)]


def test_labels_that_cannot_be_drawn_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = write_video(tmp_path / "clip.mp4", large(7))
    with caplog.at_level(logging.WARNING, "action_clip"):
        save_video(tmp_path / "out.mp4", source, [Window(0, 1, prediction(("𓀀", "\u200b"))) for _ in range(5)])
    assert [record.getMessage() for record in caplog.records] == [
        "the video shows ? for characters that no typeface of this program has, in: 𓀀"
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "out.avi",
            r"out\.avi: the name must end in one of \.png, .* for a picture, or \.mp4, \.mkv, \.webm, ",
        ),
        ("out", r"out: the name must end in one of"),
        ("out.png", r"cannot save the video .*out\.png: the name must end in one of \.mp4, \.mkv, \.webm, \.gif"),
        ("absent/out.mp4", r"there is no folder .*absent"),
        ("folder.mp4", "it is a folder"),
    ],
)
def test_a_path_that_cannot_be_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    source = write_video(tmp_path / "clip.mp4", large(2))
    with pytest.raises(ActionClipError, match=message):
        save_video(tmp_path / name, source, prediction())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "folder.mp4"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_are_refused_as_source_and_as_target(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    source = write_video(tmp_path / "clip.mp4", large(2))
    with pytest.raises(ActionClipError, match=r"pipe\.mp4 is a pipe, which can be read only once; write"):
        save_video(tmp_path / "out.mp4", tmp_path / "pipe.mp4", prediction())
    with pytest.raises(ActionClipError, match=r"pipe\.mp4: it is a device or a pipe; name a file"):
        save_video(tmp_path / "pipe.mp4", source, prediction())


def test_a_video_that_is_gone_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"old")
    with pytest.raises(ActionClipError, match=r"absent\.mp4 does not exist"):
        save_video(tmp_path / "out.mp4", tmp_path / "absent.mp4", prediction())
    assert (tmp_path / "out.mp4").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


SAVE = (
    "import sys; from pathlib import Path; sys.path.insert(0, {tests!r}); from test_annotated import prediction; "
    "from action_clip.output.annotated import save_video; {before}; "
    "save_video(Path({folder!r}, 'out{ending}'), Path({folder!r}, 'clip.mkv'), prediction(), progress={progress})"
)


def saving(folder: Path, ending: str, before: str = "0", progress: str = "None") -> subprocess.Popen[str]:
    """A process that saves a video."""
    tests = os.fspath(Path(__file__).parent)
    code = SAVE.format(tests=tests, folder=os.fspath(folder), ending=ending, before=before, progress=progress)
    path = os.pathsep.join((os.fspath(Path(__file__).parents[1]), os.fspath(Path(__file__).parents[2])))
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no limit to the size of files here")
@KINDS
def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(tmp_path: Path, ending: str) -> None:
    write_video(tmp_path / "clip.mkv", moving(40))
    (tmp_path / f"out{ending}").write_bytes(b"old")
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))"
    process = saving(tmp_path, ending, before=limit)
    _, error = process.communicate(timeout=120)
    assert f"ActionClipError: cannot write {tmp_path / f'out{ending}'}: File too large; name another file" in error
    assert (tmp_path / f"out{ending}").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mkv", f"out{ending}"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are others there")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_process_that_is_ended_leaves_nothing(tmp_path: Path, name: str) -> None:
    number = signal.Signals[name]  # Windows has no SIGHUP
    write_video(tmp_path / "clip.mkv", moving(120))
    (tmp_path / "out.gif").write_bytes(b"old")
    wait = "lambda done, total: (print(done, flush=True), __import__('time').sleep(0.3))"
    handler = "default_int_handler" if name == "SIGINT" else "SIG_DFL"
    not_ignored = f"import signal; signal.signal(signal.{name}, signal.{handler})"  # as below nohup
    with saving(tmp_path, ".gif", before=not_ignored, progress=wait) as process:
        assert process.stdout is not None
        while process.stdout.readline() and not list(tmp_path.glob(".*.tmp")):
            pass
        assert len(list(tmp_path.glob(".*.tmp"))) == 1
        process.send_signal(number)
        process.wait(timeout=60)
    assert process.returncode == -number
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mkv", "out.gif"]
    assert (tmp_path / "out.gif").read_bytes() == b"old"
