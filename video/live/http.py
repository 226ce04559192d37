"""Live streams at http(s) addresses, through `connection`: FFmpeg itself never connects to them."""

import io
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import av

from action_clip.errors import ActionClipError
from action_clip.system.addresses import redacted
from action_clip.system.connection import (
    RedirectError,
    SlowError,
    Transfer,
    WaitBudget,
    WaitLimit,
    failure_reason,
)
from action_clip.video.address import URL_TIMEOUT_S, WITHOUT_END, RemoteContent, RemoteFile
from action_clip.video.ffmpeg_file import FFmpegFile, Readable, ReadStatus
from action_clip.video.live.feed import IN_BURSTS, Feed
from action_clip.video.live.opening import OPENING, open_file, streamed
from action_clip.video.playlist import HEAD_BYTES, check_end, is_hls, is_playlist
from action_clip.video.source import METADATA, VideoSource, decoder_options

if TYPE_CHECKING:
    from av.container import InputContainer

_SILENCE_S = 10.0
"""Seconds without data after which a stream is taken for broken."""
_SEGMENT_SILENCE_S = 30.0
"""The same for a playlist, whose segments come at once, and some seconds apart."""
_OPEN_S = 30.0
_CHUNK = 1 << 12
"""Bytes that are waited for, where the server does not send pieces with a length of their own."""
_OPTIONS = {**OPENING, "protocol_whitelist": "none"}
_HLS_OPTIONS = {
    **_OPTIONS,
    "http_persistent": "0",
    "http_multiple": "0",
    "live_start_index": "-1",  # the newest segment
}


def open_http(address: str) -> Feed:
    """Return the feed of a stream or playlist at an http(s) address; what has a length is a file, played at its rate.

    Raises ActionClipError where it cannot be read.
    """
    status = ReadStatus()
    shown = redacted(address)
    file = _Stream(shown, address, status)
    try:
        kind = file.content_type
        head = b"" if kind.startswith(WITHOUT_END) else file.peek(HEAD_BYTES)
        if is_hls(head):
            file.close()
            return _open_playlist(shown, file.url, status)
        if is_playlist(head):
            raise ActionClipError(f"{shown} is a playlist, which names other files; give one of these")
        if file.has_length:
            file.close()
            return open_file(address)
        source = VideoSource(shown, status=status)
        container = _opened(source, FFmpegSequence(file, status), "mpjpeg" if kind.startswith(WITHOUT_END) else None)
    except BaseException:
        file.close()
        raise
    return streamed(source, container, has_end=file.says_its_end, silence_s=_SILENCE_S)


class _Stream:
    """The content at an address, read once from its beginning to its end.

    Attributes:
        url: where redirects led.
        content_type: in lower case.
        has_length: whether the server states how long it is.
        says_its_end: whether a cut can be told from the end.
    """

    def __init__(self, name: str, address: str, status: ReadStatus) -> None:
        """Connect. Raises ActionClipError where the server does not answer so."""
        self._name = name
        self._rest = b""
        try:
            wait = WaitLimit(status.stop, URL_TIMEOUT_S)
            timeout_s = (URL_TIMEOUT_S, _SILENCE_S)
            self._transfer = Transfer(address, {"User-Agent": "action_clip"}, timeout_s, wait, chunk=_CHUNK)
        except Exception as error:
            raise self._failure(error) from None  # that error's text has the address with its secrets
        answer = self._transfer
        self.url = answer.url
        self.content_type = answer.headers.get("Content-Type", "").lower()
        self.has_length = answer.length is not None
        self.says_its_end = "Transfer-Encoding" in answer.headers
        self._chunks = self._received()
        if answer.status_code != 200:
            self.close()
            raise self._failure(f"the server answers {answer.status_code} {answer.reason}".rstrip())

    def peek(self, size: int) -> bytes:
        """Return the first bytes, fewer where the first piece that came is shorter; `read` returns them again."""
        while not self._rest and (chunk := next(self._chunks, b"")):
            self._rest = chunk
        return self._rest[:size]

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; b"" at the end. Raises ActionClipError where the connection breaks."""
        piece = self._rest or next(self._chunks, b"")
        self._rest = piece[size:]
        return piece[:size]

    def close(self) -> None:
        """End the transfer."""
        self._transfer.close()

    def _received(self) -> Iterator[bytes]:
        try:
            yield from self._transfer.chunks()
        except Exception as error:
            raise self._failure(error) from None

    def _failure(self, why: object) -> ActionClipError:
        reason = why
        if isinstance(why, Exception) and not isinstance(why, SlowError | RedirectError):
            reason = failure_reason(why)[0]
        return ActionClipError(
            f"the stream at {self._name} could not be read ({reason}); check the address and the connection"
        )


class FFmpegSequence:
    """A file object for PyAV that cannot seek: an error is recorded, and FFmpeg sees the end instead."""

    name = "stream"

    def __init__(self, file: _Stream, status: ReadStatus) -> None:
        self._file = file
        self._status = status

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; b"" at the end, or after an error."""
        try:
            self._status.check()
            return self._file.read(size)
        except Exception as error:
            self._status.record(error)
            return b""

    def close(self) -> None:
        """End the transfer."""
        self._file.close()


class _Playlist:
    """Opens a playlist again and again, and what it names, under the rules of `RemoteContent.part`."""

    def __init__(self, name: str, url: str, status: ReadStatus) -> None:
        self.name = name
        self._url = url
        self._status = status
        self._content = RemoteContent(name, url, WaitBudget(status.stop))

    def open(self) -> FFmpegFile:
        """Return the playlist. Raises ActionClipError where it cannot be read, or is none."""
        file = RemoteFile(self._content.anew(WaitBudget(self._status.stop)), owns=True)
        check_end(self.name, file, is_live=True)
        return FFmpegFile(file, self._content.base, self._status)

    def open_named(self, url: str, flags: int, options: dict[str, str]) -> FFmpegFile:
        """Open for FFmpeg what the playlist names, or itself. What is not there is empty, and may be there later."""
        status = ReadStatus()
        status.stop = self._status.stop
        file: Readable = io.BytesIO()
        try:
            part = self._part(url)
        except ActionClipError as error:  # it names what is not opened
            self._status.record(error)
            return FFmpegFile(file, url, status)
        with suppress(ActionClipError):
            file = RemoteFile(part, owns=True)
            if is_hls(file.read(len(b"#EXTM3U"))):
                file.seek(0, os.SEEK_SET)
                check_end(self.name, file, is_named=url != self._content.base, is_live=True)
            file.seek(0, os.SEEK_SET)
        return FFmpegFile(file, url, status)

    def _part(self, url: str) -> RemoteContent:
        wait = WaitBudget(self._status.stop)
        if url == self._content.base:
            return RemoteContent(self.name, self._url, wait)
        if url.startswith("crypto"):
            raise ActionClipError(f"the video at {self.name} is encrypted; give one that is not")
        return self._content.part(url).anew(wait)


def _open_playlist(shown: str, url: str, status: ReadStatus) -> Feed:
    playlist = _Playlist(shown, url, status)
    source = VideoSource(shown, status=status)
    container = _opened(source, playlist.open(), "hls", io_open=playlist.open_named)
    return streamed(source, container, pace=IN_BURSTS, has_end=True, silence_s=_SEGMENT_SILENCE_S)


def _opened(source: VideoSource, file: Any, kind: str | None, **how: Any) -> "InputContainer":
    """Return the container of a file object. Raises ActionClipError where it cannot be read as a video."""
    try:
        container: InputContainer = av.open(
            file,
            "r",
            format=kind,
            options=decoder_options(),
            container_options=_HLS_OPTIONS if kind == "hls" else _OPTIONS,
            timeout=(_OPEN_S, _SEGMENT_SILENCE_S if kind == "hls" else _SILENCE_S),
            **how,
            **METADATA,
        )
        return container
    except (av.FFmpegError, ValueError) as error:
        source.check()
        failure = ActionClipError(
            f"the stream at {source.name} could not be read ({getattr(error, 'strerror', None) or error}); check the "
            "address and the connection"
        )
        raise failure from error
