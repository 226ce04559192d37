"""The official augmentation: what its parts do to pixels, how often, and that all of it follows from the generator."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from action_clip.training.finetune import augmentation
from action_clip.training.finetune.augmentation import RAND_AUGMENT, augmented, crop_box

GENERATORS = [np.random.default_rng(seed) for seed in range(400)]


def gradient(width: int = 96, height: int = 64, count: int = 3) -> NDArray[np.uint8]:
    """Frames that are brighter to the right (red) and to the bottom (green), and in later ones (blue)."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., 0] = np.linspace(0, 255, width)
    frames[..., 1] = np.linspace(0, 255, height)[:, None]
    frames[..., 2] = 60 * np.arange(count)[:, None, None]
    return frames


def test_crops_have_the_published_sizes_and_places() -> None:
    boxes = [crop_box((340, 256), 224, np.random.default_rng(seed)) for seed in range(3000)]
    sizes = {(right - left, bottom - top) for left, top, right, bottom in boxes}
    sides = [256, 224, 192, 168]
    assert sizes == {(w, h) for i, w in enumerate(sides) for j, h in enumerate(sides) if abs(i - j) <= 1}
    whole = {(left, top) for left, top, right, bottom in boxes if (right - left, bottom - top) == (224, 224)}
    x, y = (340 - 224) // 4, (256 - 224) // 4
    assert whole == {
        *((i * x, j * y) for i in (0, 2, 4) for j in (0, 2, 4)),
        *((i * x, j * y) for i in (1, 3) for j in (1, 3)),
    }
    assert {box[2] - box[0] for box in boxes} == set(sides)


def test_a_crop_that_nearly_has_the_size_is_cut_to_it() -> None:
    widths = {box[2] - box[0] for box in (crop_box((40, 34), 32, np.random.default_rng(seed)) for seed in range(300))}
    assert widths == {32, 29, 25, 22}  # 34 is two pixels from 32


def test_the_same_generator_gives_the_same_pixels_and_another_one_others() -> None:
    frames = gradient()
    found = [
        augmented(frames, 32, np.random.default_rng(seed), recolour=True, may_flip=True).tobytes()
        for seed in (1, 1, 2, 3)
    ]
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_a_clip_is_cropped_and_mirrored_as_one_and_half_of_the_clips_are_mirrored() -> None:
    frames = gradient()
    mirrored = 0
    for random in (np.random.default_rng(seed) for seed in range(200)):
        pixels = augmented(frames, 32, random, recolour=False, may_flip=True).astype(int)
        assert (pixels[1:, ..., :2] == pixels[:1, ..., :2]).all()
        assert (pixels[..., 2] == 60 * np.arange(3)[:, None, None]).all()
        mirrored += int((np.diff(pixels[0, :, :, 0].mean(axis=0)) < 0).all())
        assert (np.diff(pixels[0, :, :, 1].mean(axis=1)) > 0).all()  # never upside down
    assert 70 < mirrored < 130


def test_nothing_is_mirrored_where_sides_matter() -> None:
    for seed in range(50):
        pixels = augmented(gradient(), 32, np.random.default_rng(seed), recolour=False, may_flip=False).astype(int)
        assert (np.diff(pixels[0, :, :, 0].mean(axis=0)) > 0).all()


def test_colours_change_frame_by_frame_and_a_fifth_of_the_clips_is_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "RAND_AUGMENT", (((lambda picture, _, __: picture), 0, 1),))
    frames = np.broadcast_to(np.array([200, 60, 90], np.uint8), (4, 40, 40, 3)).copy()
    grey = unchanged = different = 0
    for seed in range(300):
        pixels = augmented(frames, 8, np.random.default_rng(seed), recolour=True, may_flip=False)
        colours = pixels[:, 4, 4].astype(int)
        is_grey = bool((np.ptp(colours, axis=1) <= 1).all())
        grey += is_grey
        unchanged += bool((colours == [200, 60, 90]).all())
        different += len({tuple(colour) for colour in colours}) > 1
    assert 35 < grey < 85  # of 300 one in five
    assert 28 < unchanged < 70  # 0.2 · 0.8
    assert 210 < different < 270  # 0.8


def test_hue_brightness_contrast_and_saturation_stay_within_their_limits() -> None:
    picture = Image.new("RGB", (8, 8), (200, 60, 90))
    hues, values = [], []
    for random in GENERATORS:
        hue, saturation, value = augmentation._coloured(picture, random).convert("HSV").getpixel((4, 4))  # type: ignore[misc]
        hues.append((hue - picture.convert("HSV").getpixel((4, 4))[0] + 128) % 256 - 128)  # type: ignore[index]
        values.append(value / 200)
        assert saturation > 90
    assert max(hues) - min(hues) > 35
    assert max(map(abs, hues)) <= 0.1 * 255 + 3
    assert 0.5 < min(values) < 0.75
    assert 1.1 < max(values) < 1.4


def changed(place: int, picture: Image.Image, seed: int = 0) -> NDArray[np.int64]:
    operation, least, most = RAND_AUGMENT[place]
    value = least + 9 / 30 * (most - least)
    return np.asarray(operation(picture, value, np.random.default_rng(seed))).astype(int)


def test_the_operations_of_rand_augment() -> None:
    assert len(RAND_AUGMENT) == 16
    pixels = gradient(256, 256, 1)[0]
    picture = Image.fromarray(pixels)
    plain = pixels.astype(int)
    assert (changed(2, picture) == 255 - plain).all()
    assert set(np.unique(changed(4, picture))) <= {0, 128}  # one bit
    assert (changed(5, picture) == np.where(plain < 76, plain, 255 - plain)).all()
    assert (changed(6, picture) == np.where(plain < 128, np.minimum(plain + 33, 255), plain)).all()
    for place, axis in ((14, 1), (15, 0)):  # moved by 30 of 256 pixels, to either side
        moved = {(changed(place, picture, seed) == np.roll(plain, 30, axis)).mean() > 0.8 for seed in range(8)}
        assert moved == {True, False}
    hole = changed(13, Image.new("RGB", (256, 256)), seed=2)
    rows, columns = np.nonzero((hole == (125, 123, 114)).all(axis=2))
    assert 100 <= len(rows) <= 13 * 13
    assert np.ptp(rows) <= 12
    assert np.ptp(columns) <= 12
    turned = changed(3, picture)
    assert (turned[0, 0] == 0).all()
    assert abs(turned[128, 128] - plain[128, 128]).max() <= 2
    for place in (0, 1, 7, 8, 9, 10, 11, 12):
        assert changed(place, picture).shape == plain.shape
    assert changed(9, picture).mean() == pytest.approx(plain.mean() * 0.64, rel=0.02)
