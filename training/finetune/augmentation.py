"""ActionCLIP's augmentation: frames of a clip, changed at random, so that no two epochs see the same.

Its steps, in the order of the published code, are: RandAugment (E. Cubuk et al., 2019, arXiv 1909.13719, two operations
of strength 9 in 30), a crop of one of several scales at one of 13 places, a mirror image, other colours, and grey. The
crop and the mirror image are the same for all frames of a clip; RandAugment and the colours are drawn for each frame.

Everything is drawn from the generator that is given: the same seed gives the same pixels in any process and thread.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

Random = np.random.Generator
Operation = Callable[[Image.Image, float, Random], Image.Image]

_SCALES = (1, 0.875, 0.75, 0.66)
"""Sides of a crop as shares of the shorter side."""
_NEARLY = 3
"""Pixels by which a crop may differ from the frames that the network takes, and is then cut without resizing."""
_MIRRORED, _COLOURED, _GREY = 0.5, 0.8, 0.2
"""How often."""
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = 0.4, 0.4, 0.2, 0.1
"""By how much colours change at most."""
_OPERATIONS, _STRENGTH = 2, 9 / 30
_HOLE = (125, 123, 114)
_USUAL_SIDE = 256
"""Pixels: the shorter side of the frames that distances in RandAugment's table are meant for."""


def augmented(
    frames: NDArray[np.uint8], size: int, random: Random, *, recolour: bool, may_flip: bool
) -> NDArray[np.uint8]:
    """Return the frames of a clip, changed at random.

    Args:
        frames: (T, H, W, 3) uint8 RGB.
        size: side of what is returned, in pixels.
        random: where everything is drawn from.
        recolour: whether colours, and what RandAugment does, are changed too, or frames are cropped and mirrored alone.
        may_flip: whether half of the clips are mirrored.

    Returns:
        (T, size, size, 3) uint8.
    """
    pictures = [Image.fromarray(frame) for frame in frames]
    if recolour:
        pictures = [_rand_augmented(picture, random) for picture in pictures]
    box = crop_box(pictures[0].size, size, random)
    pictures = [picture.crop(box).resize((size, size), Image.Resampling.BILINEAR) for picture in pictures]
    if random.random() < _MIRRORED and may_flip:
        pictures = [ImageOps.mirror(picture) for picture in pictures]
    if recolour and random.random() < _COLOURED:
        pictures = [_coloured(picture, random) for picture in pictures]
    if recolour and random.random() < _GREY:
        pictures = [picture.convert("L").convert("RGB") for picture in pictures]
    return np.stack([np.asarray(picture) for picture in pictures])


def crop_box(frame: tuple[int, int], size: int, random: Random) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a crop: one of several scales, slightly distorted, at one of 13 places.

    Args:
        frame: width and height, in pixels.
        size: side of the frames that the network takes, in pixels.
        random: where it is drawn from.
    """
    shorter = min(frame)
    sides = [size if abs(int(shorter * scale) - size) < _NEARLY else int(shorter * scale) for scale in _SCALES]
    sides = [max(1, min(side, shorter)) for side in sides]
    pairs = [(w, h) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]
    width, height = pairs[random.integers(len(pairs))]
    steps = ((frame[0] - width) // 4, (frame[1] - height) // 4)
    places = [(x, y) for x in (0, 2, 4) for y in (0, 2, 4)] + [(x, y) for x in (1, 3) for y in (1, 3)]
    x, y = places[random.integers(len(places))]
    left, top = x * steps[0], y * steps[1]
    return left, top, left + width, top + height


def _coloured(picture: Image.Image, random: Random) -> Image.Image:
    """Return a picture with another brightness, contrast, saturation and hue, changed in random order."""

    def hue(picture: Image.Image) -> Image.Image:
        hue, saturation, value = picture.convert("HSV").split()
        turned = np.asarray(hue) + np.uint8(round(random.uniform(-_HUE, _HUE) * 255) % 256)
        return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")

    def enhanced(
        kind: Callable[[Image.Image], ImageEnhance._Enhance], most: float
    ) -> Callable[[Image.Image], Image.Image]:
        return lambda picture: kind(picture).enhance(random.uniform(1 - most, 1 + most))

    changes = [
        enhanced(ImageEnhance.Brightness, _BRIGHTNESS),
        enhanced(ImageEnhance.Contrast, _CONTRAST),
        enhanced(ImageEnhance.Color, _SATURATION),
        hue,
    ]
    for place in random.permutation(len(changes)):
        picture = changes[place](picture)
    return picture


def _rand_augmented(picture: Image.Image, random: Random) -> Image.Image:
    for place in random.integers(len(RAND_AUGMENT), size=_OPERATIONS):
        operation, least, most = RAND_AUGMENT[place]
        picture = operation(picture, least + _STRENGTH * (most - least), random)
    return picture


def _either(value: float, random: Random) -> float:
    """Return the value or its negative."""
    return value if random.random() < 0.5 else -value


def _pixels(picture: Image.Image, distance: float) -> float:
    """Return a distance of RandAugment's table in pixels of this picture."""
    return distance * min(picture.size) / _USUAL_SIDE


def _moved(picture: Image.Image, matrix: Sequence[float]) -> Image.Image:
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix)


def _hole(picture: Image.Image, side: float, random: Random) -> Image.Image:
    side = _pixels(picture, side)
    left, top = (int(max(0, random.uniform(0, length) - side / 2)) for length in picture.size)
    picture = picture.copy()
    ImageDraw.Draw(picture).rectangle((left, top, left + side, top + side), _HOLE)
    return picture


def _brighter_below_middle(picture: Image.Image, amount: float, _: Random) -> Image.Image:
    pixels = np.asarray(picture)
    brighter = np.minimum(pixels.astype(np.int16) + int(amount), 255).astype(np.uint8)
    return Image.fromarray(np.where(pixels < 128, brighter, pixels))


RAND_AUGMENT: tuple[tuple[Operation, float, float], ...] = (
    (lambda picture, _, __: ImageOps.autocontrast(picture), 0, 1),
    (lambda picture, _, __: ImageOps.equalize(picture), 0, 1),
    (lambda picture, _, __: ImageOps.invert(picture), 0, 1),
    (lambda picture, degrees, random: picture.rotate(_either(degrees, random)), 0, 30),
    (lambda picture, bits, _: ImageOps.posterize(picture, max(1, int(bits))), 0, 4),
    (lambda picture, threshold, _: ImageOps.solarize(picture, int(threshold)), 0, 256),
    (_brighter_below_middle, 0, 110),
    (lambda picture, factor, _: ImageEnhance.Color(picture).enhance(factor), 0.1, 1.9),
    (lambda picture, factor, _: ImageEnhance.Contrast(picture).enhance(factor), 0.1, 1.9),
    (lambda picture, factor, _: ImageEnhance.Brightness(picture).enhance(factor), 0.1, 1.9),
    (lambda picture, factor, _: ImageEnhance.Sharpness(picture).enhance(factor), 0.1, 1.9),
    (lambda picture, shear, random: _moved(picture, (1, _either(shear, random), 0, 0, 1, 0)), 0, 0.3),
    (lambda picture, shear, random: _moved(picture, (1, 0, 0, _either(shear, random), 1, 0)), 0, 0.3),
    (_hole, 0, 40),
    (lambda picture, far, random: _moved(picture, (1, 0, _either(_pixels(picture, far), random), 0, 1, 0)), 0, 100),
    (lambda picture, far, random: _moved(picture, (1, 0, 0, 0, 1, _either(_pixels(picture, far), random))), 0, 100),
)
"""The operations of the package that the published code uses, each with the values of least and most strength.

Github ildoonet/pytorch-randaugment, after Google's table for EfficientNet.
"""
