"""Frames as players show them: colours, transparency, shape, fields, and which way is up."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorTrc
from av.video.stream import VideoStream
from make_videos import Picture, numbered, numbers_in, write_numbered, write_video
from numpy.typing import NDArray
from PIL import Image, ImageOps, ImageSequence

from action_clip.errors import ActionClipError
from action_clip.video.deinterlace import deinterlaced
from action_clip.video.pixels import upright_rgb
from action_clip.video.reader import read_clip
from action_clip.video.sampling import make_sampler

eight = make_sampler("uniform", 8, 0)
keyframes = make_sampler("keyframes", 8, 0)

PQ, HLG = ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67
LUMINANCE = np.array([0.2627, 0.6780, 0.0593])
TO_BT2020 = np.array([[0.627404, 0.329283, 0.043313], [0.069097, 0.919540, 0.011362], [0.016391, 0.088013, 0.895595]])

Numbers = NDArray[np.float64]


def every(total: int) -> list[int]:
    """Ask for all frames."""
    return list(range(total))


def first(_: int) -> list[int]:
    """Ask for the first frame."""
    return [0]


def colourful() -> Picture:
    """Return a picture with a patch for each of many colours, dim and bright, grey and strong."""
    levels = np.array([0, 40, 90, 140, 190, 230], np.uint8)
    patches = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(12, 18, 3)
    return patches.repeat(8, axis=0).repeat(8, axis=1)


def light_of(picture: Picture) -> Numbers:
    """Return the light of a screen that shows a picture, in cd/m², in the primaries of BT.2020."""
    light: Numbers = 100 * (picture / 255) ** 2.4 @ TO_BT2020.T
    return light


def signal_of(light: Numbers, transfer: ColorTrc) -> Numbers:
    """Return the signal that a screen shows as this light, by the formulas of BT.2100."""
    if transfer == PQ:
        power = (light / 10000) ** (2610 / 16384)
        pq: Numbers = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
        return pq
    luminance = np.maximum(light @ LUMINANCE / 1000, 1e-9)[..., None]
    scene = light / 1000 * luminance ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    hlg: Numbers = np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)
    return hlg


def write_light(path: Path, light: Numbers, transfer: ColorTrc, pix_fmt: str = "gbrp12le") -> Path:
    """Write light as a video that is not compressed with loss."""
    signal = np.rint(np.clip(signal_of(light, transfer), 0, 1) * 65535).astype(np.uint16)
    if pix_fmt.startswith("gbrap"):
        signal = np.concatenate([signal, np.full((*signal.shape[:2], 1), 65535 * 2 // 5, np.uint16)], axis=2)
    frame = av.VideoFrame.from_ndarray(signal, format={3: "rgb48le", 4: "rgba64le"}[signal.shape[2]])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, _ = light.shape
        stream.pix_fmt = pix_fmt
        context = stream.codec_context
        context.color_trc, context.color_primaries = transfer, ColorPrimaries.BT2020
        context.color_range = 1 if pix_fmt.startswith("yuv") else 2
        context.colorspace = 9 if pix_fmt.startswith("yuv") else 0
        if pix_fmt.startswith("yuv"):
            frame = frame.reformat(format=pix_fmt, dst_colorspace=9, dst_color_range=1)
        for time in range(3):
            frame.pts, frame.time_base = time, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("pix_fmt", ["gbrp12le", "yuv444p12le"])
@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_a_plain_picture_in_high_range_is_that_picture(tmp_path: Path, transfer: ColorTrc, pix_fmt: str) -> None:
    picture = colourful()
    path = write_light(tmp_path / "clip.mkv", light_of(picture), transfer, pix_fmt)
    shown = read_clip(path, eight).frames.astype(int)
    assert np.abs(shown - picture).mean() < 1
    assert np.abs(shown - picture)[:, picture.min(axis=2) > 0].max() <= 6


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_what_is_brighter_than_white_is_brought_below_it(tmp_path: Path, transfer: ColorTrc) -> None:
    steps = np.array([1, 5, 10, 20, 50, 100, 203, 400, 800])
    light = np.full((32, 32 * len(steps), 3), 1.0) * steps.repeat(32)[:, None]
    shown = read_clip(write_light(tmp_path / "clip.mkv", light, transfer), first).frames[0, 16, 16::32]
    assert np.ptp(shown.astype(int), axis=1).max() <= 1, "greys stay grey"
    greys = shown[:, 0].astype(int).tolist()
    plain = np.rint(255 * (steps / 100) ** (1 / 2.4)).tolist()
    assert greys == sorted(set(greys)), "what is brighter is shown brighter"
    assert np.abs(np.subtract(greys[:4], plain[:4])).max() <= 3, "what is dim is left as it is"
    assert greys[-1] >= 252
    assert 190 < greys[5] < 240, "paper white is light, not grey"


def test_transparency_in_high_dynamic_range(tmp_path: Path) -> None:
    path = write_light(tmp_path / "clip.mkv", np.full((32, 32, 3), 20.0), PQ, "gbrap12le")
    grey = 255 * 0.2 ** (1 / 2.4)
    assert np.abs(read_clip(path, first).frames[0].astype(int) - (grey * 0.4 + 255 * 0.6)).max() <= 2


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("matrix", "red", "blue"),
    [(1, 0.2126, 0.0722), (5, 0.299, 0.114), (6, 0.299, 0.114), (7, 0.212, 0.087), (9, 0.2627, 0.0593)],
)
@pytest.mark.parametrize(("pix_fmt", "bits"), [("yuv444p", 8), ("yuv420p10le", 10)])
def test_matrices_and_ranges(
    tmp_path: Path, matrix: int, red: float, blue: float, full: bool, pix_fmt: str, bits: int
) -> None:
    expected = np.array([180.0, 90.0, 50.0])
    luma = red * expected[0] + (1 - red - blue) * expected[1] + blue * expected[2]
    chroma = (expected[2] - luma) / (2 - 2 * blue), (expected[0] - luma) / (2 - 2 * red)
    levels = [luma if full else 16 + luma * 219 / 255, *(128 + part * (1 if full else 224 / 255) for part in chroma)]
    path = write_levels(tmp_path / "clip.mkv", pix_fmt, bits, levels, matrix, 2 if full else 1)
    assert np.abs(read_clip(path, first).frames[0, 16, 16] - expected).max() <= 3


def write_levels(path: Path, pix_fmt: str, bits: int, levels: list[float], matrix: int, color_range: int) -> Path:
    """Write a video of one colour, given as Y, Cb and Cr of 8 bits."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 32, 32, pix_fmt
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, color_range
        frame = av.VideoFrame(32, 32, pix_fmt)
        frame.colorspace, frame.color_range = matrix, color_range
        for plane, level in zip(frame.planes, levels, strict=True):
            value = round(level * 2 ** (bits - 8)).to_bytes(-(-bits // 8), "little")
            plane.update(value * (plane.buffer_size // len(value)))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("declared", "like"), [(3, 2), (255, 2), (10, 9)])
def test_matrices_that_are_not_converted_have_one_next_to_them(declared: int, like: int) -> None:
    frame = av.VideoFrame(32, 32, "yuv444p")
    for plane, level in zip(frame.planes, (120, 90, 180), strict=True):
        plane.update(bytes([level]) * plane.buffer_size)
    shown = []
    for frame.colorspace in (declared, like):
        shown.append(upright_rgb(frame).copy())
    assert np.array_equal(shown[0], shown[1])


def test_colours_that_cannot_be_converted(tmp_path: Path) -> None:
    path = write_levels(tmp_path / "clip.mkv", "yuv444p", 8, [120, 90, 180], 8, 1)  # YCgCo
    with pytest.raises(ActionClipError, match="yuv444p with colours of kind 8 cannot become RGB"):
        read_clip(path, first)


@pytest.mark.parametrize(
    ("name", "width", "height", "since"),
    [("bayer_rggb8", 16, 1, None), ("bayer_bggr16le", 1, 1, None), ("yaf32le", 16, 16, 19)],
)
def test_pixels_on_which_the_scaler_aborts(name: str, width: int, height: int, since: int | None) -> None:
    frame = av.VideoFrame(width, height, name)
    if since and int(av.__version__.partition(".")[0]) >= since:
        assert upright_rgb(frame).shape == (height, width, 3)
        return
    with pytest.raises(ActionClipError, match=f"pixels of the format {name} with"):
        upright_rgb(frame)


def see_through(number: int) -> Picture:
    """Return a numbered RGBA picture whose left half is transparent, and of what remains the lower half half so."""
    alpha = np.full((96, 160, 1), 255, np.uint8)
    alpha[48:] = 128
    alpha[:, :80] = 0
    return np.concatenate([numbered(number), alpha], axis=2)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "options"),
    [
        ("vp8.webm", "libvpx", "yuva420p", {"auto-alt-ref": "0", "g": "4"}),
        ("vp9.webm", "libvpx-vp9", "yuva420p", {"cpu-used": "8", "g": "4", "lag-in-frames": "10"}),
        ("prores.mov", "prores_ks", "yuva444p10le", {}),
        ("animation.mov", "qtrle", "argb", {}),
        ("ffv1.mkv", "ffv1", "yuva420p", {}),
        ("png.mov", "png", "rgba", {}),
        ("clip.apng", "apng", "rgba", {}),
    ],
)
def test_transparency_lies_on_white(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, options: dict[str, str]
) -> None:
    pictures = [see_through(number) for number in range(20)]
    path = write_video(tmp_path / name, pictures, codec, pix_fmt=pix_fmt, options=options)
    for sampler in (eight, keyframes):
        clip = read_clip(path, sampler)
        frames = clip.frames.astype(int)
        assert frames[:, :, :72].min() > 250
        for frame, index in zip(frames, clip.indices, strict=True):
            opaque = numbered(index).astype(int)[:, 88:]
            assert np.abs(frame[:40, 88:] - opaque[:40]).mean() < 6
            assert np.abs(frame[56:, 88:] - (opaque[56:] + 255) / 2).mean() < 6
    assert np.array_equal(read_clip(path, eight, threads=1).frames, read_clip(path, eight, threads=3).frames)


@pytest.mark.parametrize("name", ["glass.png", "glass.webp", "glass.tif"])
def test_transparent_pictures_lie_on_white(tmp_path: Path, name: str) -> None:
    Image.new("RGBA", (20, 10), (200, 100, 0, 51)).save(tmp_path / name, lossless=True)
    assert np.abs(read_clip(tmp_path / name, first).frames[0].astype(int) - (244, 224, 204)).max() <= 1


def test_transparency_that_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "clip.webm"
    write_video(path, [see_through(1)] * 6, "libvpx-vp9", pix_fmt="yuva420p", options={"cpu-used": "8"})
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        added = [bytes(data)[8:] for packet in container.demux(video=0) for data in packet.iter_sidedata()]
    at = content.index(added[0])
    content[at : at + len(added[0])] = b"\xff" * len(added[0])
    path.write_bytes(content)
    assert numbers_in(read_clip(path, first).frames) == [1], "opaque, as it is without"


def animation(path: Path, pictures: list[Picture], **how: object) -> Path:
    """Write pictures as an animated WebP."""
    images = [Image.fromarray(picture) for picture in pictures]
    images[0].save(path, save_all=True, append_images=images[1:], **{"lossless": True, "duration": 40} | how)  # type: ignore[arg-type]
    return path


def test_an_animated_webp(tmp_path: Path) -> None:
    durations = [40 + 10 * number for number in range(20)]
    path = animation(tmp_path / "clip.webp", [numbered(number) for number in range(20)], duration=durations)
    for sampler in (eight, keyframes):
        clip = read_clip(path, sampler)
        assert clip.indices == (0, 3, 5, 8, 10, 13, 15, 18)
        assert numbers_in(clip.frames) == list(clip.indices)
        assert clip.times_s == pytest.approx([sum(durations[:index]) / 1000 for index in clip.indices])
        assert clip.total_frames == 20
        assert clip.duration_s == pytest.approx(sum(durations) / 1000)


def test_an_animated_webp_is_as_pillow_has_it(tmp_path: Path) -> None:
    path = animation(tmp_path / "clip.webp", [see_through(number) for number in range(5)], lossless=False, quality=60)
    with Image.open(path) as image:
        for frame, picture in zip(read_clip(path, every).frames, ImageSequence.Iterator(image), strict=True):
            white = Image.new("RGBA", picture.size, "white")
            white.alpha_composite(picture.convert("RGBA"))
            assert np.abs(frame.astype(int) - np.asarray(white.convert("RGB"))).max() <= 1


def test_an_animated_webp_that_is_cut(tmp_path: Path) -> None:
    content = animation(tmp_path / "clip.webp", [numbered(number) for number in range(20)]).read_bytes()
    path = tmp_path / "cut.webp"
    for size in (30, 31, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ActionClipError, match="cannot be read as an animation"):
            read_clip(path, eight)


def test_a_broken_frame_ends_an_animated_webp(tmp_path: Path) -> None:
    path = animation(tmp_path / "clip.webp", [numbered(number) for number in range(20)])
    content = bytearray(path.read_bytes())
    at = -1
    for _ in range(13):
        at = content.index(b"ANMF", at + 1)
    content[at + 37 : at + 60] = b"\xff" * 23  # after the headers of the 13th frame and of its picture
    path.write_bytes(content)
    clip = read_clip(path, eight)
    assert clip.total_frames == 12
    assert numbers_in(clip.frames) == list(clip.indices) == eight(12)


def test_an_animated_webp_with_a_large_canvas(tmp_path: Path) -> None:
    path = animation(tmp_path / "clip.webp", [numbered(0), numbered(1)])
    content = bytearray(path.read_bytes())
    content[24:30] = b"\xff\x3f\0" * 2
    path.write_bytes(content)
    with pytest.raises(ActionClipError, match="frames of 16384 × 16384, more than"):
        read_clip(path, eight)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo.webp", "photo.tif"])
def test_photographs_are_upright(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    picture = np.zeros((48, 80, 3), np.uint8)
    picture[:24, :40], picture[:24, 40:], picture[24:, :40], picture[24:, 40:] = 40, 100, 160, 220
    Image.fromarray(picture).save(tmp_path / name, exif=exif)
    with Image.open(tmp_path / name) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
    frame = read_clip(tmp_path / name, first).frames[0]
    assert frame.shape == upright.shape
    assert np.abs(frame - upright).mean() < 6


def write_shaped(path: Path, aspect: Fraction, rotation: int | None = None) -> Path:
    """Write a numbered video whose pixels are said to be `aspect` times as wide as high."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for number in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(number))))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("aspect", "width"),
    [
        (Fraction(16, 15), 171),
        (Fraction(64, 45), 228),
        (Fraction(4, 3), 213),
        (Fraction(1, 2), 80),
        (Fraction(8, 9), 142),
        (Fraction(640, 639), 160),  # what scaling leaves
        (Fraction(1000, 1), 160),
        (Fraction(1, 1000), 160),
    ],
)
def test_pixels_are_square(tmp_path: Path, aspect: Fraction, width: int) -> None:
    path = write_shaped(tmp_path / "clip.mp4", aspect)
    for sampler in (eight, keyframes):
        clip = read_clip(path, sampler)
        assert clip.frames.shape == (8, 96, width, 3)
        assert numbers_in(clip.frames) == list(clip.indices)


@pytest.mark.parametrize(
    ("name", "width"), [("scan.jpg", 160), ("scan.png", 160), ("scan.apng", 160), ("scan.tif", 320)]
)
def test_dots_per_inch_are_no_shape_of_pixels_where_they_are_misread(tmp_path: Path, name: str, width: int) -> None:
    path = tmp_path / name
    Image.fromarray(numbered(1)).save(path, format="PNG" if name == "scan.apng" else None, dpi=(72, 144))
    assert read_clip(path, first).frames.shape == (1, 96, width, 3)


def test_pixels_are_square_before_a_video_is_turned(tmp_path: Path) -> None:
    clip = read_clip(write_shaped(tmp_path / "clip.mp4", Fraction(4, 3), 90), eight)
    assert clip.frames.shape == (8, 213, 96, 3)


def test_square_pixels_are_not_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTION_CLIP_MAX_PIXELS", str(160 * 96))
    with pytest.raises(ActionClipError, match="320 × 96, more than 15360 pixels"):
        read_clip(write_shaped(tmp_path / "clip.mp4", Fraction(2)), eight)


def moving(number: int, height: int = 96) -> Picture:
    """Return a picture of a light bar on dark ground, further right with each number."""
    picture = np.full((height, 160, 3), 50, np.uint8)
    picture[:, 20 + 6 * number : 50 + 6 * number] = (220, 90, 160)
    return picture


def write_fields(path: Path, pictures: list[Picture], codec: str = "libx264") -> Path:
    """Write pictures as interlaced frames."""
    options = {"x264-params": "tff=1", "crf": "10"} if codec == "libx264" else {"flags": "+ildct+ilme", "qscale": "2"}
    return write_video(path, pictures, codec, options=options)


@pytest.mark.parametrize(("name", "codec"), [("clip.mp4", "libx264"), ("clip.ts", "mpeg2video")])
def test_two_fields_show_no_comb(tmp_path: Path, name: str, codec: str) -> None:
    pictures = [moving(2 * number) for number in range(8)]
    for number, picture in enumerate(pictures):
        picture[1::2] = moving(2 * number + 1)[1::2]
    clip = read_clip(write_fields(tmp_path / name, pictures, codec), eight)
    assert clip.indices == tuple(range(8))
    for number, frame in enumerate(clip.frames.astype(int)):
        assert np.abs(np.diff(frame, axis=0)).max() < 25, "lines are alike from top to bottom"
        assert np.abs(frame - moving(2 * number)).mean() < 6


def test_a_whole_picture_in_two_fields_stays_sharp(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 3, (8, 96, 160, 1))
    shaded = np.linspace(0, 30, 96)[:, None, None] + noise
    pictures = [(numbered(number) * 0.8 + shaded[number]).astype(np.uint8) for number in range(8)]
    fields = read_clip(write_fields(tmp_path / "clip.mp4", pictures), eight).frames.astype(float)
    error = float(np.mean((fields - np.stack(pictures)) ** 2))
    assert 10 * np.log10(255**2 / error) > 35
    assert numbers_in(fields.astype(np.uint8)) == list(range(8))


@pytest.mark.parametrize("pix_fmt", ["rgb24", "gray", "rgba"])
def test_a_picture_whose_pixels_come_in_another_order_is_whole(tmp_path: Path, pix_fmt: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 160, 1), np.uint8).repeat(3, axis=2)
    path = write_video(tmp_path / "adam7.apng", [noise], "apng", pix_fmt=pix_fmt, options={"flags": "+ildct"})
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    assert np.array_equal(read_clip(path, first).frames[0], noise)


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5])
def test_a_line_is_no_further_than_its_neighbours(height: int) -> None:
    rows = np.arange(height * 4 * 3, dtype=np.uint8).reshape(height, 4, 3)
    combed = rows.copy()
    combed[1::2] = 255
    shown = deinterlaced(combed)
    assert np.array_equal(deinterlaced(rows)[:-1], rows[:-1])
    assert np.array_equal(shown[::2], rows[::2])
    assert shown.max() <= rows[::2].max()


def test_progressive_video_is_left_alone(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "clip.mp4", 8)
    with av.open(str(path)) as container:
        plain = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.array_equal(read_clip(path, every).frames, np.stack(plain))
