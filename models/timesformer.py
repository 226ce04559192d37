"""TimeSformer: a video in, probabilities of a closed set of classes out."""

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.classmap import ClassMap, class_names
from action_clip.models.model import Encoding, Model, Video, timed
from action_clip.models.prediction import Prediction, check_top_k
from action_clip.models.scoring import normalized, softmax

DEFAULT_MODEL = "timesformer_k400_8x224"


class TimeSformer(Model):
    """A closed-set classifier: `TimeSformer().classify("video.mp4")`.

    It knows the classes that it was trained on and no others.
    """

    kind = "closed-set"

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        device: str = "cpu",
        threads: int | None = None,
        classmap: ClassMap | None = None,
        cache: bool = True,
    ) -> None:
        """Choose the model and how it runs.

        Args:
            model: a name from the catalog, or a folder with an exported graph.
            device: "cpu", "cuda", "openvino", "coreml", …: an execution provider of the installed onnxruntime.
            threads: of the CPU for decoding and for the graph, at most one a core; None: all.
            classmap: {name: index} or {index: name}, in place of the model's own names.
            cache: keep the graph, as it is optimised for this machine, on disk between runs.

        Raises:
            ActionClipError: unknown model or device, or a class map that does not name each class.
        """
        super().__init__(model, device, threads, cache)
        self.classes = self.spec.classes
        self._classmap = classmap
        if classmap is not None:
            self.classes = tuple(class_names(classmap, len(self.spec.classes)))

    def _arguments(self) -> dict[str, Any]:
        return super()._arguments() | {"classmap": self._classmap}

    def classify(
        self,
        video: Video,
        labels: Iterable[str] | None = None,
        *,
        top_k: int = 5,
        sampling: str = "uniform",
        seed: int = 0,
        channels: str = "rgb",
    ) -> Prediction:
        """Say which of the model's classes happens in the video.

        Args:
            video: a file, an http(s) URL, or frames already decoded, (T, H, W, 3) uint8 RGB.
            labels: None: what the model knows is fixed.
            top_k: how many classes to rank; clamped to their number.
            sampling: "uniform", the model's own rule; "random", one frame from each segment; "keyframes", the nearest
                ones, approximate.
            seed: of the random sampling.

        Raises:
            ActionClipError: labels are given, or anything is wrong with the video or the model.
        """
        if labels is not None:
            raise ActionClipError(
                f"{self.spec.name} is a closed-set model, it tells its {len(self.classes)} classes apart and knows no "
                "other labels: leave the labels out, or take a zero-shot model, such as vit-32-8f"
            )
        check_top_k(top_k)
        encoded = self.encode_video(video, sampling=sampling, seed=seed, channels=channels)
        timings = dict(encoded.timings_s)
        with timed(timings, "score"):
            probabilities = self.score(encoded)
            assert encoded.logits is not None
            similarities = encoded.logits.astype(np.float64)
        return self._prediction(self.classes, probabilities, similarities, top_k, encoded, timings)

    def encode_clip(self, tensor: NDArray[np.float32], timings_s: dict[str, float] | None = None) -> Encoding:
        graph = self._graph("video")
        # Graphs declare frames first, (N, T, 3, S, S), or colours first, (N, 3, T, S, S).
        colours_first = graph.shape[1:2] == (3,) and graph.shape[2:3] != (3,)
        clip = tensor.swapaxes(0, 1) if colours_first else tensor
        with timed({} if timings_s is None else timings_s, "video"):
            logits, features = graph.outputs(clip[np.newaxis], 2)
        if logits.shape != (1, len(self.classes)) or features.ndim != 2 or len(features) != 1:
            raise ActionClipError(
                f"the graph {graph.path.name} gives logits of the shape {logits.shape} and features of "
                f"{features.shape}, not (1, {len(self.classes)}) and (1, D): export it again"
            )
        if not np.isfinite(logits).all():
            raise ActionClipError(f"the graph {graph.path.name} gives logits that are not finite: export it again")
        return Encoding(normalized(features[0]), logits[0])

    def score(self, encoding: Encoding) -> NDArray[np.float64]:
        """Probabilities of the classes, (classes,) float64, for what `encode_video` or `encode_clip` returned."""
        assert encoding.logits is not None
        return softmax(encoding.logits.astype(np.float64))
