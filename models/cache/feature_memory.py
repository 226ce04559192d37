"""Text features in memory: a process encodes a label once even where nothing can be stored on disk."""

import sys
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from threading import RLock

import numpy as np
from numpy.typing import NDArray

from action_clip.system.forks import hold_during_forks

_MOST_BYTES = 64 << 20
# Bytes of the objects that hold a text and its numbers: the array, the key, and the dictionary's entry.
_OVERHEAD_BYTES = 400


class FeatureMemory:
    """A bounded map from (space, text) to feature: the least recently used features are removed first.

    Any thread may use it. The arrays are shared and must not be changed.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._rows: OrderedDict[tuple[str, str], NDArray[np.float32]] = OrderedDict()
        self._bytes = 0
        self.lock = RLock()

    def read(self, space: str, texts: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """Return the features, (D,) float32, of those texts that are stored, by text."""
        known = {}
        with self.lock:
            for text in texts:
                key = (space, text)
                if key in self._rows:
                    self._rows.move_to_end(key)
                    known[text] = self._rows[key]
        return known

    def write(self, space: str, features: Mapping[str, NDArray[np.float32]]) -> None:
        """Store these features, which must not be views of larger arrays."""
        with self.lock:
            for text, feature in features.items():
                key = (space, text)
                if key not in self._rows:
                    self._bytes += _bytes_of(text, feature)
                    self._rows[key] = feature
            while self._bytes > self.most_bytes:
                (_, text), feature = self._rows.popitem(last=False)
                self._bytes -= _bytes_of(text, feature)

    def clear(self) -> None:
        """Remove all features."""
        with self.lock:
            self._rows.clear()
            self._bytes = 0


def _bytes_of(text: str, feature: NDArray[np.float32]) -> int:
    return sys.getsizeof(text) + feature.nbytes + _OVERHEAD_BYTES


MEMORY = FeatureMemory()
"""The memory of this process, for all of its models."""

hold_during_forks(MEMORY.lock)
