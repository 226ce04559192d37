"""A model with classes of its own: a video in, their probabilities out."""

import os
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from action_clip.models.classmap import ClassMap, class_names
from action_clip.models.encoded import EncodedVideo, Results, answered, in_order, of_one
from action_clip.models.model import Model, VideoPath
from action_clip.models.model_graphs import FoundModel, ModelGraphs
from action_clip.models.prediction import Failure, Prediction, Window, check_top_k
from action_clip.models.scoring import Choices, score_logits
from action_clip.models.steps import encoding_of
from action_clip.video.views import ONE_VIEW

if TYPE_CHECKING:
    from action_clip.video.inputs import VideoInput


class ClosedSetModel(Model):
    """A model for the classes that it was trained on: `ClosedSetModel("my-model/").classify("video.mp4")`."""

    kind = "closed-set"
    """The kind of catalog model that this class runs."""

    def __init__(
        self,
        model: str | os.PathLike[str] | FoundModel,
        *,
        device: str = "auto",
        threads: int | None = None,
        classmap: ClassMap | None = None,
        cache: bool = True,
        prepack: bool = True,
    ) -> None:
        """Choose the model and how it runs.

        Args:
            model: a name from the catalog, a folder that `action-clip export` or `action-clip train` made, or what
                `find_model` returns.
            device: "cpu", "cuda", "openvino", "coreml", …: an execution provider of the installed onnxruntime; "auto":
                the best one that starts.
            threads: CPU threads for decoding and for the graph, at most one a core; None: one a core.
            classmap: {name: index} or {index: name}, in place of the model's own names.
            cache: keep the graph, as it is optimised for this machine, on disk between runs.
            prepack: pack the weights for the processor's matrix products when the sessions are made. Without it they
                start in a tenth of the time and each clip takes some percent longer, which is faster for one video.

        Raises:
            ActionClipError: unknown model or device, or a class map that does not name each class.
        """
        graphs = ModelGraphs(model, self.kind, device=device, threads=threads, cache=cache, prepack=prepack)
        super().__init__(graphs, *encoding_of(graphs.spec), classmap=classmap)
        self.classes = self.spec.classes
        if classmap is not None:
            self.classes = tuple(class_names(classmap, len(self.spec.classes)))
        self._score = partial(score_logits, is_multi_label=self.spec.is_multi_label)

    def classify(
        self,
        video: "VideoInput",
        *,
        top_k: int = 5,
        sampling: str = "uniform",
        seed: int = 0,
        channels: str = "rgb",
        views: str = ONE_VIEW,
        thumbnails: bool = True,
    ) -> Prediction:
        """Predict which of the model's classes happens in the video.

        Args:
            video: a file, an http(s) URL, or frames already decoded: an array (T, H, W, 3) of uint8, or what else
                `video.inputs.read_frames` takes.
            top_k: how many classes to rank; clamped to their number.
            sampling: "uniform", the model's own rule; "random", one frame from each segment; "keyframes", the nearest
                ones, approximate.
            seed: for the random sampling.
            channels: the order of channels in arrays, "rgb" or "bgr".
            views: clips x crops, "10x3" for ten clips and three crops of their frames, as for `encode_video`; their
                probabilities are averaged.
            thumbnails: whether the prediction has the sampled frames.

        Raises:
            ActionClipError: anything wrong with the video or the model.
        """
        check_top_k(top_k)
        encoded = self.encode_video(
            video, sampling=sampling, seed=seed, channels=channels, views=views, thumbnails=thumbnails
        )
        return self.predict(encoded, top_k=top_k)

    def classify_many(
        self,
        videos: "Iterable[VideoInput]",
        *,
        top_k: int = 5,
        sampling: str = "uniform",
        seed: int = 0,
        channels: str = "rgb",
        views: str = ONE_VIEW,
        thumbnail: bool = False,
    ) -> Iterator[Prediction | Failure]:
        """Predict which of the model's classes happens in each of any number of videos, several at a time.

        Args:
            videos: as for `encode_many`.
            top_k, sampling, seed, channels, views: as for `classify`.
            thumbnail: whether predictions have a small frame near the middle of the video, for a report.

        Returns:
            An iterator as of `encode_many`, over predictions without other thumbnails.

        Raises:
            ActionClipError: anything wrong with the model.
        """
        return in_order(self._classified(videos, top_k, sampling, seed, channels, views, thumbnail, ordered=True))

    def classify_as_completed(
        self,
        videos: "Iterable[VideoInput]",
        *,
        top_k: int = 5,
        sampling: str = "uniform",
        seed: int = 0,
        channels: str = "rgb",
        views: str = ONE_VIEW,
        thumbnail: bool = False,
    ) -> Results[Prediction]:
        """Predict as `classify_many`, and return pairs of a video's number, from 0, and result, as they finish."""
        return self._classified(videos, top_k, sampling, seed, channels, views, thumbnail, ordered=False)

    def _classified(
        self,
        videos: "Iterable[VideoInput]",
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
        return answered(encoded, partial(self.predict, top_k=top_k))

    def timeline(
        self, video: VideoPath, *, window: float = 4.0, stride: float | None = None, top_k: int = 5
    ) -> Iterator[Window]:
        """Predict what happens in each part of a video: as `ActionClip.timeline`."""
        return of_one(self.timelines([video], window=window, stride=stride, top_k=top_k))

    def timelines(
        self, videos: Iterable[VideoPath], *, window: float = 4.0, stride: float | None = None, top_k: int = 5
    ) -> Results[Window]:
        """Predict as `timeline` for each of any number of videos: as `ActionClip.timelines`."""
        return self._timelines(videos, self._choices, lambda found: self._score(found.logits), window, stride, top_k)

    def predict(self, encoded: EncodedVideo, *, top_k: int = 5) -> Prediction:
        """Predict which of the model's classes happens in an encoded video.

        Args:
            encoded: what `encode_video` of this model returned.
            top_k: how many classes to rank; clamped to their number.

        Raises:
            ActionClipError: `top_k` is no whole number above 0, or another model has encoded the video.
        """
        check_top_k(top_k)
        self._check_encoded(encoded)
        return self._prediction(encoded, self._choices, partial(self._score, encoded.by_view.logits), top_k)

    @property
    def _choices(self) -> Choices:
        return Choices(self.classes, is_multi_label=self.spec.is_multi_label)
