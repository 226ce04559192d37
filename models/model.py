"""The common part of ActionClip and TimeSformer: encoding videos, or preprocessed clips, to features."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from action_clip.models.prediction import Failure, Prediction, name_of
from action_clip.models.scoring import Scores
from action_clip.system.background import run_in_background
from action_clip.video.sampling import Sampler, make_sampler

if TYPE_CHECKING:
    from action_clip.video.inputs import VideoInput
    from action_clip.video.reader import Clip, VideoReader


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


_CLIPS_PER_RUN = 32
"""Most clips of one run on a GPU. A core runs one at a time: more of them are no faster there."""
NO_FRAMES = np.empty((0, 0, 0, 3), np.uint8)

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
            options: keyword arguments of the subclass besides device, threads and cache, for pickling.
        """
        self.spec = graphs.spec
        self._graphs = graphs
        self._encode = encode
        self._options = options
        self._side_by_side: ModelGraphs | None = None

    def __reduce__(self) -> tuple["partial[Self]", tuple[()]]:
        """Pickle the constructor's arguments alone: unpickling makes a new object with sessions of its own."""
        graphs, subclass = self._graphs, cast(Callable[..., Self], type(self))
        common = {"device": graphs.device, "threads": graphs.threads, "cache": graphs.cache}
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
        if self._side_by_side is not None:
            self._side_by_side.close()

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
        self,
        video: "VideoInput",
        *,
        sampling: str = "uniform",
        seed: int = 0,
        channels: str = "rgb",
        thumbnails: bool = True,
    ) -> EncodedVideo:
        """Encode `spec.frames` frames of the video.

        Args:
            video: a file, an http(s) URL, or frames already decoded: an array (T, H, W, 3) of uint8, or what else
                `video.inputs.read_frames` takes.
            sampling: "uniform", the model's own rule; "random", one frame from each segment; or "keyframes", the
                keyframes nearest to the uniform frames: approximate, quick in long videos (for an array: "uniform").
            seed: for the random sampling.
            channels: the order of channels in arrays, "rgb" or "bgr".
            thumbnails: whether to keep the sampled frames as thumbnails.

        Raises:
            ActionClipError: the video cannot be read, or the graphs are not available or cannot run.
        """
        graphs = self._graphs
        sampler = make_sampler(sampling, self.spec.frames, seed, self.spec.uniform)
        if self.spec.checkpoint is not None:
            graphs.paths()  # an error where they have yet to be exported, before the video is read
        roles = [role for role in ROLES[self.spec.kind] if role != "text"]
        with run_in_background(lambda _: graphs.start(roles), concurrent=graphs.works_in_background) as started:
            prepared = _prepared(video, sampler, channels, graphs, thumbnails=thumbnails)
        started.result()
        return self._encode_prepared(graphs, [prepared])[0]

    def encode_many(
        self, videos: "Iterable[VideoInput]", *, sampling: str = "uniform", seed: int = 0, channels: str = "rgb"
    ) -> Iterator[EncodedVideo | Failure]:
        """Encode any number of videos, several at a time.

        Args:
            videos: each of them as for `encode_video`; taken a bounded number ahead, in a thread of its own.
            sampling, seed, channels: as for `encode_video`.

        Returns:
            An iterator over the encoded videos in their order, without thumbnails. In the place of a video that cannot
            be read stands a Failure with its error. Memory does not grow with the number of videos. Threads are started
            with the first one that is asked for, and end when the iterator is exhausted, closed or collected.

        Raises:
            ActionClipError: the graphs are not available or cannot run.
        """
        encoded = self._encode_many(videos, sampling, seed, channels, ordered=True)
        return (each for _, each in encoded)

    def _encode_many(
        self, videos: "Iterable[VideoInput]", sampling: str, seed: int, channels: str, *, ordered: bool
    ) -> Iterator[tuple[int, EncodedVideo | Failure]]:
        """Return an iterator over the number of each video and what it is encoded to."""
        from action_clip.models.engine import Ready, Stages, run
        from action_clip.models.runtime.devices import CPU, provider

        if isinstance(videos, str | os.PathLike) or not isinstance(videos, Iterable):
            raise ActionClipError(f"the videos are {videos!r}: give a list of them, or another iterable")
        sampler = make_sampler(sampling, self.spec.frames, seed, self.spec.uniform)
        graphs, workers, runs_on_cpu = self._graphs, self._graphs.thread_count, provider(self._graphs.device) == CPU
        if runs_on_cpu and workers > 1:
            graphs = self._side_by_side = self._side_by_side or graphs.with_one_thread()
        readers: set[VideoReader] = set()

        def prepare(video: "VideoInput") -> Ready[_Prepared]:
            return Ready(_prepared(video, sampler, channels, graphs, thumbnails=False, readers=readers))

        def stop() -> None:
            for reader in list(readers):
                reader.close()

        stages = Stages(
            prepare,
            partial(self._encode_prepared, graphs),
            stop,
            workers=workers,
            runs=workers if runs_on_cpu else 1,
            clips_per_run=1 if runs_on_cpu else _CLIPS_PER_RUN,
        )
        return run(videos, stages, ordered=ordered)

    def _encode_prepared(self, graphs: ModelGraphs, videos: "Sequence[_Prepared]") -> list[EncodedVideo]:
        """Run the graphs on the clips of several videos at once; each of these takes an equal part of the time."""
        encoded = self._encode(graphs, np.stack([video.tensor for video in videos]))
        timings_s = {stage: seconds / len(videos) for stage, seconds in encoded.timings_s.items()}
        return [
            EncodedVideo(
                features=encoded.features[number],
                frame_features=None if encoded.frame_features is None else encoded.frame_features[number],
                logits=encoded.logits[number],
                clip=video.clip,
                video=video.name,
                model=self.spec.name,
                timings_s=video.timings_s | timings_s,
            )
            for number, video in enumerate(videos)
        ]

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


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A video that is ready for the graphs."""

    tensor: NDArray[np.float32]
    """(T, 3, S, S)."""
    clip: "Clip"
    """With thumbnails, or without any frames."""
    name: str | None
    timings_s: dict[str, float]


def _prepared(
    video: "VideoInput",
    sampler: Sampler,
    channels: str,
    graphs: ModelGraphs,
    *,
    thumbnails: bool,
    readers: "set[VideoReader] | None" = None,
) -> _Prepared:
    """Decode and preprocess the frames that the sampler chooses."""
    from action_clip.video.inputs import read_frames
    from action_clip.video.preprocess import clip_tensor
    from action_clip.video.thumbnails import make_thumbnails

    spec, threads = graphs.spec, graphs.thread_count
    timings: dict[str, float] = {}
    with timed(timings, "decode"):
        clip = read_frames(video, sampler, channels=channels, threads=graphs.threads, readers=readers)
    with timed(timings, "preprocess"):
        tensor = clip_tensor(clip.frames, spec.image_size, spec.mean, spec.std, spec.resize, threads)
        clip = replace(clip, frames=make_thumbnails(clip.frames, threads) if thumbnails else NO_FRAMES)
    return _Prepared(tensor, clip, name_of(video), timings)


@contextmanager
def timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    """Store the seconds that the block takes as `timings[stage]`."""
    began = perf_counter()
    yield
    timings[stage] = perf_counter() - began
