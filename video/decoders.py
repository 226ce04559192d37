"""The decoders and packet tables of a video, which the strategies of a reader share."""

from collections.abc import Iterator
from contextlib import contextmanager

from action_clip.system.forks import cached_property
from action_clip.video.mp4_index import table_of_index
from action_clip.video.packets import PacketTable, scan
from action_clip.video.source import Video, VideoSource, open_video


class Decoders:
    """The open decoders and the packet tables of a video: each is made when it is first needed, and used again."""

    def __init__(self, source: VideoSource, threads: int) -> None:
        """Open nothing yet; `threads` is the number of decoding threads, 0 for one a core."""
        self.source = source
        self.threads = threads
        self._open: dict[tuple[int, bool], Video] = {}
        self._spare: list[Video] = []

    @cached_property
    def indexed(self) -> PacketTable | None:
        """The table of all packets from the index of an MP4 file; None as from `table_of_index`."""
        with self.get(self.threads) as video:
            return table_of_index(video)

    @cached_property
    def scanned(self) -> PacketTable:
        """The table of all packets from reading through the video once."""
        self._close(self.threads, False)  # a new one is at the video's start
        with self.get(self.threads) as video:
            return scan(video)

    @contextmanager
    def get(self, threads: int, *, strict: bool = False) -> Iterator[Video]:
        """Yield the open video, at any position; arguments and errors are those of `source.open_video`."""
        if (threads, strict) not in self._open:
            self._open[threads, strict] = open_video(self.source, threads, strict=strict)
        video = self._open[threads, strict]
        try:
            yield video
        finally:
            # The output of a decoder that does not refuse damage depends on all that it has decoded before.
            if video.has_decoded and not (video.is_strict and video.notices_damage):
                self._close(threads, strict)

    @contextmanager
    def spare(self) -> Iterator[Video]:
        """Yield the open video, with a strict decoder of one thread, for this block alone, in any number of threads.

        It is at any position. Errors are those of `source.open_video`.
        """
        try:
            video = self._spare.pop()
        except IndexError:
            video = open_video(self.source, 1, strict=True)
        try:
            yield video
        except BaseException:
            video.close()
            raise
        if self.source.status.stop.is_set() or not video.notices_damage:
            video.close()
        else:
            self._spare.append(video)

    def close(self) -> None:
        """Close all open decoders."""
        for threads, strict in list(self._open):
            self._close(threads, strict)
        while self._spare:
            self._spare.pop().close()

    def _close(self, threads: int, strict: bool) -> None:
        if video := self._open.pop((threads, strict), None):
            video.close()
