"""ActionCLIP: a video and labels in plain words in, probabilities out."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models import AVERAGES, DEFAULT_MODEL
from action_clip.models.encoded import EncodedClips, EncodedVideo, Results, answered, in_order
from action_clip.models.model import Model
from action_clip.models.model_graphs import FoundModel, ModelGraphs
from action_clip.models.prediction import Failure, Prediction, check_top_k
from action_clip.models.scoring import LabelBank, normalized, score
from action_clip.models.video_encoder import timed
from action_clip.system.background import run_in_background
from action_clip.tokenizer.prompts import fill_prompts, is_template, unique_labels, warn_about_equal_labels

if TYPE_CHECKING:
    from action_clip.video.inputs import VideoInput


class ActionClip(Model):
    """A zero-shot model: `ActionClip("nano").classify("video.mp4", ["drinking", "eating"])`.

    Labels are encoded once for many videos, and a video once for many sets of labels:

        with ActionClip("nano") as model:
            bank = model.labels(["drinking", "eating"])
            predictions = [model.classify(path, bank) for path in paths]
            video = model.encode_video("video.mp4")
            predictions = [model.predict(video, labels) for labels in label_sets]

    The constructor is cheap: graphs that are published and not on this disk are downloaded, and sessions are made, when
    they are first needed.
    """

    kind = "zero-shot"
    """The kind of catalog model that this class runs."""

    def __init__(
        self,
        model: str | os.PathLike[str] | FoundModel = DEFAULT_MODEL,
        *,
        device: str = "auto",
        threads: int | None = None,
        prompts: Iterable[str] | None = None,
        average: str = AVERAGES[0],
        cache: bool = True,
        prepack: bool = True,
    ) -> None:
        """Choose the model and how it runs.

        Args:
            model: a name from the catalog, a folder with three exported graphs, or what `find_model` returns.
            device: "cpu", "cuda", "openvino", "coreml", …: an execution provider of the installed onnxruntime; "auto":
                the best one that starts.
            threads: CPU threads for decoding and for the graphs, at most one a core; None: one a core.
            prompts: templates with one `{}` each, in place of the model's own.
            average: "probabilities" takes one softmax a prompt and averages them (ActionCLIP); "embeddings" averages
                the prompts' features, then takes one softmax (open_clip).
            cache: keep text features, and graphs as they are optimised for this machine, on disk between runs; without
                it, text features are kept in memory, for this object alone.
            prepack: pack the weights for the processor's matrix products when the sessions are made. Without it they
                start in a tenth of the time and each clip takes some percent longer, which is faster for one video.

        Raises:
            ActionClipError: unknown model, device, average, or malformed prompts.
        """
        graphs = ModelGraphs(model, self.kind, device=device, threads=threads, cache=cache, prepack=prepack)
        if average not in AVERAGES:
            raise ActionClipError(f"average is '{average}': choose {' or '.join(AVERAGES)}")
        if isinstance(prompts, str):
            raise ActionClipError(f"prompts is one string, {prompts!r}: give a list of templates")
        self.prompts = graphs.spec.prompts if prompts is None else tuple(prompts)
        if not self.prompts or not all(map(is_template, self.prompts)):
            raise ActionClipError("prompts must be templates with exactly one {} each")
        self.average = average
        self._last_labels: list[str] = []
        super().__init__(graphs, encode_frames, prompts=self.prompts, average=average)

    def classify(
        self,
        video: "VideoInput",
        labels: Iterable[str] | LabelBank,
        *,
        top_k: int = 5,
        sampling: str = "uniform",
        seed: int = 0,
        channels: str = "rgb",
        thumbnails: bool = True,
    ) -> Prediction:
        """Predict which of the labels happens in the video.

        Args:
            video: a file, an http(s) URL, or frames already decoded: an array (T, H, W, 3) of uint8, or what else
                `video.inputs.read_frames` takes.
            labels: in plain words, at least one, repeated ones are used once; or the bank that `labels` returned.
            top_k: how many labels to rank; clamped to their number.
            sampling: "uniform", the official evaluation's frames; "random", one from each segment;
                "keyframes", the nearest ones, approximate.
            seed: for the random sampling.
            channels: the order of channels in arrays, "rgb" or "bgr".
            thumbnails: whether the prediction has the sampled frames.

        Raises:
            ActionClipError: anything wrong with the video, the labels or the model.
        """
        check_top_k(top_k)
        make_bank = self._bank_maker(labels)
        with run_in_background(make_bank, concurrent=self._graphs.works_in_background) as future:
            encoded = self.encode_video(video, sampling=sampling, seed=seed, channels=channels, thumbnails=thumbnails)
        return self._scored(encoded, future.result(), top_k)

    def classify_many(
        self,
        videos: "Iterable[VideoInput]",
        labels: Iterable[str] | LabelBank,
        *,
        top_k: int = 5,
        sampling: str = "uniform",
        seed: int = 0,
        channels: str = "rgb",
    ) -> Iterator[Prediction | Failure]:
        """Predict which of the labels happens in each of any number of videos, several at a time.

        Args:
            videos: as for `encode_many`.
            labels, top_k, sampling, seed, channels: as for `classify`.

        Returns:
            An iterator as of `encode_many`, over predictions without thumbnails.

        Raises:
            ActionClipError: anything wrong with the labels or the model.
        """
        return in_order(self._classified(videos, labels, top_k, sampling, seed, channels, ordered=True))

    def classify_as_completed(
        self,
        videos: "Iterable[VideoInput]",
        labels: Iterable[str] | LabelBank,
        *,
        top_k: int = 5,
        sampling: str = "uniform",
        seed: int = 0,
        channels: str = "rgb",
    ) -> Results[Prediction]:
        """Predict as `classify_many`, and return pairs of a video's number, from 0, and result, as they finish."""
        return self._classified(videos, labels, top_k, sampling, seed, channels, ordered=False)

    def _classified(
        self,
        videos: "Iterable[VideoInput]",
        labels: Iterable[str] | LabelBank,
        top_k: int,
        sampling: str,
        seed: int,
        channels: str,
        *,
        ordered: bool,
    ) -> Results[Prediction]:
        check_top_k(top_k)
        make_bank = self._bank_maker(labels)
        encoded = self._encode_many(videos, sampling, seed, channels, ordered=ordered)

        def predictions() -> Results[Prediction]:
            bank = make_bank(Event())
            yield from answered(encoded, lambda video: self._scored(video, bank, top_k))

        return predictions()

    def labels(self, labels: Iterable[str]) -> LabelBank:
        """Encode labels for any number of videos.

        Only texts that are not cached go through the text graph; where all are, it is not loaded.

        Args:
            labels: in plain words, at least one; repeated ones are used once.

        Raises:
            ActionClipError: a label is blank or too long for the model's 77 tokens, or the graphs are not available.
        """
        return self._bank_maker(labels)(Event())

    def predict(self, encoded: EncodedVideo, labels: Iterable[str] | LabelBank, *, top_k: int = 5) -> Prediction:
        """Predict which of the labels happens in an encoded video.

        Args:
            encoded: what `encode_video` of this model returned.
            labels, top_k: as for `classify`.

        Raises:
            ActionClipError: anything wrong with the labels, or another model has encoded the video.
        """
        check_top_k(top_k)
        self._check_encoded(encoded)
        return self._scored(encoded, self._bank_maker(labels)(Event()), top_k)

    def _scored(self, encoded: EncodedVideo, bank: LabelBank, top_k: int) -> Prediction:
        encoded = replace(encoded, timings_s=encoded.timings_s | bank.timings_s)
        return self._prediction(encoded, bank.labels, partial(score, encoded.features, bank), top_k)

    def _bank_maker(self, labels: Iterable[str] | LabelBank) -> Callable[[Event], LabelBank]:
        """Check the labels, and return a function that encodes them; for a bank, one that returns it without timings.

        Raises ActionClipError where they are not valid labels, or the bank is another model's.
        """
        if isinstance(labels, LabelBank):
            if labels.model not in ("", self.spec.name):
                raise ActionClipError(
                    f"the label bank is of the model {labels.model}, not of {self.spec.name}: make one with its own "
                    "labels()"
                )
            bank = replace(labels, timings_s={})
            return lambda _: bank
        if not isinstance(labels, Iterable):
            raise ActionClipError(f"{self.spec.name} is a zero-shot model: give the labels to choose from")
        names = unique_labels(labels)
        # One warning for the same labels, however many videos they are used for.
        if names != self._last_labels:
            warn_about_equal_labels(names)
            self._last_labels = names
        if not self._graphs.is_on_disk:
            # A label that is too long is an error before the download, not after it.
            from action_clip.tokenizer.bpe import default_tokenizer

            default_tokenizer().encode(fill_prompts(self.prompts, names), names * len(self.prompts))
        return partial(self._encode_labels, names)

    def _encode_labels(self, labels: Sequence[str], stop: Event) -> LabelBank:
        from action_clip.models.label_encoder import LabelEncoder

        timings: dict[str, float] = {}
        with timed(timings, "text"):
            encoder = LabelEncoder(self._graphs["text"], self.prompts, self.average, cache=self._graphs.cache)
            embeddings = encoder.encode(labels, stop)
        return LabelBank(tuple(labels), embeddings, self.spec.logit_scale, self.spec.name, timings)


def encode_frames(graphs: ModelGraphs, clips: NDArray[np.float32]) -> EncodedClips:
    """Run the image graph on every frame, and the fusion graph on the frame features of each clip.

    Args:
        graphs: of a zero-shot model.
        clips: (N, T, 3, S, S) float32.

    Raises:
        ActionClipError: the graphs are not available, or a run fails.
    """
    timings: dict[str, float] = {}
    with timed(timings, "image"):
        frame_features = graphs["image"](clips.reshape(-1, *clips.shape[2:])).reshape(*clips.shape[:2], -1)
    with timed(timings, "fusion"):
        features = normalized(graphs["fusion"](frame_features))
    return EncodedClips(
        features=features,
        frame_features=None if graphs.spec.temporal else frame_features,
        logits=np.empty((len(clips), 0), np.float32),
        timings_s=timings,
    )
