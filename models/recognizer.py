"""ActionCLIP: a video and labels in plain words in, probabilities out."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from errors import ActionClipError
from models.catalog import ModelSpec, catalog, find
from tokenizer.bpe import default_tokenizer
from tokenizer.prompts import fill, is_template, unique_labels
from video.sampling import Sampler, make_sampler

if TYPE_CHECKING:
    from models.graphs import Graph
    from video.reader import Clip

DEFAULT_MODEL = "vit-32-8f"
MOST_THREADS = 1024
AVERAGES = ("probabilities", "embeddings")
Video = str | os.PathLike[str] | NDArray[np.uint8]


@dataclass(frozen=True)
class Ranked:
    """One line of the answer: `rank` from 1, `index` of the label in the order it was given."""

    rank: int
    index: int
    label: str
    probability: float


@dataclass(frozen=True, eq=False)
class EncodedVideo:
    """What the image and fusion graphs make of a video.

    Attributes:
        features: (D,) float32, L2-normalised.
        clip: the frames that were looked at, with indices and times.
        video: the path or URL; None where frames were given.
        timings_s: seconds for decode, preprocess, image and fusion.
    """

    features: NDArray[np.float32]
    clip: "Clip"
    video: str | None
    timings_s: dict[str, float]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer for one video.

    Attributes:
        labels: the labels in the order they were given, repeated ones once.
        probabilities: (labels,) float64, sum 1.
        top_k: length of `ranked`, at most the number of labels.
        video_features: (D,) float32, L2-normalised.
        frame_indices: which frames of the video were looked at, from 0.
        model: name of the model.
        video: path or URL; None where frames were given.
        duration_s: of the video in seconds; None where frames were given.
        frame_times_s: seconds from the first frame; () where frames were given.
        frames: (T, H, W, 3) uint8 RGB, the frames that were looked at.
        timings_s: seconds for decode, preprocess, image, fusion, text and score.
    """

    labels: tuple[str, ...]
    probabilities: NDArray[np.float64]
    top_k: int
    video_features: NDArray[np.float32]
    frame_indices: tuple[int, ...]
    model: str
    video: str | None
    duration_s: float | None
    frame_times_s: tuple[float, ...]
    frames: NDArray[np.uint8] = field(repr=False)
    timings_s: dict[str, float]

    @cached_property
    def ranked(self) -> tuple[Ranked, ...]:
        """The `top_k` most probable labels, highest first; equal ones in the order they were given."""
        order = np.argsort(-self.probabilities, kind="stable")[: self.top_k]
        return tuple(
            Ranked(rank, int(index), self.labels[index], float(self.probabilities[index]))
            for rank, index in enumerate(order, start=1)
        )


class ActionClip:
    """A zero-shot recogniser: `ActionClip("nano").classify("video.mp4", ["drinking", "eating"])`.

    Making one is cheap; graphs are found (and downloaded, where they are published and not on this disk) and their
    sessions created when they are first needed.
    """

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
            threads: of the CPU for decoding and for the graphs; None: all.
            prompts: templates with one `{}` each, in place of the model's own.
            average: "probabilities" takes one softmax a prompt and averages them (ActionCLIP); "embeddings" averages
                the prompts' features, then takes one softmax (open_clip).
            cache: keep text features on disk between runs.

        Raises:
            ActionClipError: unknown model, device, average, or malformed prompts.
        """
        self.spec, self._paths = _find_model(model)
        if device != "cpu":  # which is always there
            from models.graphs import provider

            provider(device)
        if average not in AVERAGES:
            raise ActionClipError(f"average is '{average}': choose {' or '.join(AVERAGES)}")
        if threads is not None and not 1 <= threads <= MOST_THREADS:
            raise ActionClipError(f"threads is {threads}: give a number from 1 to {MOST_THREADS}")
        self.prompts = self.spec.prompts if prompts is None else tuple(prompts)
        if not self.prompts or not all(map(is_template, self.prompts)):
            raise ActionClipError("prompts must be templates with exactly one {} each")
        self.average = average
        self._device = device
        self._threads = threads
        self._cache = cache
        self._graphs: dict[str, Graph] = {}

    def classify(
        self,
        video: Video,
        labels: Iterable[str],
        *,
        top_k: int = 5,
        sampling: str = "uniform",
        seed: int = 0,
    ) -> Prediction:
        """Say which of the labels happens in the video.

        Args:
            video: a file, an http(s) URL, or frames already decoded, (T, H, W, 3) uint8 RGB.
            labels: in plain words; repeated ones are used once.
            top_k: how many of them to rank; clamped to the number of labels.
            sampling: "uniform", the official evaluation's frames, or "random", one from each segment.
            seed: of the random sampling.

        Raises:
            ActionClipError: anything wrong with the video, the labels or the model.
        """
        labels = unique_labels(labels)
        if top_k < 1:
            raise ActionClipError(f"top_k is {top_k}: give a number above 0")
        if not self._is_on_disk():
            # A label that does not fit is better known of before the download than after it.
            default_tokenizer().encode(*self._texts(labels))
        encoded = self.encode_video(video, sampling=sampling, seed=seed)
        timings = dict(encoded.timings_s)
        with _timed(timings, "text"):
            bank = self.encode_labels(labels)
        with _timed(timings, "score"):
            probabilities = score(encoded.features, bank, self.spec.logit_scale)
        return Prediction(
            labels=tuple(labels),
            probabilities=probabilities,
            top_k=min(top_k, len(labels)),
            video_features=encoded.features,
            frame_indices=encoded.clip.indices,
            model=self.spec.name,
            video=encoded.video,
            duration_s=encoded.clip.duration_s if encoded.video is not None else None,
            frame_times_s=encoded.clip.times_s if encoded.video is not None else (),
            frames=encoded.clip.frames,
            timings_s=timings,
        )

    def encode_video(self, video: Video, *, sampling: str = "uniform", seed: int = 0) -> EncodedVideo:
        """Look at `spec.frames` frames of the video; arguments and errors as in `classify`."""
        from video.preprocess import clip_tensor

        spec = self.spec
        sampler = make_sampler(sampling, spec.frames, seed)
        if spec.checkpoint is not None:
            # Where the graphs have yet to be exported, that is better known of before the video is read than after it.
            self._path("image")
        timings: dict[str, float] = {}
        with _timed(timings, "decode"):
            clip = self._clip(video, sampler)
        with _timed(timings, "preprocess"):
            tensor = clip_tensor(clip.frames, spec.image_size, spec.mean, spec.std, spec.resize)
        with _timed(timings, "image"):
            frame_features = self._graph("image")(tensor)
        with _timed(timings, "fusion"):
            features = self._graph("fusion")(frame_features[np.newaxis])[0]
        source = None if isinstance(video, np.ndarray) else os.fspath(video)
        return EncodedVideo(_normalized(features), clip, source, timings)

    def encode_labels(self, labels: Iterable[str]) -> NDArray[np.float32]:
        """The label bank: (prompts, labels, D) float32, L2-normalised; (1, labels, D) when averaging embeddings.

        Only texts that were never seen before go through the text graph; when there are none it is not loaded.

        Raises:
            ActionClipError: a label is blank or too long for the model's 77 tokens.
        """
        labels = unique_labels(labels)
        texts, owners = self._texts(labels)
        known = self._known_features(texts, owners)
        bank = np.stack([known[text] for text in texts]).reshape(len(self.prompts), len(labels), -1)
        return _normalized(bank.mean(axis=0, keepdims=True)) if self.average == "embeddings" else bank

    def _texts(self, labels: list[str]) -> tuple[list[str], list[str]]:
        """Every label in every prompt, prompt-major, and the label that each of these texts was made from."""
        return fill(self.prompts, labels), labels * len(self.prompts)

    def _known_features(self, texts: list[str], owners: list[str]) -> dict[str, NDArray[np.float32]]:
        from models.label_bank import LabelBank
        from models.store import home, sha256_of

        tokenizer = default_tokenizer()
        known: dict[str, NDArray[np.float32]] = {}
        if self._cache:
            space = f"{sha256_of(self._path('text'))} {tokenizer.identity}"
            bank = LabelBank(home() / "label_bank.sqlite3", space)
            known = bank.read(texts)
        missing = {text: owner for text, owner in zip(texts, owners, strict=True) if text not in known}
        if missing:
            from models.graphs import encode_tokens

            tokens = tokenizer.encode(list(missing), list(missing.values()))
            features = _normalized(encode_tokens(self._graph("text"), tokens))
            fresh = dict(zip(missing, features, strict=True))
            if self._cache:
                bank.write(fresh)
            known |= fresh
        return known

    def _clip(self, video: Video, sampler: Sampler) -> "Clip":
        from video.reader import Clip, read_clip

        if isinstance(video, str | os.PathLike):
            return read_clip(video, sampler, threads=self._threads)
        if not isinstance(video, np.ndarray) or video.ndim != 4:
            raise ActionClipError("the video must be a path, an address or an array of frames, (T, H, W, 3) uint8 RGB")
        indices = sampler(len(video))
        return Clip(video[indices], tuple(indices), (), len(video), 0.0)

    def _is_on_disk(self) -> bool:
        from models.store import locate

        return self._paths is not None or locate(self.spec) is not None

    def _path(self, role: str) -> Path:
        if self._paths is None:
            from models.store import fetch

            self._paths = fetch(self.spec)
        return self._paths[role]

    def _graph(self, role: str) -> "Graph":
        if role not in self._graphs:
            from models.graphs import Graph

            # An image graph may let the frames of a clip look at each other.
            group = self.spec.frames if role == "image" else 1
            self._graphs[role] = Graph(self._path(role), device=self._device, threads=self._threads, group=group)
        return self._graphs[role]


def score(video: NDArray[np.float32], bank: NDArray[np.float32], logit_scale: float) -> NDArray[np.float64]:
    """Probabilities of the labels, (labels,) float64 with sum 1.

    Softmax over the labels of `logit_scale` times the cosine, for each prompt, then the mean over the prompts
    (ActionCLIP, arXiv 2109.08472).

    Args:
        video: (D,), L2-normalised.
        bank: (prompts, labels, D), L2-normalised.

    Raises:
        ActionClipError: the two D differ.
    """
    if bank.shape[-1] != len(video):
        raise ActionClipError(
            f"the text graph gives {bank.shape[-1]} numbers and the fusion graph {len(video)}: they are not one model's"
        )
    logits = logit_scale * (bank @ video).astype(np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = (exponentials / exponentials.sum(axis=1, keepdims=True)).mean(axis=0)
    return probabilities


def _find_model(model: str | os.PathLike[str]) -> tuple[ModelSpec, dict[str, Path] | None]:
    """The model of that name, alias or folder; the paths too where it is a folder."""
    name = os.fspath(model)
    spec = find(name)
    if spec is not None:
        return spec, None
    if Path(name).is_dir():
        from models.folder import folder_model

        return folder_model(Path(name))
    raise ActionClipError(
        f"there is no model or folder '{name}': the models are {', '.join(known.name for known in catalog())}"
    )


def _normalized(features: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise ActionClipError("the graphs returned features that are zero or not finite: download or export them again")
    normalized: NDArray[np.float32] = features / lengths
    return normalized


@contextmanager
def _timed(timings: dict[str, Any], stage: str) -> Iterator[None]:
    began = perf_counter()
    yield
    timings[stage] = perf_counter() - began
