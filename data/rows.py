"""What folders, tables and lists have in common: each names clips in rows."""

import re
from dataclasses import dataclass

from action_clip.errors import ActionClipError

MOST_BYTES = 256 << 20
"""Most bytes of a table or list: Kinetics-700's has 30 MB."""
_SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validate", "validation", "dev"),
    "test": ("test", "testing"),
}
_UCF101 = re.compile(r"v_(\w+?)_g(\d+)_c\d+")
_HMDB51 = re.compile(r"(.+)_[fhlu]_[cn]m_np\d_(?:ba|fr|le|ri)_(?:bad|med|goo)_\d+")
_KINETICS = re.compile(r"(.{11})_\d{6}_\d{6}")


@dataclass(frozen=True)
class Row:
    """A clip as the data name it.

    Attributes:
        name: of its file, as it is written, perhaps without extension.
        labels: names of classes, or their ids as text.
        where: "line 5 of clips.csv", for messages.
        split, group, start_s, end_s: as for `Example`.
        cut: the name that the file has where the part from `start_s` to `end_s` was cut out, as Kinetics' clips are.
    """

    name: str
    labels: tuple[str, ...]
    where: str
    split: str | None = None
    group: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    cut: str | None = None


def split_name(text: str) -> str | None:
    """Return the split of a name such as "validation"; None for other names."""
    text = text.strip().casefold()
    return next((split for split, names in _SPLIT_NAMES.items() if text in names), None)


def read_split(text: str, where: str) -> str | None:
    """Return the split that a cell names; None for an empty one. Raises ActionClipError for others."""
    if not text.strip():
        return None
    if (split := split_name(text)) is None:
        raise ActionClipError(f"{where} has '{text}' for a split: write train, val or test")
    return split


def group_of(stem: str) -> str | None:
    """Return the group that the name of a file carries, without its extension; None for other names.

    UCF101's `v_Archery_g01_c02`: the class and gNN. HMDB51's `April_09_brush_hair_u_nm_np1_ba_goo_0`: the film and the
    action. Kinetics' `ID_000010_000020`: the video.
    """
    if match := _UCF101.fullmatch(stem):
        return f"{match[1]} g{match[2]}"
    if (match := _HMDB51.fullmatch(stem)) or (match := _KINETICS.fullmatch(stem)):
        return match[1]
    return None
