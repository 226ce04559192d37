"""Labels → the label bank, from what is kept of an earlier time or through the text graph."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from action_clip.models.cache.feature_memory import MEMORY
from action_clip.models.cache.label_bank import LabelBank, space_of
from action_clip.models.scoring import normalized
from action_clip.models.store.home import LABEL_BANK, cache_home
from action_clip.tokenizer.bpe import CONTEXT_LENGTH, default_tokenizer
from action_clip.tokenizer.prompts import fill_prompts

if TYPE_CHECKING:
    from action_clip.models.runtime.graph import Graph

# Texts at a time, from reading what is kept to keeping it: bounds the memory, and what an interrupted run loses.
_CHUNK = 512
_BAR_AFTER_S = 1.0

Features = NDArray[np.float32]


class LabelEncoder:
    """The text side of a model with its prompts."""

    def __init__(self, graph: "Graph", prompts: Sequence[str], average: str, *, keep: bool) -> None:
        """Choose the graph and what is made of its features.

        Args:
            graph: the text graph; it is started only when a label comes that was never seen before.
            prompts: templates with one `{}` each.
            average: one of recognizer.AVERAGES.
            keep: keep features on disk too, and not only in memory: of each text or, averaging embeddings, of each
                label.
        """
        self._graph = graph
        self._prompts = prompts
        self._is_mean = average == "embeddings"
        # Where nothing is kept, the graph need not be read to know it again: features are this object's own.
        parts = [graph.identity() if keep else graph.name]
        # Other tokens give other features, and so does another average of the same texts.
        parts += [default_tokenizer().identity, *(prompts if self._is_mean else ())]
        self._space = space_of(*parts)
        folder = cache_home() if keep else None
        self._bank = None if folder is None else LabelBank(folder / LABEL_BANK, self._space)

    def encode(self, labels: Sequence[str], stop: Event) -> Features:
        """(prompts, labels, D), L2-normalised; (1, labels, D) when averaging embeddings.

        Args:
            labels: clean, each once.
            stop: once it is set, the work ends with the chunk that it is at.

        Raises:
            ActionClipError: a label is too long for the model.
            CancelledError: `stop` was set.
        """
        step = max(_CHUNK // len(self._prompts), 1)
        chunks = [labels[first : first + step] for first in range(0, len(labels), step)]
        for chunk in chunks:
            self._require_fit(chunk)
        bank: Features | None = None
        first = 0
        for chunk in _with_progress(chunks):
            if stop.is_set():
                raise CancelledError
            features = self._chunk(chunk)
            if bank is None:
                bank = np.empty((features.shape[0], len(labels), features.shape[2]), np.float32)
            bank[:, first : first + len(chunk)] = features
            first += len(chunk)
        assert bank is not None
        return bank

    def _require_fit(self, labels: Sequence[str]) -> None:
        """Raise for what does not fit before anything is encoded, not in the midst of the work."""
        # A byte is a token at most, unless cleaning makes more of it: that it does of no plain ASCII.
        room = CONTEXT_LENGTH - 2 - max(len(prompt.encode()) for prompt in self._prompts)
        doubtful = [label for label in labels if len(label) > room or not label.isascii() or "&" in label]
        keys = doubtful if self._is_mean else fill_prompts(self._prompts, doubtful)
        if keys and len(self._known(keys)) < len(set(keys)):
            default_tokenizer().encode(fill_prompts(self._prompts, doubtful), doubtful * len(self._prompts))

    def _chunk(self, labels: Sequence[str]) -> Features:
        if self._is_mean:
            return self._remembered(labels, self._means)[np.newaxis]
        texts = fill_prompts(self._prompts, labels)
        return self._remembered(texts, self._features).reshape(len(self._prompts), len(labels), -1)

    def _remembered(self, keys: Sequence[str], encode: Callable[[list[str]], Features]) -> Features:
        """(keys, D): what is not known goes through `encode`, and is known from then on."""
        known = self._known(keys)
        missing = [key for key in dict.fromkeys(keys) if key not in known]
        if missing:
            fresh = {key: row.copy() for key, row in zip(missing, encode(missing), strict=True)}
            if self._bank is not None:
                self._bank.write(fresh)
            MEMORY.write(self._space, fresh)
            known |= fresh
        return np.stack([known[key] for key in keys])

    def _known(self, keys: Sequence[str]) -> dict[str, Features]:
        known = MEMORY.read(self._space, keys)
        missing = [key for key in dict.fromkeys(keys) if key not in known]
        if missing and self._bank is not None:
            kept = self._bank.read(missing)
            MEMORY.write(self._space, kept)
            known |= kept
        return known

    def _means(self, labels: list[str]) -> Features:
        texts = self._features(fill_prompts(self._prompts, labels))
        return normalized(texts.reshape(len(self._prompts), len(labels), -1).mean(axis=0))

    def _features(self, texts: list[str]) -> Features:
        from action_clip.models.runtime.graph import encode_tokens

        return normalized(encode_tokens(self._graph, default_tokenizer().encode(texts)))


def _with_progress(chunks: Sequence[Sequence[str]]) -> Iterator[Sequence[str]]:
    """The same, with a bar on the terminal where it takes a while."""
    if len(chunks) == 1:
        yield from chunks
        return
    from tqdm import tqdm

    total = sum(map(len, chunks))
    with tqdm(
        total=total, desc="encoding labels", unit=" labels", delay=_BAR_AFTER_S, leave=False, disable=None
    ) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk))
