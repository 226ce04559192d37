"""From a video to its features: frames are decoded and preprocessed, and the graphs run, unless the video is known."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.encoded import NO_FRAMES, EncodedClips, EncodedVideo, add_timings, joined, timed
from action_clip.models.heads import with_head
from action_clip.models.known_videos import KnownVideos
from action_clip.models.model_graphs import ModelGraphs
from action_clip.system.addresses import display_name
from action_clip.video import check_channels
from action_clip.video.sampling import make_sampler
from action_clip.video.views import parse_views

if TYPE_CHECKING:
    from action_clip.video.clip import Clip
    from action_clip.video.inputs import VideoInput
    from action_clip.video.reader import VideoReader

Encode = Callable[[ModelGraphs, NDArray[np.float32]], EncodedClips]


@dataclass(frozen=True)
class UnknownVideo:
    """A video that has to be encoded."""

    video: "VideoInput"
    key: str | None
    """Its key in the video bank; None where it cannot be kept."""
    seconds: float
    """What looking for it took."""


@dataclass(frozen=True, eq=False)
class DecodedVideo:
    """The frames of a video, ready for the graphs."""

    source: UnknownVideo
    views: Sequence[Callable[[], NDArray[np.float32]]]
    """A function for each view that returns its tensor, (T, 3, S, S). Those of all views would take much memory."""
    clip: "Clip"
    """With thumbnails, or without any frames."""
    thumbnail: NDArray[np.uint8] | None
    timings_s: dict[str, float]


class VideoEncoder:
    """Encodes videos with one model and one way of choosing frames. Any thread may call its methods."""

    def __init__(
        self,
        graphs: ModelGraphs,
        encode: Encode,
        *,
        sampling: str,
        seed: int,
        channels: str,
        views: str,
        thumbnails: bool = False,
        thumbnail: bool = False,
        threads: int | None = None,
    ) -> None:
        """Choose the model and the frames.

        Args:
            graphs: the model's graphs.
            encode: runs them on clips, (N, T, 3, S, S).
            sampling, seed, channels, views, thumbnails: as for `Model.encode_video`.
            thumbnail: whether to keep a single one, as in Prediction.
            threads: number of threads for one video; None: as many as the model has.

        Raises:
            ActionClipError: there are no such views, there is no such sampling or order of channels, or the seed is not
                a whole number from 0.
        """
        check_channels(channels)
        self._graphs = graphs
        self._encode = encode
        self._views = parse_views(views)
        # Of frames for all clips, each run of T is those of a clip, and lies in a stretch of its own.
        self._sampler = make_sampler(sampling, self._views.clips * graphs.spec.frames, seed, graphs.spec.uniform)
        self._channels = channels
        self._thumbnails = thumbnails
        self._thumbnail = thumbnail
        self._threads = threads or graphs.threads
        self._known = KnownVideos(graphs, sampling, seed, views)
        self._readers: set[VideoReader] = set()
        self._is_closed = False

    def start(self) -> None:
        """Do what all videos need: fetch the graphs, and compute what their keys have in common.

        Raises ActionClipError where the graphs are not available or cannot be read, or an environment variable has
        a wrong value.
        """
        self._graphs.paths()
        self._known.start()

    def find(self, video: "VideoInput") -> EncodedVideo | UnknownVideo:
        """Return what the video was encoded to before, in this process or another one; else what `decode` takes."""
        began = perf_counter()
        key = self._known.key(video)
        found = None if key is None else self._known.find(key)
        seconds = perf_counter() - began
        if found is None:
            return UnknownVideo(video, key, seconds)
        encoded = replace(found, video=name_of(video), timings_s={"decode": seconds} | found.timings_s)
        encoded = self._with_head(encoded)
        if self._thumbnail:
            return replace(encoded, thumbnail=self._keyframe(video))
        if not self._thumbnails:
            return encoded
        timings: dict[str, float] = {}
        with timed(timings, "decode"):
            frames = self._small(self._read(video).frames)
        return replace(encoded, clip=replace(encoded.clip, frames=frames), timings_s=encoded.timings_s | timings)

    def decode(self, source: UnknownVideo) -> DecodedVideo:
        """Decode the frames that the sampler chooses, and preprocess them; of several views, `encode` does the latter.

        Raises ActionClipError where the video cannot be read.
        """
        timings: dict[str, float] = {}
        with timed(timings, "decode"):
            clip = self._read(source.video)
        timings["decode"] += source.seconds
        with timed(timings, "preprocess"):
            views = self._tensors(clip.frames)
            thumbnail = self._middle(clip.frames) if self._thumbnail else None
            clip = replace(clip, frames=self._small(clip.frames) if self._thumbnails else NO_FRAMES)
        return DecodedVideo(source, views, clip, thumbnail, timings)

    def _tensors(self, frames: NDArray[np.uint8]) -> list[Callable[[], NDArray[np.float32]]]:
        """Return a function for each view that returns its tensor, (T, 3, S, S); that of a single one is made now."""
        from action_clip.video.preprocess import clip_tensor

        spec = self._graphs.spec
        threads = self._threads or self._graphs.thread_count
        crops: Sequence[int | None] = [None] if self._views.crops == 1 else range(self._views.crops)
        tensors: list[Callable[[], NDArray[np.float32]]] = [
            partial(clip_tensor, clip, spec.image_size, spec.mean, spec.std, spec.resize, threads, crop)
            for crop in crops
            for clip in np.split(frames, self._views.clips)
        ]
        if len(tensors) > 1:
            return tensors
        tensor = tensors[0]()
        return [lambda: tensor]

    def encode(self, videos: Sequence[DecodedVideo]) -> list[EncodedVideo]:
        """Run the graphs on all views of several videos; each of these takes an equal part of the time.

        What is kept of a video is without the model's head.

        Raises ActionClipError where the graphs are not available or cannot run, and when the encoder is closed.
        """
        encoded = self._encoded([view for video in videos for view in video.views])
        timings_s = {stage: seconds / len(videos) for stage, seconds in encoded.timings_s.items()}
        results = []
        for number, video in enumerate(videos):
            add_timings(video.timings_s, timings_s)
            result = EncodedVideo(
                by_view=encoded.part(number * self._views.total, (number + 1) * self._views.total),
                clip=video.clip,
                video=name_of(video.source.video),
                model=self._graphs.spec.name,
                timings_s=video.timings_s,
                views=str(self._views),
                thumbnail=video.thumbnail,
            )
            if video.source.key is not None:
                self._known.add(video.source.key, video.source.video, result)
            results.append(self._with_head(result))
        return results

    def _with_head(self, video: EncodedVideo) -> EncodedVideo:
        by_view = with_head(self._graphs, video.by_view)
        timings_s = video.timings_s | by_view.timings_s
        return replace(video, by_view=replace(by_view, timings_s={}), timings_s=timings_s)

    def _encoded(self, views: Sequence[Callable[[], NDArray[np.float32]]]) -> EncodedClips:
        """Run the graphs on these views, as many at a time as one run is to have."""
        most = 1 if len(views) == 1 else self._graphs.clips_per_run
        runs = []
        for first in range(0, len(views), most):
            if self._is_closed:
                raise ActionClipError("the results are no longer wanted: begin again")
            timings: dict[str, float] = {}
            with timed(timings, "preprocess"):
                tensors = np.stack([view() for view in views[first : first + most]])
            encoded = self._encode(self._graphs, tensors)
            runs.append(replace(encoded, timings_s=timings | encoded.timings_s))
        return joined(runs)

    def close(self) -> None:
        """Make the calls in progress fail soon, and write to the disk what is kept."""
        self._is_closed = True
        for reader in list(self._readers):
            reader.close()
        self._known.flush()

    def _read(self, video: "VideoInput") -> "Clip":
        from action_clip.video.frame_buffer import unchanged
        from action_clip.video.inputs import read_frames
        from action_clip.video.preprocess import reduced

        return read_frames(
            video,
            self._sampler,
            channels=self._channels,
            threads=self._threads,
            readers=self._readers,
            shrink=unchanged if self._views.total == 1 else partial(reduced, resize=self._graphs.spec.resize),
        )

    def _small(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        from action_clip.video.thumbnails import thumbnails

        return thumbnails(frames, self._threads or self._graphs.thread_count)

    def _middle(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        from action_clip.video.thumbnails import thumbnail

        return thumbnail(frames[len(frames) // 2])

    def _keyframe(self, video: "VideoInput") -> NDArray[np.uint8] | None:
        """Return the thumbnail of a file whose frames need not be decoded; None where it cannot be read."""
        from action_clip.video.thumbnails import keyframe_thumbnail

        assert isinstance(video, str | os.PathLike)
        try:
            return keyframe_thumbnail(video, threads=self._threads, readers=self._readers)
        except ActionClipError:  # the answer does not depend on it
            return None


def name_of(video: object) -> str | None:
    """Return the path or URL of a video, without its password or token; None for anything else."""
    return display_name(os.fsdecode(video)) if isinstance(video, str | os.PathLike) else None
