"""The open decoders of a video, and its packet tables, for many uses of one reader."""

from collections.abc import Iterator
from contextlib import contextmanager

from action_clip.system.forks import cached_property
from action_clip.video.mp4_index import table_of_index
from action_clip.video.packets import PacketTable, scan
from action_clip.video.source import Video, VideoSource, open_video


class Decoders:
    """The open decoders of a video, and what is known of its packets: each is opened and read once, and used again."""

    def __init__(self, source: VideoSource, threads: int) -> None:
        """Open nothing yet; `threads` is the number of decoding threads, 0 for one a core."""
        self.source = source
        self.threads = threads
        self._open: dict[tuple[int, bool], Video] = {}

    @cached_property
    def indexed(self) -> PacketTable | None:
        """All packets, by the index of an MP4 file; None where that leaves doubt."""
        with self.get(self.threads) as video:
            return table_of_index(video)

    @cached_property
    def scanned(self) -> PacketTable:
        """All packets, by reading through the video once."""
        self._close(self.threads, False)  # a new one is at the video's start
        with self.get(self.threads) as video:
            return scan(video)

    @contextmanager
    def get(self, threads: int, *, strict: bool = False) -> Iterator[Video]:
        """Yield the video, open at any place; arguments and errors as of `source.open_video`."""
        if (threads, strict) not in self._open:
            self._open[threads, strict] = open_video(self.source, threads, strict=strict)
        video = self._open[threads, strict]
        try:
            yield video
        finally:
            # The output of a decoder that does not refuse damage depends on all that it has decoded before.
            if video.has_decoded and not (video.is_strict and video.notices_damage):
                self._close(threads, strict)

    def close(self) -> None:
        """Close all of them."""
        for threads, strict in list(self._open):
            self._close(threads, strict)

    def _close(self, threads: int, strict: bool) -> None:
        if video := self._open.pop((threads, strict), None):
            video.close()
