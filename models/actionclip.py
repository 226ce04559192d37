"""ActionCLIP: a video and labels in plain words in, probabilities out."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from threading import Event
from typing import TYPE_CHECKING

from action_clip.errors import ActionClipError
from action_clip.models import AVERAGES, DEFAULT_MODEL
from action_clip.models.encoded import EncodedVideo, Results, answered, in_order, of_one
from action_clip.models.label_banks import LabelBanks, MakeBank, NoneTexts
from action_clip.models.model import Model, VideoPath
from action_clip.models.model_graphs import FoundModel, ModelGraphs
from action_clip.models.prediction import Failure, Prediction, Window, check_top_k
from action_clip.models.scoring import LabelBank, score
from action_clip.models.steps import encoding_of
from action_clip.system.background import run_in_background
from action_clip.tokenizer.prompts import is_template
from action_clip.video.views import ONE_VIEW

if TYPE_CHECKING:
    from action_clip.models.live import LiveTimeline
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
        self._banks = LabelBanks(graphs, self.prompts, average)
        super().__init__(graphs, *encoding_of(graphs.spec), prompts=self.prompts, average=average)

    def classify(
        self,
        video: "VideoInput",
        labels: Iterable[str] | LabelBank | None = None,
        *,
        none: NoneTexts = None,
        multi_label: bool = False,
        top_k: int = 5,
        sampling: str = "uniform",
        seed: int = 0,
        channels: str = "rgb",
        views: str = ONE_VIEW,
        thumbnails: bool = True,
    ) -> Prediction:
        """Predict which of the labels happens in the video.

        Args:
            video: a file, an http(s) URL, or frames already decoded: an array (T, H, W, 3) of uint8, or what else
                `video.inputs.read_frames` takes.
            labels: in plain words, at least one, repeated ones are used once; or the bank that `labels` returned; None:
                the classes that the model was trained on, where `action-clip train` made it.
            none, multi_label: as for `labels`; with a bank, they are its own.
            top_k: how many labels to rank; clamped to their number.
            sampling: "uniform", the official evaluation's frames; "random", one from each segment;
                "keyframes", the nearest ones, approximate.
            seed: for the random sampling.
            channels: the order of channels in arrays, "rgb" or "bgr".
            views: clips x crops, "10x3" for ten clips and three crops of their frames, as for `encode_video`; their
                probabilities are averaged.
            thumbnails: whether the prediction has the sampled frames.

        Raises:
            ActionClipError: anything wrong with the video, the labels or the model.
        """
        check_top_k(top_k)
        make_bank = self._banks.maker(labels, none, multi_label)
        with run_in_background(make_bank, concurrent=self._graphs.works_in_background) as future:
            encoded = self.encode_video(
                video, sampling=sampling, seed=seed, channels=channels, views=views, thumbnails=thumbnails
            )
        return self._scored(encoded, future.result(), top_k)

    def classify_many(
        self,
        videos: "Iterable[VideoInput]",
        labels: Iterable[str] | LabelBank | None = None,
        *,
        none: NoneTexts = None,
        multi_label: bool = False,
        top_k: int = 5,
        sampling: str = "uniform",
        seed: int = 0,
        channels: str = "rgb",
        views: str = ONE_VIEW,
        thumbnail: bool = False,
    ) -> Iterator[Prediction | Failure]:
        """Predict which of the labels happens in each of any number of videos, several at a time.

        Args:
            videos: as for `encode_many`.
            labels, none, multi_label, top_k, sampling, seed, channels, views: as for `classify`.
            thumbnail: whether predictions have a small frame near the middle of the video, for a report.

        Returns:
            An iterator as of `encode_many`, over predictions without other thumbnails.

        Raises:
            ActionClipError: anything wrong with the labels or the model.
        """
        make_bank = self._banks.maker(labels, none, multi_label)
        return in_order(
            self._classified(videos, make_bank, top_k, sampling, seed, channels, views, thumbnail, ordered=True)
        )

    def classify_as_completed(
        self,
        videos: "Iterable[VideoInput]",
        labels: Iterable[str] | LabelBank | None = None,
        *,
        none: NoneTexts = None,
        multi_label: bool = False,
        top_k: int = 5,
        sampling: str = "uniform",
        seed: int = 0,
        channels: str = "rgb",
        views: str = ONE_VIEW,
        thumbnail: bool = False,
    ) -> Results[Prediction]:
        """Predict as `classify_many`, and return pairs of a video's number, from 0, and result, as they finish."""
        make_bank = self._banks.maker(labels, none, multi_label)
        return self._classified(videos, make_bank, top_k, sampling, seed, channels, views, thumbnail, ordered=False)

    def _classified(
        self,
        videos: "Iterable[VideoInput]",
        make_bank: MakeBank,
        top_k: int,
        sampling: str,
        seed: int,
        channels: str,
        views: str,
        thumbnail: bool,
        *,
        ordered: bool,
    ) -> Results[Prediction]:
        check_top_k(top_k)
        encoded = self._encode_many(videos, sampling, seed, channels, views, ordered=ordered, thumbnail=thumbnail)

        def predictions() -> Results[Prediction]:
            bank = make_bank(Event())
            yield from answered(encoded, lambda video: self._scored(video, bank, top_k))

        return predictions()

    def timeline(
        self,
        video: VideoPath,
        labels: Iterable[str] | LabelBank | None = None,
        *,
        none: NoneTexts = None,
        multi_label: bool = False,
        window: float = 4.0,
        stride: float | None = None,
        top_k: int = 5,
    ) -> Iterator[Window]:
        """Predict what happens in each part of a video, however long it is.

        Frames lie on one grid of `spec.frames` a window, in the middle of its steps, and each is decoded and encoded
        once. Windows begin on the grid; the last one ends with the video, and a video that is shorter is one window.

        Args:
            video: a file or an http(s) URL.
            labels, none, multi_label, top_k: as for `classify`.
            window: length of the parts, in seconds.
            stride: from the beginning of one to that of the next, in seconds, at most `window`; None: half of it.

        Returns:
            An iterator over the windows, in order, as they are computed. Threads are started with the first one that is
            asked for, and end when the iterator is exhausted, closed or collected.

        Raises:
            ActionClipError: anything wrong with the video, the labels or the model; windows before are not lost.
        """
        windows = self.timelines(
            [video], labels, none=none, multi_label=multi_label, window=window, stride=stride, top_k=top_k
        )
        return of_one(windows)

    def timelines(
        self,
        videos: Iterable[VideoPath],
        labels: Iterable[str] | LabelBank | None = None,
        *,
        none: NoneTexts = None,
        multi_label: bool = False,
        window: float = 4.0,
        stride: float | None = None,
        top_k: int = 5,
    ) -> Results[Window]:
        """Predict as `timeline` for each of any number of videos.

        Returns:
            An iterator over pairs of a video's number, from 0, and a window of it, in order. Where a video cannot be
            read, or not to its end, its last pair has a Failure.

        Raises:
            ActionClipError: anything wrong with the labels or the model.
        """
        bank = self._banks.maker(labels, none, multi_label)(Event())
        return self._timelines(
            videos, bank.choices, lambda found: score(found.features, bank, found.logits), window, stride, top_k
        )

    def watch(
        self,
        source: int | VideoPath,
        labels: Iterable[str] | LabelBank | None = None,
        *,
        none: NoneTexts = None,
        multi_label: bool = False,
        window: float = 4.0,
        stride: float | None = None,
        top_k: int = 5,
    ) -> "LiveTimeline":
        """Predict what happens now, again and again: for a camera, a live stream, or a file at its own rate.

        Windows are as those of `timeline`. Each is answered as soon as its frames have come, or left out where a later
        one is complete by then. A connection that breaks is made again, for ever once a frame has come.

        Args:
            source: the number of a camera or its device; an address: rtsp, rtsps, rtmp, rtmps, udp, http or https; or
                a file.
            labels, none, multi_label, window, stride, top_k: as for `timeline`.

        Returns:
            An iterator over LiveWindow, which ends with the stream or by `stop`; leave it with `close`, or use it in a
            `with` block.

        Raises:
            ActionClipError: anything wrong with the labels or the model, or the source cannot be opened.
        """
        bank = self._banks.maker(labels, none, multi_label)(Event())
        return self._watch(
            source, bank.choices, lambda found: score(found.features, bank, found.logits), window, stride, top_k
        )

    def labels(
        self, labels: Iterable[str] | None = None, *, none: NoneTexts = None, multi_label: bool = False
    ) -> LabelBank:
        """Encode labels for any number of videos.

        Only texts that are not cached go through the text graph; where all are, it is not loaded.

        Args:
            labels: in plain words, at least one; repeated ones are used once. None: as for `classify`.
            none: texts that mean something else than the labels; True: the model's own, `spec.none_texts`. Their joint
                probability is that of one more answer, "none of these". Those that are labels are left out.
            multi_label: score each label by itself against these texts, by default the model's own, for actions that
                happen together. The probabilities do not sum to 1, and there is no "none of these".

        Raises:
            ActionClipError: a text is blank or too long for the model's 77 tokens, no text for none is left, or the
                graphs are not available.
        """
        return self._banks.maker(labels, none, multi_label)(Event())

    def predict(
        self,
        encoded: EncodedVideo,
        labels: Iterable[str] | LabelBank | None = None,
        *,
        none: NoneTexts = None,
        multi_label: bool = False,
        top_k: int = 5,
    ) -> Prediction:
        """Predict which of the labels happens in an encoded video.

        Args:
            encoded: what `encode_video` of this model returned.
            labels, none, multi_label, top_k: as for `classify`.

        Raises:
            ActionClipError: anything wrong with the labels, or another model has encoded the video.
        """
        check_top_k(top_k)
        self._check_encoded(encoded)
        return self._scored(encoded, self._banks.maker(labels, none, multi_label)(Event()), top_k)

    def _scored(self, encoded: EncodedVideo, bank: LabelBank, top_k: int) -> Prediction:
        encoded = replace(encoded, timings_s=encoded.timings_s | bank.timings_s)
        return self._prediction(
            encoded, bank.choices, partial(score, encoded.by_view.features, bank, encoded.by_view.logits), top_k
        )
