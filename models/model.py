"""The common part of ActionClip and ClosedSetModel: encoding videos, or preprocessed clips, to features."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Self, cast

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.encoded import EncodedClips, EncodedVideo, Results, Steps, in_order, timed
from action_clip.models.heads import with_head
from action_clip.models.model_graphs import ModelGraphs
from action_clip.models.prediction import Failure, Prediction, Window, check_top_k
from action_clip.models.scoring import Choices, Scores
from action_clip.models.video_encoder import DecodedVideo, Encode, VideoEncoder
from action_clip.system.background import run_in_background
from action_clip.video.views import ONE_VIEW, parse_views

if TYPE_CHECKING:
    from action_clip.models.engine import Limits
    from action_clip.models.windows import EncodedWindows
    from action_clip.video.inputs import VideoInput

VideoPath = str | os.PathLike[str]


class Model:
    """A model of the catalog or of a folder: encodes clips and videos.

    It is a context manager that closes the model at the end of the block. A closed model may be used again, and makes
    new sessions.
    """

    def __init__(self, graphs: ModelGraphs, encode: Encode, steps: Steps, **options: object) -> None:
        """Put the model together.

        Args:
            graphs: the model's graphs.
            encode: runs the graphs on clips, (N, T, 3, S, S) float32.
            steps: the same in two steps.
            options: keyword arguments of the subclass besides device, threads, cache and prepack, for pickling.
        """
        self.spec = graphs.spec
        self._graphs = graphs
        self._encode = encode
        self._steps = steps
        self._options = options
        self._side_by_side: ModelGraphs | None = None

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
        return with_head(self._graphs, self._encode(self._graphs, clips))

    def encode_video(
        self,
        video: "VideoInput",
        *,
        sampling: str = "uniform",
        seed: int = 0,
        channels: str = "rgb",
        views: str = ONE_VIEW,
        thumbnails: bool = True,
    ) -> EncodedVideo:
        """Encode `spec.frames` frames of the video, or several views of it.

        Args:
            video: a file, an http(s) URL, or frames already decoded: an array (T, H, W, 3) of uint8, or what else
                `video.inputs.read_frames` takes.
            sampling: "uniform", the model's own rule; "random", one frame from each segment; or "keyframes", the
                keyframes nearest to the uniform frames: approximate, quick in long videos (for an array: "uniform").
            seed: for the random sampling.
            channels: the order of channels in arrays, "rgb" or "bgr".
            views: "10x3" for ten clips, each from a tenth of the video, times three crops, along the longer side of
                their frames: any number of clips up to MOST_CLIPS, and one crop, the centre, or three.
            thumbnails: whether to keep the sampled frames as thumbnails.

        Raises:
            ActionClipError: the video cannot be read, or the graphs are not available or cannot run.
        """
        graphs = self._graphs
        encoder = VideoEncoder(
            graphs, self._encode, sampling=sampling, seed=seed, channels=channels, views=views, thumbnails=thumbnails
        )
        if self.spec.checkpoint is not None:
            graphs.paths()  # an error where they have yet to be exported, before the video is read
        found = encoder.find(video)
        if isinstance(found, EncodedVideo):
            return found
        with run_in_background(lambda _: graphs.start(), concurrent=graphs.works_in_background) as started:
            clip = encoder.decode(found)
        started.result()
        [encoded] = encoder.encode([clip])
        encoder.close()
        return encoded

    def encode_many(
        self,
        videos: "Iterable[VideoInput]",
        *,
        sampling: str = "uniform",
        seed: int = 0,
        channels: str = "rgb",
        views: str = ONE_VIEW,
    ) -> Iterator[EncodedVideo | Failure]:
        """Encode any number of videos, several at a time.

        Args:
            videos: each of them as for `encode_video`; taken a bounded number ahead, in a thread of its own.
            sampling, seed, channels, views: as for `encode_video`.

        Returns:
            An iterator over the encoded videos in their order, without thumbnails. In the place of a video that cannot
            be read stands a Failure with its error. Memory does not grow with the number of videos. Threads are started
            with the first one that is asked for, and end when the iterator is exhausted, closed or collected.

        Raises:
            ActionClipError: the graphs are not available or cannot run.
        """
        return in_order(self._encode_many(videos, sampling, seed, channels, views, ordered=True))

    def _encode_many(
        self,
        videos: "Iterable[VideoInput]",
        sampling: str,
        seed: int,
        channels: str,
        views: str,
        *,
        ordered: bool,
        thumbnail: bool = False,
    ) -> Results[EncodedVideo]:
        """Return an iterator over the number of each video and what it is encoded to."""
        from action_clip.models.engine import Ready, Stages, run

        check_videos(videos)
        graphs, limits = self._shared_graphs()
        limits = limits._replace(items_per_run=max(limits.items_per_run // parse_views(views).total, 1))
        encoder = VideoEncoder(
            graphs,
            self._encode,
            sampling=sampling,
            seed=seed,
            channels=channels,
            views=views,
            thumbnail=thumbnail,
            threads=1,
        )

        def prepare(video: "VideoInput") -> Ready[DecodedVideo] | EncodedVideo:
            found = encoder.find(video)
            return found if isinstance(found, EncodedVideo) else Ready(encoder.decode(found))

        encoded = run(videos, Stages(prepare, encoder.encode, encoder.close, limits), ordered=ordered)

        def results() -> Results[EncodedVideo]:
            encoder.start()
            with closing(encoded):
                yield from encoded

        return results()

    def _timelines(
        self,
        videos: Iterable[VideoPath],
        choices: Choices,
        score: "Callable[[EncodedWindows], Scores]",
        window: float,
        stride: float | None,
        top_k: int,
    ) -> Results[Window]:
        """Return an iterator over the number of each video and its windows, in order; a Failure ends those of one."""
        from action_clip.models.window_encoder import WindowEncoder
        from action_clip.models.windows import make_spacing

        check_top_k(top_k)
        check_videos(videos)
        spacing = make_spacing(window, stride, self.spec.frames)
        graphs, limits = self._shared_graphs()
        whole = graphs if self._steps.frames else self._graphs
        encoded = WindowEncoder(graphs, whole, self._steps, spacing, limits).encode(videos)

        def windows() -> Results[Window]:
            with closing(encoded):
                for number, found in encoded:
                    if isinstance(found, Failure):
                        yield number, found
                        continue
                    timings: dict[str, float] = {}
                    with timed(timings, "score"):
                        scores = score(found)
                    for answer in found.answers(choices, scores, top_k, timings):
                        yield number, answer

        return windows()

    def _shared_graphs(self) -> tuple[ModelGraphs, "Limits"]:
        """Return the graphs for the engine, with one thread each where several run side by side, and its limits."""
        from action_clip.models.engine import Limits
        from action_clip.models.runtime.devices import CPU, provider

        graphs, workers = self._graphs, self._graphs.thread_count
        if provider(graphs.device) != CPU:
            return graphs, Limits(workers, runs=1, items_per_run=graphs.clips_per_run)
        if workers > 1:
            graphs = self._side_by_side = self._side_by_side or graphs.with_one_thread()
        return graphs, Limits(workers, runs=workers, items_per_run=1)

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
        self, encoded: EncodedVideo, choices: Choices, score: Callable[[], Scores], top_k: int
    ) -> Prediction:
        """Return the prediction; `score` returns the scores of each view, (V, labels)."""
        timings: dict[str, float] = {}
        with timed(timings, "score"):
            scores = score()
            probabilities, similarities = scores.probabilities.mean(axis=0), scores.similarities.mean(axis=0)
        return Prediction(
            **choices._asdict(),
            probabilities=probabilities,
            similarities=similarities,
            top_k=min(top_k, len(choices.labels)),
            video_features=encoded.features,
            frame_indices=encoded.clip.indices,
            model=self.spec.name,
            video=encoded.video,
            duration_s=encoded.clip.duration_s if encoded.clip.times_s else None,
            frame_times_s=encoded.clip.times_s,
            frames=encoded.clip.frames,
            timings_s=encoded.timings_s | timings,
            views=encoded.views,
            thumbnail=encoded.thumbnail,
        )


def check_videos(videos: object) -> None:
    """Raise ActionClipError where these are not several videos."""
    if isinstance(videos, str | os.PathLike) or not isinstance(videos, Iterable):
        raise ActionClipError(f"the videos are {videos!r}: give a list of them, or another iterable")
