"""What all models have in common: where they are, the frames that they look at, the answer that they give."""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.catalog.specs import ROLES, ModelSpec, catalog, find
from action_clip.models.prediction import Prediction
from action_clip.system.addresses import display_name
from action_clip.system.background import run_in_background
from action_clip.system.cores import usable_cores
from action_clip.system.forks import reset_in_children
from action_clip.video.sampling import Sampler, make_sampler

if TYPE_CHECKING:
    from action_clip.models.runtime.graph import Graph
    from action_clip.video.reader import Clip

_LOG = logging.getLogger("action_clip")
Video = str | os.PathLike[str] | NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Encoding:
    """What the graphs make of a clip.

    Attributes:
        features: (D,) float32, L2-normalised.
        logits: (classes,) float32 of a closed set; None where the labels are free.
    """

    features: NDArray[np.float32]
    logits: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class EncodedVideo(Encoding):
    """What the graphs make of a video.

    Attributes:
        clip: the frames that were looked at, as thumbnails (see Prediction), with indices and times.
        video: the path or URL; None where frames were given.
        timings_s: seconds of each stage so far.
    """

    clip: "Clip"
    video: str | None
    timings_s: dict[str, float]


class Model(ABC):
    """A model of the catalog or of a folder. Graphs are found, and sessions made, when they are first needed."""

    kind: str
    """Of the catalog: which models the class can run."""

    def __init__(self, model: str | os.PathLike[str], device: str, threads: int | None, keep: bool) -> None:
        self.spec, self._paths = find_model(model)
        if self.spec.kind != self.kind:
            raise ActionClipError(
                f"{self.spec.name} is a {self.spec.kind} model, not {self.kind}: use action_clip.load"
            )
        if device != "cpu":  # which is always there
            from action_clip.models.runtime.graph import provider

            provider(device)
        if threads is not None and threads < 1:
            raise ActionClipError(f"threads is {threads}: give a number above 0")
        self._model = os.fspath(model) if self._paths is None else os.path.abspath(model)
        self._device = device
        self._threads = None if threads is None else _clamped(threads)
        self._keep = keep
        self._graphs: dict[str, Graph] = {}
        self._finding = Lock()
        reset_in_children(self)

    def __reduce__(self) -> tuple["partial[Model]", tuple[()]]:
        """Pickled, it is its arguments: where it is unpickled, it makes sessions of its own."""
        return partial(type(self), self._model, **self._arguments()), ()

    def _arguments(self) -> dict[str, Any]:
        return {"device": self._device, "threads": self._threads, "cache": self._keep}

    def reset_after_fork(self) -> None:
        """In a forked child: another thread may have held the lock."""
        self._finding = Lock()

    @abstractmethod
    def encode_clip(self, tensor: NDArray[np.float32], timings_s: dict[str, float] | None = None) -> Encoding:
        """Run the graphs on a preprocessed clip.

        Args:
            tensor: (T, 3, S, S) float32, T = `spec.frames`, normalised as the model wants it.
            timings_s: receives the seconds of each graph.

        Raises:
            ActionClipError: the tensor is not what the graphs take, or the graphs cannot be had.
        """

    def encode_video(self, video: Video, *, sampling: str = "uniform", seed: int = 0) -> EncodedVideo:
        """Look at `spec.frames` frames of the video.

        Args:
            video: a file, an http(s) URL, or frames already decoded, (T, H, W, 3) uint8 RGB.
            sampling: "uniform", the model's own rule; "random", one frame from each segment; or "keyframes", the
                keyframes nearest to the uniform frames: approximate, quick in long videos (of an array: the uniform).
            seed: of the random sampling.

        Raises:
            ActionClipError: anything wrong with the video or the model.
        """
        from action_clip.video.preprocess import clip_tensor
        from action_clip.video.thumbnails import thumbnails

        spec = self.spec
        sampler = make_sampler(sampling, spec.frames, seed, spec.uniform)
        if spec.checkpoint is not None:
            # Where the graphs have yet to be exported, that is better known of before the video is read than after it.
            self._graph_paths()
        timings: dict[str, float] = {}
        with run_in_background(lambda _: self._start_graphs(), concurrent=self._works_side_by_side()) as started:
            with timed(timings, "decode"):
                clip = self._clip(video, sampler)
            with timed(timings, "preprocess"):
                threads = self._core_count()
                tensor = clip_tensor(clip.frames, spec.image_size, spec.mean, spec.std, spec.resize, threads)
                clip = replace(clip, frames=thumbnails(clip.frames, threads))
        started.result()
        encoding = self.encode_clip(tensor, timings)
        source = None if isinstance(video, np.ndarray) else display_name(os.fspath(video))
        return EncodedVideo(encoding.features, encoding.logits, clip, source, timings)

    def _prediction(
        self,
        labels: Sequence[str],
        probabilities: NDArray[np.float64],
        top_k: int,
        encoded: EncodedVideo,
        timings_s: dict[str, float],
    ) -> Prediction:
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
            timings_s=timings_s,
        )

    def _clip(self, video: Video, sampler: Sampler) -> "Clip":
        from action_clip.video.reader import Clip, read_clip

        if isinstance(video, str | os.PathLike):
            return read_clip(video, sampler, threads=self._threads)
        if not isinstance(video, np.ndarray) or video.ndim != 4:
            raise ActionClipError("the video must be a path, an address or an array of frames, (T, H, W, 3) uint8 RGB")
        indices = sampler(len(video))
        return Clip(video[indices], tuple(indices), (), len(video), 0.0)

    def _is_on_disk(self) -> bool:
        from action_clip.models.store.locations import locate

        return self._paths is not None or locate(self.spec) is not None

    def _core_count(self) -> int:
        return self._threads or usable_cores()

    def _works_side_by_side(self) -> bool:
        """Whether what takes time should be done at once: not on a single core, nor where it may be for nothing."""
        return self._core_count() != 1 and self._is_on_disk()

    def _start_graphs(self) -> None:
        """Make the sessions that a clip goes through."""
        for role in ROLES[self.kind]:
            if role != "text":
                self._graph(role).start()

    def _graph_paths(self) -> dict[str, Path]:
        if self._paths is None:
            from action_clip.models.store.installation import fetch

            self._paths = fetch(self.spec, keep=self._keep)
        return self._paths

    def _graph(self, role: str) -> "Graph":
        with self._finding:  # threads that work side by side share the graphs
            if role not in self._graphs:
                from action_clip.models.runtime.graph import Graph
                from action_clip.models.store.locations import repair_hint

                # An image graph may let the frames of a clip look at each other.
                group = self.spec.frames if role == "image" else 1
                self._graphs[role] = Graph(
                    self._graph_paths()[role],
                    device=self._device,
                    threads=self._threads,
                    group=group,
                    keep=self._keep,
                    spins=role != "text",  # texts are encoded beside the video
                    cure=repair_hint(self.spec),
                )
            return self._graphs[role]


def find_model(model: str | os.PathLike[str]) -> tuple[ModelSpec, dict[str, Path] | None]:
    """The model of that name, alias or folder; the paths too where it is a folder."""
    name = os.fspath(model)
    spec = find(name)
    if spec is not None:
        return spec, None
    # Unlike Path.is_dir, this is False for what no path can be.
    if os.path.isdir(name):
        from action_clip.models.catalog.model_directory import read_model_directory

        return read_model_directory(Path(name))
    raise ActionClipError(
        f"there is no model or folder '{name}': the models are {', '.join(known.name for known in catalog())}"
    )


def _clamped(threads: int) -> int:
    """As many threads as have a core each: more of them only wait for each other, for minutes."""
    cores = usable_cores()
    if threads > cores:
        _LOG.warning("%d threads are asked for, and there are cores for %d: that many are used", threads, cores)
    return min(threads, cores)


@contextmanager
def timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    """Note the seconds that the block takes."""
    began = perf_counter()
    yield
    timings[stage] = perf_counter() - began
