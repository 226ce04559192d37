"""The cache of text features: in memory and, where it is wanted, on disk."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from action_clip.models.cache.feature_memory import MEMORY
from action_clip.models.cache.text_feature_file import MARK, TextFeatureFile


def space_of(*parts: str) -> str:
    """Return the name of a space, a hash of all that a text's feature depends on besides the text."""
    return f"{MARK} {hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}"


class TextFeatureCache:
    """A map from text to feature in one space: first in the process's memory, then in the file, if there is one."""

    def __init__(self, path: Path | None, space: str) -> None:
        self.space = space
        self._file = None if path is None else TextFeatureFile(path, space)

    def read(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the features, (D,) float32, of those texts that are cached, by text."""
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
