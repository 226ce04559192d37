"""Encoding labels to text features: from memory, from the cache on disk or through the text graph."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from action_clip.models.cache.text_feature_cache import TextFeatureCache, space_of
from action_clip.models.scoring import normalized
from action_clip.models.store.home import LABEL_BANK, cache_home
from action_clip.system.terminal import no_progress_bars
from action_clip.tokenizer.bpe import CONTEXT_LENGTH, default_tokenizer
from action_clip.tokenizer.prompts import fill_prompts

if TYPE_CHECKING:
    from action_clip.models.runtime.graph import Graph

# Texts between two look-ups in the cache: bounds the memory, and what an interrupted run loses.
_CHUNK = 512
_BAR_AFTER_S = 1.0

Features = NDArray[np.float32]


class LabelEncoder:
    """Encodes labels in the prompts of a model; features that are cached are not computed again."""

    def __init__(self, graph: "Graph", prompts: Sequence[str], average: str, *, cache: bool) -> None:
        """Choose the graph, the prompts and the average.

        Args:
            graph: the text graph; it is started only for texts that are not in the cache.
            prompts: templates with one `{}` each.
            average: one of models.AVERAGES.
            cache: keep features on disk too, and not only in memory: one for each text or, averaging embeddings, for
                each label.
        """
        self._graph = graph
        self._prompts = prompts
        self._is_mean = average == "embeddings"
        # Without the cache on disk, features are kept for this graph object alone, and its file is not hashed.
        parts = [graph.identity() if cache else graph.name]
        # Features depend on the tokens too, and means on all prompts.
        parts += [default_tokenizer().identity, *(prompts if self._is_mean else ())]
        folder = cache_home() if cache else None
        self._cache = TextFeatureCache(None if folder is None else folder / LABEL_BANK, space_of(*parts))

    def encode(self, labels: Sequence[str], stop: Event) -> Features:
        """Return the features of labels, L2-normalised: (prompts, labels, D), or (1, labels, D) averaging embeddings.

        Args:
            labels: at least one, as `unique_labels` returns them.
            stop: once it is set, encoding ends after the chunk in progress.

        Raises:
            ActionClipError: a label is too long for the model, or the text graph cannot run.
            CancelledError: `stop` was set.
        """
        step = max(_CHUNK // len(self._prompts), 1)
        chunks = [labels[first : first + step] for first in range(0, len(labels), step)]
        for chunk in chunks:
            self._require_fit(chunk)
        embeddings = np.empty((0, 0, 0), np.float32)
        first = 0
        for chunk in _with_progress(chunks):
            if stop.is_set():
                raise CancelledError
            features = self._chunk(chunk)
            if first == 0:
                embeddings = np.empty((features.shape[0], len(labels), features.shape[2]), np.float32)
            embeddings[:, first : first + len(chunk)] = features
            first += len(chunk)
        return embeddings

    def _require_fit(self, labels: Sequence[str]) -> None:
        """Raise ActionClipError for a label that is too long, before any is encoded."""
        # A byte is one token at most, unless cleaning the text adds bytes, which it does not to plain ASCII.
        longest = CONTEXT_LENGTH - 2 - max(len(prompt.encode()) for prompt in self._prompts)
        unsure = [label for label in labels if len(label) > longest or not label.isascii() or "&" in label]
        keys = unsure if self._is_mean else fill_prompts(self._prompts, unsure)
        if keys and len(self._cache.read(keys)) < len(set(keys)):
            default_tokenizer().encode(fill_prompts(self._prompts, unsure), unsure * len(self._prompts))

    def _chunk(self, labels: Sequence[str]) -> Features:
        if self._is_mean:
            return self._look_up(labels, self._means)[np.newaxis]
        texts = fill_prompts(self._prompts, labels)
        return self._look_up(texts, self._features).reshape(len(self._prompts), len(labels), -1)

    def _look_up(self, keys: Sequence[str], encode: Callable[[list[str]], Features]) -> Features:
        """Return the features of the keys, (keys, D); those that are not cached are encoded, and then cached."""
        cached = self._cache.read(keys)
        missing = [key for key in dict.fromkeys(keys) if key not in cached]
        if missing:
            encoded = {key: row.copy() for key, row in zip(missing, encode(missing), strict=True)}
            self._cache.write(encoded)
            cached |= encoded
        return np.stack([cached[key] for key in keys])

    def _means(self, labels: list[str]) -> Features:
        """Return the normalised mean over the prompts of each label, (labels, D)."""
        texts = self._features(fill_prompts(self._prompts, labels))
        return normalized(texts.reshape(len(self._prompts), len(labels), -1).mean(axis=0))

    def _features(self, texts: list[str]) -> Features:
        """Return the features of texts, (texts, D), L2-normalised, through the text graph."""
        from action_clip.models.runtime.graph import encode_tokens

        return normalized(encode_tokens(self._graph, default_tokenizer().encode(texts)))


def _with_progress(chunks: Sequence[Sequence[str]]) -> Iterator[Sequence[str]]:
    """Yield the chunks; where there are several and it takes longer than a second, a terminal shows a progress bar."""
    if len(chunks) == 1:
        yield from chunks
        return
    from tqdm import tqdm

    total = sum(map(len, chunks))
    with tqdm(
        total=total,
        desc="encoding labels",
        unit=" labels",
        delay=_BAR_AFTER_S,
        leave=False,
        disable=no_progress_bars(),
    ) as bar:
        for chunk in chunks:
            yield chunk
            bar.update(len(chunk))
