"""TimeSformer: a video in, probabilities of a closed set of classes out."""

import os
from typing import TYPE_CHECKING

from action_clip.errors import ActionClipError
from action_clip.models.classmap import ClassMap, class_names
from action_clip.models.encoders import encode_whole_clips, timed
from action_clip.models.model import EncodedVideo, Model
from action_clip.models.model_graphs import FoundModel, ModelGraphs
from action_clip.models.prediction import Prediction, check_top_k
from action_clip.models.scoring import score_logits

if TYPE_CHECKING:
    from action_clip.video.inputs import VideoInput

DEFAULT_MODEL = "timesformer_k400_8x224"


class TimeSformer(Model):
    """A closed-set model, for the classes that it was trained on: `TimeSformer().classify("video.mp4")`."""

    kind = "closed-set"
    """The kind of catalog model that this class runs."""

    def __init__(
        self,
        model: str | os.PathLike[str] | FoundModel = DEFAULT_MODEL,
        *,
        device: str = "auto",
        threads: int | None = None,
        classmap: ClassMap | None = None,
        cache: bool = True,
    ) -> None:
        """Choose the model and how it runs.

        Args:
            model: a name from the catalog, a folder with an exported graph, or what `find_model` returns.
            device: "cpu", "cuda", "openvino", "coreml", …: an execution provider of the installed onnxruntime; "auto":
                the best one that starts.
            threads: of the CPU for decoding and for the graph, at most one a core; None: all.
            classmap: {name: index} or {index: name}, in place of the model's own names.
            cache: keep the graph, as it is optimised for this machine, on disk between runs.

        Raises:
            ActionClipError: unknown model or device, or a class map that does not name each class.
        """
        graphs = ModelGraphs(model, self.kind, device=device, threads=threads, cache=cache)
        super().__init__(graphs, encode_whole_clips, classmap=classmap)
        self.classes = self.spec.classes
        if classmap is not None:
            self.classes = tuple(class_names(classmap, len(self.spec.classes)))

    def classify(
        self, video: "VideoInput", *, top_k: int = 5, sampling: str = "uniform", seed: int = 0, channels: str = "rgb"
    ) -> Prediction:
        """Predict which of the model's classes happens in the video.

        Args:
            video: a file, an http(s) URL, or frames already decoded: an array (T, H, W, 3) of uint8, or what else
                `video.inputs.read_frames` takes.
            top_k: how many classes to rank; clamped to their number.
            sampling: "uniform", the model's own rule; "random", one frame from each segment; "keyframes", the nearest
                ones, approximate.
            seed: of the random sampling.
            channels: "rgb" or "bgr": of frames that are arrays.

        Raises:
            ActionClipError: anything wrong with the video or the model.
        """
        check_top_k(top_k)
        encoded = self.encode_video(video, sampling=sampling, seed=seed, channels=channels)
        return self.predict(encoded, top_k=top_k)

    def predict(self, encoded: EncodedVideo, *, top_k: int = 5) -> Prediction:
        """Predict which of the model's classes happens in an encoded video.

        Args:
            encoded: what `encode_video` of this model returned.
            top_k: how many classes to rank; clamped to their number.

        Raises:
            ActionClipError: `top_k` is no whole number above 0, or another model has encoded the video.
        """
        check_top_k(top_k)
        if encoded.logits.shape != (len(self.classes),):
            raise ActionClipError(f"another model has encoded the video: encode it with {self.spec.name}")
        timings: dict[str, float] = {}
        with timed(timings, "score"):
            scores = score_logits(encoded.logits)
        return self._prediction(encoded, self.classes, scores, top_k, timings)
