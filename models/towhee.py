"""ActionCLIP and TimeSformer as operators of Towhee pipelines and as plain functions: frames in, best classes out."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.actionclip import ActionClip
from action_clip.models.catalog.specs import kinetics_400
from action_clip.models.classmap import ClassMap, class_names
from action_clip.models.encoded import EncodedClips, EncodedVideo
from action_clip.models.label_banks import NoneTexts
from action_clip.models.model import Model
from action_clip.models.prediction import check_top_k
from action_clip.models.scoring import LabelBank, Scores, score, score_logits
from action_clip.models.timesformer import DEFAULT_MODEL, TimeSformer
from action_clip.system.forks import cached_property
from action_clip.tokenizer.prompts import unique_labels

Answer = tuple[list[str], list[float], NDArray[np.float32]]
Frames = Iterable[NDArray[Any]]


class _Operator(ABC):
    """The common part of both operators: encoding frames. A subclass scores the features."""

    def __init__(self, model: Model, skip_preprocess: bool, topk: int) -> None:
        check_top_k(topk)
        self._model = model
        self._skip_preprocess = skip_preprocess
        self._topk = topk

    def __call__(self, frames: Frames) -> Answer:
        """Classify one clip.

        Args:
            frames: any number of images of one size: Towhee's VideoFrames, RGB arrays (H, W, 3) of uint8, PIL images;
                or one array (T, H, W, 3). With `skip_preprocess`, a preprocessed clip as the model takes it: floats,
                (T, 3, S, S) or (3, T, S, S), with or without a batch of 1 before it.

        Returns:
            The names of the `topk` best classes, their probabilities from high to low, and the features of the clip,
            (D,) float32, L2-normalised.

        Raises:
            ActionClipError: the frames have another type or shape, or the model cannot run.
        """
        encoded = self._model.encode_clips(self._clips(frames)) if self._skip_preprocess else self._encode(frames)
        labels, scores = self._scored(encoded)
        probabilities = np.ravel(scores.probabilities)
        order = np.argsort(-probabilities, kind="stable")[: self._topk]
        names = [labels[index] for index in order]
        return names, [float(probabilities[index]) for index in order], np.ravel(encoded.features)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the operator itself: Towhee copies operators as a pipeline grows, and a copy would load the model."""
        return self

    @abstractmethod
    def _scored(self, encoded: EncodedClips | EncodedVideo) -> tuple[Sequence[str], Scores]:
        """Return the labels and their scores for one clip."""

    def _encode(self, frames: Frames) -> EncodedVideo:
        if isinstance(frames, str | os.PathLike) or not isinstance(frames, Iterable):
            raise ActionClipError(f"the frames are one {type(frames).__name__}: give a list of RGB images")
        return self._model.encode_video(frames)

    def _clips(self, frames: Frames) -> NDArray[np.float32]:
        from action_clip.video.images import as_array

        spec = self._model.spec
        tensor = as_array(frames)
        shape = (spec.frames, 3, spec.image_size, spec.image_size)
        if tensor.ndim == 5 and len(tensor) == 1:
            tensor = tensor[0]
        if tensor.shape == (3, spec.frames, *shape[2:]) and tensor.shape != shape:
            tensor = tensor.swapaxes(0, 1)
        if tensor.shape != shape or not np.issubdtype(tensor.dtype, np.floating):
            raise ActionClipError(
                f"with skip_preprocess the frames must be one float32 array of the shape {shape}, not "
                f"{tensor.dtype} {tensor.shape}: preprocess them, or leave out skip_preprocess"
            )
        return tensor.astype(np.float32)[np.newaxis]


class ActionClipOperator(_Operator):
    """ActionCLIP with fixed labels: `ActionClipOperator("nano")(frames)` → labels, scores, features."""

    def __init__(
        self,
        model_name: str = "clip_vit_b16",
        skip_preprocess: bool = False,
        classmap: ClassMap | None = None,
        topk: int = 5,
        *,
        none: NoneTexts = None,
        multi_label: bool = False,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        """Choose model and labels.

        Args:
            model_name: a zero-shot model's name or folder.
            skip_preprocess: whether calls give preprocessed clips.
            classmap: {name: index} or {index: name}, the labels; None: the classes of a trained model, or the
                400 of Kinetics-400.
            topk: how many classes are returned; clamped to their number.
            none, multi_label: as for `ActionClip.labels`; they are checked at the first call.
            device, threads: as for ActionClip.

        Raises:
            ActionClipError: an argument is not valid.
        """
        self._none = none
        self._multi_label = multi_label
        self._recognizer = ActionClip(model_name, device=device, threads=threads)
        own = self._recognizer.spec.classes or kinetics_400()
        self._labels = unique_labels(own if classmap is None else class_names(classmap))
        super().__init__(self._recognizer, skip_preprocess, topk)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_bank"}

    @cached_property
    def _bank(self) -> LabelBank:
        return self._recognizer.labels(self._labels, none=self._none, multi_label=self._multi_label)

    def _scored(self, encoded: EncodedClips | EncodedVideo) -> tuple[Sequence[str], Scores]:
        return self._bank.choices.labels, score(encoded.features, self._bank, encoded.logits)


class TimeSformerOperator(_Operator):
    """TimeSformer: `TimeSformerOperator()(frames)` → labels, scores, features."""

    def __init__(
        self,
        model_name: str = DEFAULT_MODEL,
        skip_preprocess: bool = False,
        classmap: ClassMap | None = None,
        topk: int = 5,
        *,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        """Choose the model.

        Args:
            model_name: a closed-set model's name or folder.
            skip_preprocess: whether calls give preprocessed clips.
            classmap: {name: index} or {index: name}, in place of the model's own names.
            topk: how many classes are returned; clamped to their number.
            device, threads: as for TimeSformer.

        Raises:
            ActionClipError: an argument is not valid.
        """
        self._classifier = TimeSformer(model_name, device=device, threads=threads, classmap=classmap)
        super().__init__(self._classifier, skip_preprocess, topk)

    def _scored(self, encoded: EncodedClips | EncodedVideo) -> tuple[Sequence[str], Scores]:
        scores = score_logits(encoded.logits, is_multi_label=self._classifier.spec.is_multi_label)
        return self._classifier.classes, scores
