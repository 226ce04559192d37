"""The videos that a model knows: what the video bank has of them, under a key of all that it depends on."""

import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from xxhash import xxh3_128_hexdigest

from action_clip.models.encoded import NO_FRAMES, EncodedClips, EncodedVideo
from action_clip.models.model_graphs import ModelGraphs
from action_clip.system.forks import cached_property
from action_clip.video.views import ONE_VIEW, parse_views

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from action_clip.models.cache.video_bank import VideoBank
    from action_clip.video.inputs import VideoInput

_VERSION = 1
"""Changes when the same file and options give other frames, or other tensors of them."""


_VERSION_FILES = {"av": "about.py", "PIL": "_version.py"}
"""The packages that decode, with FFmpeg in PyAV, and their modules that have nothing but the version."""


class KnownVideos:
    """The videos that were encoded with one model and one way of choosing frames."""

    def __init__(self, graphs: ModelGraphs, sampling: str, seed: int, views: str = ONE_VIEW) -> None:
        """Choose the model and the frames: arguments as for `Model.encode_video`."""
        self._graphs = graphs
        self._views = parse_views(views)
        # Of one view, keys are the same as before there were several.
        several = () if self._views.total == 1 else (str(self._views),)
        self._sampling = (sampling, seed if sampling == "random" else 0, *several)
        self._roles = graphs.spec.video_roles

    def start(self) -> None:
        """Compute what all keys have in common, which later calls in any thread use.

        Raises ActionClipError where the model's graphs cannot be read, or as `video_bank` and `most_pixels` do.
        """
        from action_clip.video.pixels import most_pixels

        most_pixels()
        if self._bank is not None:
            _ = self._dependencies

    def key(self, video: "VideoInput", frames: "Sequence[int] | None" = None) -> str | None:
        """Return the key of a video; None where nothing is kept of it: a URL, a pipe, frames, or a model with no cache.

        With the indices of some `frames` it is the key of these alone.

        Raises ActionClipError where the model's graphs cannot be read.
        """
        if self._bank is None or not isinstance(video, str | os.PathLike):
            return None
        from action_clip.models.cache.video_bank import video_fingerprint

        fingerprint = video_fingerprint(video)
        if fingerprint is None:
            return None
        # FFmpeg takes a file of JPEG pictures for a video or for one picture, by the ending of its name.
        ending = os.path.splitext(os.fsdecode(video))[1].lower()
        part = "" if frames is None else f" {list(frames)}"
        key = f"{fingerprint} {ending} {self._dependencies}{part}"
        return xxh3_128_hexdigest(key.encode(errors="backslashreplace"))

    def find(self, key: str) -> EncodedVideo | None:
        """Return what is kept under the key, without name and thumbnails, and with 0 s for stages that are left out."""
        from action_clip.video.clip import Clip

        known = None if self._bank is None else self._bank.read(key)
        if known is None:
            return None
        frames, count = known.frame_features, self._views.total
        return EncodedVideo(
            by_view=EncodedClips(
                features=known.features.reshape(count, -1),
                frame_features=None if frames is None else frames.reshape(count, -1, frames.shape[-1]),
                logits=known.logits.reshape(count, -1),
                timings_s={},
            ),
            clip=Clip(NO_FRAMES, known.indices, known.times_s, known.total_frames, known.duration_s),
            video=None,
            model=self._graphs.spec.name,
            timings_s=dict.fromkeys(["preprocess", *self._roles], 0.0),
            views=str(self._views),
        )

    def add(self, key: str, video: "VideoInput", encoded: EncodedVideo) -> None:
        """Keep an encoded video, unless its file has changed since it got the key."""
        from action_clip.models.cache.video_bank import KnownVideo

        if self._bank is None or self.key(video) != key:
            return
        clip = encoded.clip
        self._bank.write(
            key,
            KnownVideo(
                features=encoded.by_view.features.ravel(),
                frame_features=encoded.frame_features,
                logits=encoded.by_view.logits.ravel(),
                indices=clip.indices,
                times_s=clip.times_s,
                total_frames=clip.total_frames,
                duration_s=clip.duration_s,
            ),
        )

    def find_rows(self, key: str) -> "NDArray[np.float32] | None":
        """Return the features of the frames with this key, (N, D)."""
        known = None if self._bank is None else self._bank.read(key)
        return None if known is None else known.frame_features

    def add_rows(self, key: str, video: "VideoInput", frames: "Sequence[int]", rows: "NDArray[np.float32]") -> None:
        """Keep the features of frames, (N, D), unless the video's file has changed since they got the key."""
        from action_clip.models.cache.video_bank import KnownVideo

        if self._bank is None or self.key(video, frames) != key:
            return
        none = np.empty(0, np.float32)
        self._bank.write(key, KnownVideo(none, rows, none, tuple(frames), (), 0, 0.0))

    def flush(self) -> None:
        """Write to the disk what was added."""
        if "_bank" in vars(self) and self._bank is not None:
            self._bank.flush()

    @cached_property
    def _bank(self) -> "VideoBank | None":
        if not (self._graphs.cache and self._graphs.is_on_disk):
            return None
        from action_clip.models.cache.video_bank import video_bank

        return video_bank()

    @cached_property
    def _dependencies(self) -> str:
        spec = self._graphs.spec
        preprocessing = (spec.frames, spec.uniform, spec.image_size, spec.resize, spec.mean, spec.std)
        identities = [self._graphs[role].identity() for role in self._roles]
        decoding = (*map(_version, _VERSION_FILES), os.environ.get("ACTION_CLIP_MAX_PIXELS", "").strip())
        return f"{_VERSION} {decoding} {self._sampling} {preprocessing} {identities}"


def _version(package: str) -> str:
    """Return what tells versions of a package of _VERSION_FILES apart, without importing it, which takes 0.05 s."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    try:
        return Path(spec.origin).with_name(_VERSION_FILES[package]).read_text()
    except OSError:
        return str(import_module(package).__version__)
