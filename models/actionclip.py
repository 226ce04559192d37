"""ActionCLIP: a video and labels in plain words in, probabilities out."""

import os
from collections.abc import Iterable, Sequence
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.model import Encoding, Model, Video, timed
from action_clip.models.prediction import Prediction, check_top_k
from action_clip.models.scoring import normalized, score
from action_clip.system.background import run_in_background
from action_clip.tokenizer.prompts import fill_prompts, is_template, unique_labels, warn_about_equal_labels

DEFAULT_MODEL = "vit-32-8f"
AVERAGES = ("probabilities", "embeddings")


class ActionClip(Model):
    """A zero-shot recogniser: `ActionClip("nano").classify("video.mp4", ["drinking", "eating"])`.

    Making one is cheap; graphs are found (and downloaded, where they are published and not on this disk) and their
    sessions created when they are first needed.
    """

    kind = "zero-shot"

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        device: str = "cpu",
        threads: int | None = None,
        prompts: Iterable[str] | None = None,
        average: str = "probabilities",
        cache: bool = True,
    ) -> None:
        """Choose the model and how it runs.

        Args:
            model: a name from the catalog, or a folder with three exported graphs.
            device: "cpu", "cuda", "openvino", "coreml", …: an execution provider of the installed onnxruntime.
            threads: of the CPU for decoding and for the graphs, at most one a core; None: all.
            prompts: templates with one `{}` each, in place of the model's own.
            average: "probabilities" takes one softmax a prompt and averages them (ActionCLIP); "embeddings" averages
                the prompts' features, then takes one softmax (open_clip).
            cache: keep text features, and graphs as they are optimised for this machine, on disk between runs; without
                it, text features are kept in memory, for this object alone.

        Raises:
            ActionClipError: unknown model, device, average, or malformed prompts.
        """
        super().__init__(model, device, threads, cache)
        if average not in AVERAGES:
            raise ActionClipError(f"average is '{average}': choose {' or '.join(AVERAGES)}")
        self.prompts = self.spec.prompts if prompts is None else tuple(prompts)
        if not self.prompts or not all(map(is_template, self.prompts)):
            raise ActionClipError("prompts must be templates with exactly one {} each")
        self.average = average
        self._last_labels: list[str] = []

    def _arguments(self) -> dict[str, Any]:
        return super()._arguments() | {"prompts": self.prompts, "average": self.average}

    def classify(
        self,
        video: Video,
        labels: Iterable[str] | None = None,
        *,
        top_k: int = 5,
        sampling: str = "uniform",
        seed: int = 0,
    ) -> Prediction:
        """Say which of the labels happens in the video.

        Args:
            video: a file, an http(s) URL, or frames already decoded, (T, H, W, 3) uint8 RGB.
            labels: in plain words, at least one; repeated ones are used once.
            top_k: how many of them to rank; clamped to the number of labels.
            sampling: "uniform", the official evaluation's frames; "random", one from each segment;
                "keyframes", the nearest ones, approximate.
            seed: of the random sampling.

        Raises:
            ActionClipError: anything wrong with the video, the labels or the model.
        """
        if labels is None:
            raise ActionClipError(f"{self.spec.name} is a zero-shot model: give the labels to choose from")
        labels = self._clean(labels)
        check_top_k(top_k)
        if not self._is_on_disk():
            # A label that does not fit is better known of before the download than after it.
            from action_clip.tokenizer.bpe import default_tokenizer

            default_tokenizer().encode(fill_prompts(self.prompts, labels), labels * len(self.prompts))
        timings: dict[str, float] = {}
        with run_in_background(
            lambda stop: self._bank(labels, stop, timings), concurrent=self._works_side_by_side()
        ) as found:
            encoded = self.encode_video(video, sampling=sampling, seed=seed)
        bank = found.result()
        timings = encoded.timings_s | timings
        with timed(timings, "score"):
            probabilities = score(encoded.features, bank, self.spec.logit_scale)
        return self._prediction(labels, probabilities, top_k, encoded, timings)

    def encode_clip(self, tensor: NDArray[np.float32], timings_s: dict[str, float] | None = None) -> Encoding:
        timings = {} if timings_s is None else timings_s
        with timed(timings, "image"):
            frame_features = self._graph("image")(tensor)
        with timed(timings, "fusion"):
            features = self._graph("fusion")(frame_features[np.newaxis])[0]
        return Encoding(normalized(features), None)

    def encode_labels(self, labels: Iterable[str]) -> NDArray[np.float32]:
        """The label bank: (prompts, labels, D) float32, L2-normalised; (1, labels, D) when averaging embeddings.

        Only texts that were never seen before, or are no longer kept, go through the text graph; when there are none it
        is not loaded.

        Raises:
            ActionClipError: a label is blank or too long for the model's 77 tokens.
        """
        return self._bank(self._clean(labels), Event(), {})

    def _clean(self, labels: Iterable[str]) -> list[str]:
        labels = unique_labels(labels)
        # Said once, however many videos they are for.
        if labels != self._last_labels:
            warn_about_equal_labels(labels)
            self._last_labels = labels
        return labels

    def _bank(self, labels: Sequence[str], stop: Event, timings_s: dict[str, float]) -> NDArray[np.float32]:
        from action_clip.models.label_encoder import LabelEncoder

        with timed(timings_s, "text"):
            encoder = LabelEncoder(self._graph("text"), self.prompts, self.average, keep=self._keep)
            return encoder.encode(labels, stop)
