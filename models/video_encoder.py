"""From a video to its features: frames are decoded and preprocessed, and the graphs run, unless the video is known."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from action_clip.models.encoded import NO_FRAMES, EncodedClips, EncodedVideo
from action_clip.models.known_videos import KnownVideos
from action_clip.models.model_graphs import ModelGraphs
from action_clip.system.addresses import display_name
from action_clip.video import check_channels
from action_clip.video.sampling import make_sampler

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
class DecodedClip:
    """A clip of a video, ready for the graphs."""

    source: UnknownVideo
    tensor: NDArray[np.float32]
    """(T, 3, S, S)."""
    clip: "Clip"
    """With thumbnails, or without any frames."""
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
        thumbnails: bool,
        threads: int | None = None,
    ) -> None:
        """Choose the model and the frames.

        Args:
            graphs: the model's graphs.
            encode: runs them on clips, (N, T, 3, S, S).
            sampling, seed, channels, thumbnails: as for `Model.encode_video`.
            threads: number of threads for one video; None: as many as the model has.

        Raises:
            ActionClipError: there is no such sampling or order of channels, or the seed is not a whole number from 0.
        """
        check_channels(channels)
        self._graphs = graphs
        self._encode = encode
        self._sampler = make_sampler(sampling, graphs.spec.frames, seed, graphs.spec.uniform)
        self._channels = channels
        self._thumbnails = thumbnails
        self._threads = threads or graphs.threads
        self._known = KnownVideos(graphs, sampling, seed)
        self._readers: set[VideoReader] = set()

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
        if not self._thumbnails:
            return encoded
        timings: dict[str, float] = {}
        with timed(timings, "decode"):
            frames = self._small(self._read(video).frames)
        return replace(encoded, clip=replace(encoded.clip, frames=frames), timings_s=encoded.timings_s | timings)

    def decode(self, source: UnknownVideo) -> DecodedClip:
        """Decode and preprocess the frames that the sampler chooses.

        Raises ActionClipError where the video cannot be read.
        """
        from action_clip.video.preprocess import clip_tensor

        spec = self._graphs.spec
        timings: dict[str, float] = {}
        with timed(timings, "decode"):
            clip = self._read(source.video)
        timings["decode"] += source.seconds
        with timed(timings, "preprocess"):
            threads = self._threads or self._graphs.thread_count
            tensor = clip_tensor(clip.frames, spec.image_size, spec.mean, spec.std, spec.resize, threads)
            clip = replace(clip, frames=self._small(clip.frames) if self._thumbnails else NO_FRAMES)
        return DecodedClip(source, tensor, clip, timings)

    def encode(self, clips: Sequence[DecodedClip]) -> list[EncodedVideo]:
        """Run the graphs on clips of several videos at once; each of these takes an equal part of the time.

        Raises ActionClipError where the graphs are not available or cannot run.
        """
        encoded = self._encode(self._graphs, np.stack([clip.tensor for clip in clips]))
        timings_s = {stage: seconds / len(clips) for stage, seconds in encoded.timings_s.items()}
        videos = [
            EncodedVideo(
                features=encoded.features[number],
                frame_features=None if encoded.frame_features is None else encoded.frame_features[number],
                logits=encoded.logits[number],
                clip=clip.clip,
                video=name_of(clip.source.video),
                model=self._graphs.spec.name,
                timings_s=clip.timings_s | timings_s,
            )
            for number, clip in enumerate(clips)
        ]
        for clip, video in zip(clips, videos, strict=True):
            if clip.source.key is not None:
                self._known.add(clip.source.key, clip.source.video, video)
        return videos

    def close(self) -> None:
        """Make the calls of `find` and `decode` that are in progress fail soon, and write to the disk what is kept."""
        for reader in list(self._readers):
            reader.close()
        self._known.flush()

    def _read(self, video: "VideoInput") -> "Clip":
        from action_clip.video.inputs import read_frames

        return read_frames(video, self._sampler, channels=self._channels, threads=self._threads, readers=self._readers)

    def _small(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        from action_clip.video.thumbnails import thumbnails

        return thumbnails(frames, self._threads or self._graphs.thread_count)


def name_of(video: object) -> str | None:
    """Return the path or URL of a video, without its password or token; None for anything else."""
    return display_name(os.fsdecode(video)) if isinstance(video, str | os.PathLike) else None


@contextmanager
def timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    """Store the seconds that the block takes as `timings[stage]`."""
    began = perf_counter()
    yield
    timings[stage] = perf_counter() - began
