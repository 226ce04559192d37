"""What is damaged is decoded the same way every time, for any number of threads."""

import gc
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from make_videos import damage, moving, write_video

from action_clip.video.packets import read_packets
from action_clip.video.pixels import upright_rgb
from action_clip.video.reader import read_clip
from action_clip.video.sampling import make_sampler
from action_clip.video.source import VideoSource, opened


@pytest.mark.parametrize(
    ("name", "codec", "options", "seeds"),
    [
        ("clip.mp4", "libx264", {"g": "20", "bf": "3"}, (0, 14, 15, 17, 19)),
        ("clip.h264", "libx264", {"g": "20", "bf": "3"}, (0, 1)),
        pytest.param(
            "clip.mp4", "libx265", {"x265-params": "log-level=none:keyint=20"}, (0, 1, 2), marks=pytest.mark.slow
        ),
        pytest.param("clip.webm", "libvpx", {"g": "20"}, (1, 5, 6, 9), marks=pytest.mark.slow),
        pytest.param("clip.webm", "libvpx-vp9", {"g": "20", "cpu-used": "8"}, (0, 1), marks=pytest.mark.slow),
        pytest.param("clip.mp4", "libsvtav1", {"preset": "12", "g": "20"}, (0, 1), marks=pytest.mark.slow),
        pytest.param("clip.avi", "mpeg4", {"bf": "2", "g": "20"}, (4, 8, 12), marks=pytest.mark.slow),
        ("clip.mkv", "mpeg2video", {"bf": "2", "g": "20"}, (4,)),
        pytest.param("clip.avi", "mjpeg", {}, (0, 2, 3, 7), marks=pytest.mark.slow),
        ("clip.mkv", "ffv1", {"slices": "4", "slicecrc": "1", "level": "3"}, (0, 1, 2)),
    ],
)
def test_damage_looks_the_same_for_any_number_of_threads(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], seeds: tuple[int, ...]
) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    whole = write_video(tmp_path / name, moving(60), codec, pix_fmt=pix_fmt, options=options)
    for seed in seeds:
        path = damage(whole, tmp_path / f"damaged-{name}", seed)
        for sampler in (lambda total: list(range(total)), make_sampler("keyframes", 4, 0)):
            one, *others = (read_clip(path, sampler, threads=threads) for threads in (1, 1, 2, 3, 3, 8))
            for other in others:
                assert (other.indices, other.total_frames) == (one.indices, one.total_frames)
                assert np.array_equal(other.frames, one.frames)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_notice_what_is_missing_at_the_end_of_a_frame(tmp_path: Path, threads: int) -> None:
    whole = write_video(tmp_path / "clip.mp4", moving(60), options={"g": "20", "bf": "3"})
    path = damage(whole, tmp_path / "damaged.mp4", 78, count=1)
    for _ in range(40):  # where it is noticed late, it is missed in every fourth
        with opened(VideoSource(path.name, path), threads) as video:
            packets = [*read_packets(video), None]
            frames = [(frame.pts, frame.is_corrupt) for packet in packets for frame in video.decode(packet)]
        assert len(frames) == 60
        assert [number for number, (_, is_corrupt) in enumerate(frames) if is_corrupt] == [42]


def test_a_frame_that_was_looked_at_is_freed_at_once(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", moving(3), rotation=90)
    gc.collect()
    gc.disable()
    try:
        with av.open(str(path)) as container:
            shapes = [upright_rgb(frame).shape for frame in container.decode(video=0)]
        # By type: isinstance asks objects of other libraries for attributes, which some warn of.
        left = [thing for thing in gc.get_objects() if type(thing) is VideoFrame and thing.width == 160]
    finally:
        gc.enable()
    assert shapes == [(160, 96, 3)] * 3
    assert not left
