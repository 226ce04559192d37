"""Text features on disk, in an sqlite file, so that a label is encoded once and not in every run."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from action_clip.models.cache.blob_file import BlobFile, Layout

MOST_BYTES = 256 << 20
"""Most bytes of the file, exceeded by at most one write: 107,000 features of 512 numbers, 2.5 KB each in all."""
MARK = "action_clip.py label bank"
"""A text in the table's definition and in each row, by which the remains of a damaged file are recognised."""
_LAYOUT = Layout(
    name="label bank",
    loss="labels are encoded anew in every run",
    mark=MARK,
    table="features",
    key="text",
    blob="vector",
    definition=f"""CREATE TABLE features ( -- {MARK}, which can be deleted
    space TEXT NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL, seal BLOB NOT NULL, used INTEGER NOT NULL,
    UNIQUE (space, text)
)""",
    settings=("page_size = 16384",),  # several whole rows fit into a page, with little space lost
    use_step_s=24 * 3600,
    older=("label_bank.sqlite3",),
)
# How far from 1 the norm of a feature may be, as float32 rounds.
_ROUNDING = 1e-3


class TextFeatureFile:
    """A map from text to feature in a BlobFile: no error of the file is raised, and any thread may use it."""

    def __init__(self, path: Path, space: str) -> None:
        """Choose the file, and the space: a name of all that a feature depends on but its text."""
        self._file = BlobFile(path, space, _LAYOUT, MOST_BYTES, _features)

    def read(self, texts: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """Return the features, (D,) float32, of those texts that are in the file, by text."""
        return self._file.read(texts)

    def write(self, features: Mapping[str, NDArray[np.float32]]) -> None:
        """Store these features, by text; none of them where the file cannot be written."""
        self._file.write(
            {text: np.ascontiguousarray(feature, dtype="<f4").tobytes() for text, feature in features.items()}
        )


def _features(blobs: Mapping[str, bytes]) -> dict[str, NDArray[np.float32]]:
    """Return the features that are in blobs, by text.

    Raises ValueError where they are not as a text graph gives them.
    """
    features = {text: _feature(blob) for text, blob in blobs.items()}
    if len({len(feature) for feature in features.values()}) > 1:
        raise ValueError("features of different lengths")
    return features


def _feature(blob: bytes) -> NDArray[np.float32]:
    if len(blob) % 4:
        raise ValueError("a feature that is cut off")
    feature = np.frombuffer(blob, dtype="<f4").astype(np.float32)
    if not abs(float(feature @ feature) - 1) < _ROUNDING:
        raise ValueError("a feature that is not normalised")
    return feature
