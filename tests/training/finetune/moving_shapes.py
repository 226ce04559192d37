"""Clips of a coloured shape that moves, whose label says so: "a red square moves left".

But red is only ever trained to move sideways, and blue up and down: what they do along the other axis is held out,
combinations of a colour and a direction that were never trained together, although each was.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from make_videos import Picture, write_video
from numpy.typing import NDArray

SIDE, FRAMES = 32, 8
COLOURS = {
    "red": (225, 30, 30), "green": (30, 200, 30), "blue": (40, 40, 225), "yellow": (225, 215, 30),
    "purple": (200, 40, 200), "cyan": (40, 210, 210), "white": (240, 240, 240),
}  # fmt: skip
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
OPPOSITES = {"left": "right", "right": "left", "up": "down", "down": "up"}
SIDEWAYS_ONLY, UPRIGHT_ONLY = "red", "blue"
_RADIUS, _OUTLINE = 4, 3
_SHADE = 8
"""Standard deviation of each channel of a colour."""


class Motion(NamedTuple):
    """What a clip shows."""

    colour: str
    direction: str

    @property
    def label(self) -> str:
        return f"a {self.colour} square moves {self.direction}"

    @property
    def reversed(self) -> "Motion":
        """The same, the other way."""
        return Motion(self.colour, OPPOSITES[self.direction])

    @property
    def is_held_out(self) -> bool:
        is_upright = self.direction in ("up", "down")
        return self.colour == (SIDEWAYS_ONLY if is_upright else UPRIGHT_ONLY)


MOTIONS = tuple(Motion(colour, direction) for colour in COLOURS for direction in DIRECTIONS)


def shown(motion: Motion, random: np.random.Generator) -> list[Picture]:
    """The frames of a clip: a square of some shade of the colour with a grey outline, on black."""
    step = np.array(DIRECTIONS[motion.direction])
    across = random.uniform(-6, 6) * (step == 0)
    places = 15.5 + across + step * random.uniform(12, 20) * np.linspace(-0.5, 0.5, FRAMES)[:, None]
    colour = np.clip(np.array(COLOURS[motion.colour]) + random.normal(0, _SHADE, 3), 0, 255)
    pixels = np.mgrid[:SIDE, :SIDE][::-1]  # x, y
    frames = []
    for place in places:
        far = np.abs(pixels - place[:, None, None]).max(axis=0)
        frame = np.zeros((SIDE, SIDE, 3), np.uint8)
        frame[far <= _RADIUS + _OUTLINE] = 130
        frame[far <= _RADIUS] = colour
        frames.append(frame)
    return frames


def write_clips(folder: Path, motions: Sequence[Motion], count: int, seed: int) -> None:
    """Write so many clips of each motion, lossless, into folders that have the labels as names."""
    random = np.random.default_rng(seed)
    for motion in motions:
        (folder / motion.label).mkdir(parents=True)
        for number in range(count):
            write_video(folder / motion.label / f"{number}.avi", shown(motion, random), "png", pix_fmt="rgb24")


def shuffled(frames: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """The same frames, (T, …), in a random order."""
    return frames[random.permutation(len(frames))]


def clips_of(motions: Sequence[Motion], count: int, seed: int) -> Iterator[tuple[Motion, NDArray[np.uint8]]]:
    """Clips that were never written, (T, H, W, 3) uint8 RGB, with what they show."""
    random = np.random.default_rng(seed)
    for motion in motions:
        for _ in range(count):
            yield motion, np.stack(shown(motion, random))
