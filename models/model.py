"""The common part of ActionClip and TimeSformer: encoding videos, or preprocessed clips, to features."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Self, cast

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.catalog.specs import ROLES
from action_clip.models.model_graphs import ModelGraphs
from action_clip.models.prediction import Prediction
from action_clip.models.scoring import Scores
from action_clip.system.addresses import display_name
from action_clip.system.background import run_in_background
from action_clip.video.sampling import Sampler, make_sampler

if TYPE_CHECKING:
    from action_clip.video.inputs import VideoInput
    from action_clip.video.reader import Clip


@dataclass(frozen=True, eq=False)
class EncodedClips:
    """Features of N clips.

    Attributes:
        features: (N, D) float32, L2-normalised.
        frame_features: (N, T, D) float32, the image graph's output, where it sees each frame alone: any T of them are
            an input of the fusion graph. None where frames attend to each other.
        logits: (N, C) float32 over the C classes of a closed set; (N, 0) for a zero-shot model.
        timings_s: seconds of each graph.
    """

    features: NDArray[np.float32] = field(repr=False)
    frame_features: NDArray[np.float32] | None = field(repr=False)
    logits: NDArray[np.float32] = field(repr=False)
    timings_s: dict[str, float]


@dataclass(frozen=True, eq=False)
class EncodedVideo:
    """Features of one video, from one clip of it; `predict` uses them, any number of times.

    Attributes:
        features: (D,) float32, L2-normalised.
        frame_features: (T, D) float32, or None: as in EncodedClips.
        logits: (C,) float32; C = 0 for a zero-shot model.
        clip: the sampled frames as thumbnails (see Prediction), with indices and times.
        video: the path or URL; None where frames were given instead.
        model: name of the model.
        timings_s: seconds of each stage so far.
    """

    features: NDArray[np.float32] = field(repr=False)
    frame_features: NDArray[np.float32] | None = field(repr=False)
    logits: NDArray[np.float32] = field(repr=False)
    clip: "Clip" = field(repr=False)
    video: str | None
    model: str
    timings_s: dict[str, float]


Encode = Callable[[ModelGraphs, NDArray[np.float32]], EncodedClips]


class Model:
    """A model of the catalog or of a folder: encodes clips and videos.

    It is a context manager that closes the model at the end of the block. A closed model may be used again, and makes
    new sessions.
    """

    def __init__(self, graphs: ModelGraphs, encode: Encode, **options: object) -> None:
        """Put the model together.

        Args:
            graphs: the model's graphs.
            encode: runs the graphs on clips, (N, T, 3, S, S) float32.
            options: keyword arguments of the subclass besides device, threads, cache and prepack, for pickling.
        """
        self.spec = graphs.spec
        self._graphs = graphs
        self._encode = encode
        self._options = options

    def __reduce__(self) -> tuple["partial[Self]", tuple[()]]:
        """Pickle the constructor's arguments alone: unpickling makes a new object with sessions of its own."""
        graphs, subclass = self._graphs, cast(Callable[..., Self], type(self))
        common = {"device": graphs.device, "threads": graphs.threads, "cache": graphs.cache, "prepack": graphs.prepack}
        return partial(subclass, graphs.name, **common, **self._options), ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._graphs.name!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the sessions and their memory. The model makes new sessions when it is used again."""
        self._graphs.close()

    def encode_clips(self, clips: NDArray[np.float32]) -> EncodedClips:
        """Run the graphs on preprocessed clips, of any number of videos.

        Args:
            clips: (N, T, 3, S, S) float32, N ≥ 1, T = `spec.frames`, S = `spec.image_size`, RGB, normalised by
                `spec.mean` and `spec.std`, as `video.preprocess.clip_tensor` makes them.

        Raises:
            ActionClipError: the clips have another shape or type or are not finite, or the graphs cannot run.
        """
        shape = (self.spec.frames, 3, self.spec.image_size, self.spec.image_size)
        is_array = isinstance(clips, np.ndarray)
        if not is_array or clips.dtype.kind != "f" or clips.shape[1:] != shape or len(clips) == 0:
            actual = f"{clips.dtype} {clips.shape}" if is_array else f"a {type(clips).__name__}"
            raise ActionClipError(
                f"the clips are {actual}, and {self.spec.name} takes float32 (N, {', '.join(map(str, shape))}): "
                "preprocess one clip or more, and stack them"
            )
        if not np.isfinite(clips).all():
            raise ActionClipError("the clips have numbers that are not finite: check how they are preprocessed")
        return self._encode(self._graphs, clips)

    def encode_video(
        self, video: "VideoInput", *, sampling: str = "uniform", seed: int = 0, channels: str = "rgb"
    ) -> EncodedVideo:
        """Encode `spec.frames` frames of the video.

        Args:
            video: a file, an http(s) URL, or frames already decoded: an array (T, H, W, 3) of uint8, or what else
                `video.inputs.read_frames` takes.
            sampling: "uniform", the model's own rule; "random", one frame from each segment; or "keyframes", the
                keyframes nearest to the uniform frames: approximate, quick in long videos (for an array: "uniform").
            seed: for the random sampling.
            channels: the order of channels in arrays, "rgb" or "bgr".

        Raises:
            ActionClipError: the video cannot be read, or the graphs are not available or cannot run.
        """
        spec, graphs = self.spec, self._graphs
        sampler = make_sampler(sampling, spec.frames, seed, spec.uniform)
        if spec.checkpoint is not None:
            graphs.paths()  # an error where they have yet to be exported, before the video is read
        roles = [role for role in ROLES[spec.kind] if role != "text"]
        with run_in_background(lambda _: graphs.start(roles), concurrent=graphs.works_in_background) as started:
            tensor, clip, timings = _preprocessed(video, sampler, channels, graphs)
        started.result()
        encoded = self._encode(graphs, tensor[np.newaxis])
        return EncodedVideo(
            features=encoded.features[0],
            frame_features=None if encoded.frame_features is None else encoded.frame_features[0],
            logits=encoded.logits[0],
            clip=clip,
            video=display_name(os.fspath(video)) if isinstance(video, str | os.PathLike) else None,
            model=spec.name,
            timings_s=timings | encoded.timings_s,
        )

    def _check_encoded(self, encoded: EncodedVideo) -> None:
        """Raise ActionClipError where `encoded` is not what `encode_video` of this model returned."""
        if not isinstance(encoded, EncodedVideo):
            raise ActionClipError(
                f"predict takes what encode_video returned, not a {type(encoded).__name__}: encode the video, or use "
                "classify"
            )
        if encoded.model != self.spec.name or len(encoded.logits) != len(self.spec.classes):
            raise ActionClipError(f"another model has encoded the video: encode it with {self.spec.name}")

    def _prediction(
        self, encoded: EncodedVideo, labels: Sequence[str], score: Callable[[], Scores], top_k: int
    ) -> Prediction:
        timings: dict[str, float] = {}
        with timed(timings, "score"):
            scores = score()
        return Prediction(
            labels=tuple(labels),
            probabilities=scores.probabilities,
            similarities=scores.similarities,
            top_k=min(top_k, len(labels)),
            video_features=encoded.features,
            frame_indices=encoded.clip.indices,
            model=self.spec.name,
            video=encoded.video,
            duration_s=encoded.clip.duration_s if encoded.clip.times_s else None,
            frame_times_s=encoded.clip.times_s,
            frames=encoded.clip.frames,
            timings_s=encoded.timings_s | timings,
        )


def _preprocessed(
    video: "VideoInput", sampler: Sampler, channels: str, graphs: ModelGraphs
) -> tuple[NDArray[np.float32], "Clip", dict[str, float]]:
    """Decode and preprocess the frames that the sampler chooses.

    Returns:
        The clip tensor (T, 3, S, S), the frames as thumbnails with their indices and times, and the seconds of both
        stages.
    """
    from action_clip.video.inputs import read_frames
    from action_clip.video.preprocess import clip_tensor
    from action_clip.video.thumbnails import thumbnails

    spec, threads = graphs.spec, graphs.thread_count
    timings: dict[str, float] = {}
    with timed(timings, "decode"):
        clip = read_frames(video, sampler, channels=channels, threads=graphs.threads)
    with timed(timings, "preprocess"):
        tensor = clip_tensor(clip.frames, spec.image_size, spec.mean, spec.std, spec.resize, threads)
        clip = replace(clip, frames=thumbnails(clip.frames, threads))
    return tensor, clip, timings


@contextmanager
def timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    """Store the seconds that the block takes as `timings[stage]`."""
    began = perf_counter()
    yield
    timings[stage] = perf_counter() - began
