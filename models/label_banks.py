"""Making the label banks of a model: labels and texts for none are checked, then encoded."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from threading import Event
from typing import cast

from action_clip.errors import ActionClipError
from action_clip.models.encoded import timed
from action_clip.models.model_graphs import ModelGraphs
from action_clip.models.scoring import LabelBank
from action_clip.tokenizer.prompts import (
    NONE_OF_THESE,
    fill_prompts,
    unique_labels,
    unique_none_texts,
    warn_about_equal_labels,
    warn_about_none_texts,
    without_labels,
)

NoneTexts = bool | Iterable[str] | None
"""Texts that mean something else than the labels; True: the model's own; None or False: no such texts."""

MakeBank = Callable[[Event], LabelBank]
"""Encodes labels; the event, once it is set, stops it."""


class LabelBanks:
    """Makes label banks with the text graph of one model, in its prompts."""

    def __init__(self, graphs: ModelGraphs, prompts: Sequence[str], average: str) -> None:
        """Choose the graphs, and prompts and average as for `LabelEncoder`."""
        self._graphs = graphs
        self._prompts = prompts
        self._average = average
        self._last: tuple[list[str], list[str]] = [], []

    def maker(self, labels: Iterable[str] | LabelBank | None, none: NoneTexts, multi_label: bool) -> MakeBank:
        """Check the labels, and return a function that encodes them; for a bank, one that returns it without timings.

        Args:
            labels, none, multi_label: as for `ActionClip.labels`.

        Raises:
            ActionClipError: the texts are not valid, or the bank is another model's, or is given with `none` or
                `multi_label`.
        """
        spec = self._graphs.spec
        if isinstance(labels, LabelBank):
            if labels.model not in ("", spec.name):
                raise ActionClipError(
                    f"the label bank is of the model {labels.model}, not of {spec.name}: make one with its own labels()"
                )
            if _has_none(none) or multi_label:
                raise ActionClipError("a label bank has its own none and multi_label: give them to labels() instead")
            bank = replace(labels, timings_s={})
            return lambda _: bank
        if labels is None and spec.classes:
            labels = spec.classes
        if not isinstance(labels, Iterable):
            raise ActionClipError(f"{spec.name} is a zero-shot model: give the labels to choose from")
        names = unique_labels(labels)
        none_texts = self._none_texts(names, none, multi_label)
        if not self._graphs.is_on_disk:
            # A label that is too long is an error before the download, not after it.
            from action_clip.tokenizer.bpe import default_tokenizer

            texts = [*names, *none_texts]
            default_tokenizer().encode(fill_prompts(self._prompts, texts), texts * len(self._prompts))
        return partial(self._encode, names, none_texts, multi_label)

    def _none_texts(self, labels: list[str], none: NoneTexts, multi_label: bool) -> list[str]:
        """Return the texts for none, without those that are labels; a warning names these.

        Raises ActionClipError where they are not valid, or nothing is left of them.
        """
        wanted: list[str] = []
        if _has_none(none) or multi_label:
            is_own = none is True or not _has_none(none)
            wanted = unique_none_texts(self._graphs.spec.none_texts if is_own else cast(Iterable[str], none))
            if not multi_label and NONE_OF_THESE in labels:
                raise ActionClipError(
                    f"'{NONE_OF_THESE}' is the answer that the texts for none stand for: give the label another name"
                )
        texts = without_labels(wanted, labels)
        if wanted and not texts:
            raise ActionClipError("each text for none is a label too: give others")
        # One warning for the same labels, however many videos they are used for.
        if (labels, wanted) != self._last:
            warn_about_equal_labels(labels)
            warn_about_none_texts([text for text in wanted if text not in texts])
            self._last = labels, wanted
        return texts

    def _encode(self, labels: Sequence[str], none_texts: Sequence[str], multi_label: bool, stop: Event) -> LabelBank:
        from action_clip.models.label_encoder import LabelEncoder

        graphs, timings = self._graphs, dict[str, float]()
        with timed(timings, "text"):
            encoder = LabelEncoder(graphs["text"], self._prompts, self._average, cache=graphs.cache)
            embeddings = encoder.encode([*labels, *none_texts], stop)
        return LabelBank(
            labels=tuple(labels),
            embeddings=embeddings,
            logit_scale=graphs.spec.logit_scale,
            model=graphs.spec.name,
            timings_s=timings,
            none_texts=tuple(none_texts),
            is_multi_label=multi_label,
            head_classes=graphs.spec.classes,
        )


def _has_none(none: NoneTexts) -> bool:
    """Return whether texts for none are asked for."""
    return none is not None and none is not False
