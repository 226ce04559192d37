"""Opening a video: a file, a pipe or an http(s) address becomes an open container and its video stream."""

from __future__ import annotations  # PyAV subscripts Packet in its stubs only

import errno
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any, BinaryIO

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from action_clip.errors import ActionClipError
from action_clip.system.addresses import is_address, is_offline, is_other_address, redacted, unsupported_address
from action_clip.system.connection import WaitBudget
from action_clip.system.cores import usable_cores
from action_clip.system.files import draft_folder
from action_clip.system.forks import cached_property
from action_clip.system.interrupts import interruptible
from action_clip.video.address import RemoteContent, RemoteFile, check_disk_space, no_disk_space
from action_clip.video.alpha import Alpha, has_alpha
from action_clip.video.ffmpeg_file import FFmpegFile, Readable, ReadStatus, read_all
from action_clip.video.frame_threads import decode_packet
from action_clip.video.mp4_boxes import check_sample_counts
from action_clip.video.pixels import PYAV, check_size, most_pixels, pixel_aspect
from action_clip.video.playlist import HEAD_BYTES, check_end, is_hls, is_playlist

_CHUNK = 1 << 20
_BUFFER = 1 << 16
"""Bytes that FFmpeg asks for at once: with fewer, the calls to Python take noticeable time."""
_MOST_THREADS = 16  # FFmpeg's own bound where it chooses
MOST_READERS = 4
"""Most decoders of a video at once: each takes memory for its index, and for the frames that others refer to."""
_PIXELS_AT_ONCE = 2**28
"""Most pixels of the frames that a decoder's threads work on at once."""

_ALIGNMENT = 2**23
"""Pixels that a decoder may add to a frame by rounding its sides up."""

_STRICT = {"err_detect": "bitstream+buffer+explode"}
_UNAWARE = ("hevc", "vp8", "ffv1", "mpeg4")
"""Codecs whose decoders do not refuse all damage, but show in its place what was in a frame's memory, or in the frame
before: that depends on everything decoded before and, with several threads, on their timing. (The decoder of MPEG-4
refuses damage, but not always with several threads.)"""

_NOT_VIDEO_FORMATS = {"tty"}  # FFmpeg's player of text files
# Metadata that is not UTF-8 stops PyAV up to 18 unless it is told otherwise; 19 never stops, and cannot be told.
METADATA: dict[str, Any] = {"metadata_errors": "ignore"} if PYAV < 19 else {}
_CONTAINER_OPTIONS = {
    # Some formats (concat, VobSub, SDP) bypass `io_open` for files that they name; no protocol has the name "none".
    "protocol_whitelist": "none",
    # For HLS: FFmpeg keeps no connections, and reads a playlist once.
    "http_persistent": "0",
    "http_multiple": "0",
    "max_reload": "1",
}


@dataclass(frozen=True)
class VideoSource:
    """Where a video is: its `name` in messages, and the path of the file or the content at the URL."""

    name: str
    path: Path = field(default_factory=Path)
    """The file; unused for a URL."""
    content: RemoteContent | None = None
    status: ReadStatus = field(default_factory=ReadStatus)

    @property
    def is_url(self) -> bool:
        """Whether the video is at a URL."""
        return self.content is not None

    @contextmanager
    def for_child(self) -> Iterator[VideoSource]:
        """Yield the same source for a forked child: with nothing that the parent has opened, and nothing to remove."""
        if self.content is None:
            yield replace(self, status=ReadStatus())
            return
        status = ReadStatus()
        content = self.content.anew(WaitBudget(status.stop))
        try:
            yield replace(self, content=content, status=status)
        finally:
            content.close()

    def size(self) -> int:
        """Return the size of a file in bytes. Raises ActionClipError where it no longer exists."""
        try:
            return self.path.stat().st_size
        except OSError as error:
            raise _not_there(self.name, error) from error

    @cached_property
    def format(self) -> str | None:
        """FFmpeg's name of the format, "hls", for HLS at a URL; else None, and FFmpeg detects the format.

        FFmpeg itself recognises HLS only by file name and MIME type. Raises ActionClipError for other playlists, and
        for an index that claims too many samples.
        """
        file = self.open()
        try:
            head = read_all(file, HEAD_BYTES)
            check_sample_counts(self.name, file, whole=not self.is_url)
            file.seek(0, os.SEEK_SET)
            if is_stream := self.is_url and is_hls(head):
                check_end(self.name, file)
        finally:
            file.close()
            self.check()
        if is_playlist(head) and not is_stream:
            raise ActionClipError(f"{self.name} is a playlist, which names other files; give one of these")
        return "hls" if is_stream else None

    def open(self) -> FFmpegFile:
        """Return the file, open at its start. Raises ActionClipError where it cannot be opened."""
        if self.content is not None:
            file: Readable = RemoteFile(self.content)
            file.read(1)  # redirects are followed
            file.seek(0, os.SEEK_SET)
            return FFmpegFile(file, self.content.base, self.status)
        try:
            file = open(self.path, "rb", buffering=0)  # noqa: SIM115 the caller closes it
        except OSError as error:
            raise _not_there(self.name, error) from error
        # Without the name, in which FFmpeg would see patterns and protocols.
        ending = re.search(r"\.[A-Za-z0-9]{1,8}$", self.path.name)
        return FFmpegFile(file, f"video{ending[0] if ending else ''}", self.status)

    def open_named(self, url: str, flags: int, options: dict[str, str]) -> FFmpegFile:
        """Open for FFmpeg what an HLS playlist at a URL names; otherwise record an error and return an empty file."""
        try:
            self.status.check()
            if self.content is None:
                raise ActionClipError(f"{self.name} names other files, which are not opened; give one of these")
            if url.startswith("crypto"):
                raise ActionClipError(f"the video at {self.name} is encrypted; give one that is not")
            file: Readable = RemoteFile(self.content.part(url), owns=True)
            if is_hls(file.read(len(b"#EXTM3U"))):
                file.seek(0, os.SEEK_SET)
                check_end(self.name, file, is_named=True)
            file.seek(0, os.SEEK_SET)
        except Exception as error:
            self.status.record(error)
            file = io.BytesIO()
        return FFmpegFile(file, url, self.status)

    def check(self) -> None:
        """Raise the error of reading, if there was one: ActionClipError, or StoppedError."""
        try:
            self.status.check()
        except (OSError, ValueError) as error:
            raise read_failure(self, error) from error


@dataclass
class Video:
    """An open container, its video stream, and a decoder."""

    source: VideoSource
    container: InputContainer
    stream: VideoStream
    alpha: Alpha | None = None
    """The decoder of transparency that is stored beside the pictures."""
    threads: int = 1
    """How many threads decode at once, in one decoder or in several."""
    file: FFmpegFile | None = None
    """The file that the container reads from."""
    is_strict: bool = False
    """Whether the decoder raises an error for damage that it notices."""
    has_decoded: bool = False

    @cached_property
    def aspect(self) -> Fraction:
        """Width of its pixels over their height, as players show them."""
        return pixel_aspect(self.stream)

    @property
    def notices_damage(self) -> bool:
        """Whether frames that are decoded without an error depend on the packets alone."""
        return self.stream.codec_context.name not in _UNAWARE

    def decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """Return the frames that the decoder outputs next; a `packet` of None empties the decoder.

        Raises FFmpegError where the packet cannot be decoded, StoppedError when reading is to end.
        """
        self.source.status.check()
        self.has_decoded = True
        try:
            frames = decode_packet(self.stream.codec_context, packet)
            return self.alpha.apply(frames, packet) if self.alpha else frames
        except av.FFmpegError:
            raise
        except ValueError as error:  # PyAV 19, after the decoder could not be opened
            raise av.FFmpegError(errno.EINVAL, str(error)) from error

    def close(self) -> None:
        """Close the container and its file."""
        self.container.close()
        if self.file is not None:
            self.file.close()


@contextmanager
def locate(source: str | os.PathLike[str]) -> Iterator[VideoSource]:
    """Yield the source of a file name or an http(s) URL; a pipe is first copied to a temporary file.

    A pipe can be read only once, and finding frames may take two passes. Raises ActionClipError for a missing, empty or
    unreadable file, a folder, a device, an address that is not http(s), and any address where connecting is forbidden.
    """
    name = os.fsdecode(source)
    if is_address(name):
        name = name.strip()
        shown = redacted(name)
        if is_offline():
            raise ActionClipError(
                f"the video {shown} is an address, and ACTION_CLIP_OFFLINE forbids connecting; download it first"
            )
        status = ReadStatus()
        content = RemoteContent(shown, name, WaitBudget(status.stop))
        try:
            yield VideoSource(shown, content=content, status=status)
        finally:
            content.close()
        return
    try:
        file_status = os.stat(name)
    except (OSError, ValueError) as error:
        raise _not_there(name, error) from error
    if stat.S_ISDIR(file_status.st_mode):
        raise ActionClipError(f"{name} is a folder, not a video; name one video file")
    if stat.S_ISREG(file_status.st_mode):
        if not file_status.st_size:
            raise ActionClipError(f"the video {name} is empty (0 bytes); copy or download it again")
        yield VideoSource(name, Path(os.path.abspath(name)))
    elif stat.S_ISFIFO(file_status.st_mode):
        with _copied(name) as copy:
            yield VideoSource(name, copy)
    else:
        raise ActionClipError(f"{name} is a device, not a video; name a video file")


def open_video(source: VideoSource, threads: int, *, strict: bool = False) -> Video:
    """Return the video, open at its start; every stream but the best video stream is skipped unread.

    `threads` is the number of decoding threads, 0 for one a core; fewer where frames are very large. With one thread,
    damage is concealed, the same way every time, unless the decoder is `strict`. With several threads the result would
    vary: then, and with `strict`, decoding damage raises FFmpegError.

    Raises ActionClipError when there is no video to decode: not a video file, only audio, only a cover picture, an
    unknown codec, a playlist of other files, frames of more than `most_pixels()`; and where reading fails.
    """
    with ExitStack() as resources:
        resources.callback(source.check)
        file = resources.enter_context(closing(source.open()))
        container = resources.enter_context(open_container(source, file))
        stream = video_stream(source.name, container)
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        context = stream.codec_context
        check_size(source.name, context.width, context.height)
        context.thread_type = "AUTO"
        threads = _threads(threads, context.width * context.height)
        alpha = Alpha(stream, decoder_options()) if has_alpha(stream) else None
        video = Video(source, container, stream, alpha, 1 if alpha else threads, file)
        context.thread_count = video.threads if video.notices_damage else 1
        context.options = decoder_options()  # for frames that are larger than the stream states
        video.is_strict = strict or context.thread_count != 1
        if video.is_strict:
            context.options |= _STRICT
        resources.pop_all()
    return video


@contextmanager
def opened(source: VideoSource, threads: int, *, strict: bool = False) -> Iterator[Video]:
    """Yield the video as `open_video` returns it, and close it afterwards.

    Raises ActionClipError as `open_video` does, and where reading fails, at the latest when the block ends.
    """
    with closing(open_video(source, threads, strict=strict)) as video:
        try:
            yield video
        except GeneratorExit:  # the caller wants no more frames, and would not get an error
            raise
        except BaseException:
            source.check()
            raise
        source.check()


@contextmanager
def _copied(name: str) -> Iterator[Path]:
    """Yield the path of a temporary copy of what comes through a pipe."""
    stop = Event()

    def copy(file: BinaryIO) -> None:
        try:
            pipe = open(name, "rb")  # noqa: SIM115 closed below; it has errors of its own
        except OSError as error:
            raise _not_there(name, error) from error
        with pipe:
            while not stop.is_set() and (data := pipe.read1(_CHUNK)):
                check_disk_space(name, len(data))
                file.write(data)

    with ExitStack() as folders:
        try:
            target = folders.enter_context(draft_folder()) / "video"
            # Made here, as after Ctrl-C the thread may go on while the folder is removed.
            with target.open("wb") as file:
                interruptible(lambda: copy(file), stop, awaited_at_exit=False)
        except OSError as error:
            raise no_disk_space(name) from error
        if not target.stat().st_size:
            raise ActionClipError(f"nothing came through the pipe {name}; check what writes to it")
        yield target


def open_container(source: VideoSource, file: FFmpegFile) -> InputContainer:
    """Return the container in a file that `source` has opened. Raises ActionClipError where it cannot be read."""
    try:
        container: InputContainer = av.open(
            file,
            "r",
            format=source.format,
            options=decoder_options(),  # to know a stream, FFmpeg decodes some of it
            container_options=_CONTAINER_OPTIONS,
            buffer_size=_BUFFER,
            io_open=source.open_named,
            **METADATA,
        )
        return container
    except (av.FFmpegError, ValueError) as error:
        source.check()
        raise read_failure(source, error) from error


def decoder_options() -> dict[str, str]:
    """Return FFmpeg's options of a decoder: no frames that are larger than they may be."""
    return {"max_pixels": str(min(most_pixels() + _ALIGNMENT, 2**31 - 1))}


def _threads(threads: int, pixels: int) -> int:
    """Return how many threads decode: `threads`, or fewer where frames of so many pixels would take too much memory."""
    most = max(1, _PIXELS_AT_ONCE // max(pixels, 1))
    return min(threads or min(usable_cores(), _MOST_THREADS), most)


def video_stream(name: str, container: InputContainer) -> VideoStream:
    """Return the best video stream of a container. Raises ActionClipError where there is none to decode."""
    if container.format.name in _NOT_VIDEO_FORMATS:
        raise ActionClipError(f"{name} is a text file, not a video; name a video file")
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not streams:
        found = "only audio with a cover picture" if container.streams.video else "no video stream"
        raise ActionClipError(f"{name} is not a video: it holds {found}; name a video file")
    decodable = [stream for stream in streams if stream.codec_context is not None]
    if not decodable:
        raise ActionClipError(f"{name} has a video codec that PyAV cannot decode; convert it to H.264 first")
    best = container.streams.best("video")
    return next((stream for stream in decodable if stream is best), decodable[0])


def _not_there(name: str, error: OSError | ValueError) -> ActionClipError:
    if is_other_address(name):
        return unsupported_address(name)
    if isinstance(error, FileNotFoundError):
        return ActionClipError(f"the video {name} does not exist; check its name and folder")
    reason = getattr(error, "strerror", None) or error
    return ActionClipError(f"the video {name!r} cannot be opened ({reason}); check its name and rights")


def read_failure(source: VideoSource, error: Exception) -> ActionClipError:
    """Return the error for a video that cannot be read, with the reason that `error` has."""
    reason = getattr(error, "strerror", None) or error
    if source.is_url:
        return ActionClipError(
            f"the video at {source.name} could not be read ({reason}); check the address and the connection"
        )
    return ActionClipError(
        f"{source.name} cannot be read as a video ({reason}); give a whole mp4, mkv, avi or gif file"
    )
