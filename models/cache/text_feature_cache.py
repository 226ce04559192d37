"""Text features that were computed before: in memory, and behind it on disk."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from action_clip.models.cache.feature_memory import MEMORY
from action_clip.models.cache.text_feature_file import MARK, TextFeatureFile


def space_of(*parts: str) -> str:
    """The name of a space: of all that a text's feature depends on besides the text."""
    return f"{MARK} {hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}"


class TextFeatureCache:
    """(text) → feature within one space: first the memory of the process, then, if there is one, a file."""

    def __init__(self, path: Path | None, space: str) -> None:
        self.space = space
        self._file = None if path is None else TextFeatureFile(path, space)

    def read(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The features (D,) of those texts that are known."""
        known = MEMORY.read(self.space, texts)
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing and self._file is not None:
            stored = self._file.read(missing)
            MEMORY.write(self.space, stored)
            known |= stored
        return known

    def write(self, features: Mapping[str, NDArray[np.float32]]) -> None:
        """Store these features, which must not be views of larger arrays."""
        if self._file is not None:
            self._file.write(features)
        MEMORY.write(self.space, features)
