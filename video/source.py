"""Opening a video: a file, a pipe or an http(s) address becomes an open container and its video stream."""

from __future__ import annotations  # PyAV subscripts Packet in its stubs only

import errno
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from action_clip.errors import ActionClipError
from action_clip.system import addresses, connection
from action_clip.system.cores import usable_cores
from action_clip.system.files import draft_folder
from action_clip.system.forks import cached_property
from action_clip.system.interrupts import interruptible
from action_clip.video.address import Address, AddressFile
from action_clip.video.alpha import Alpha, has_alpha
from action_clip.video.claims import check_claims
from action_clip.video.given import Given, Readable, Trouble, read_all
from action_clip.video.kept import check_room, no_room
from action_clip.video.pixels import PYAV, check_size, most_pixels, pixel_aspect
from action_clip.video.playlist import HEAD, check_end, is_hls, names_others

_CHUNK = 1 << 20
_BUFFER = 1 << 16
"""Bytes that FFmpeg asks for at once: with fewer, calling Python shows."""
_MOST_THREADS = 16  # FFmpeg's own bound where it chooses
MOST_READERS = 4
"""How often a video is opened at once: each takes the memory of its index, and of the frames that others refer to."""
_PIXELS_AT_ONCE = 2**28
"""Of the frames that a decoder's threads work on at once."""

_ALIGNMENT = 2**23
"""Pixels more that a decoder may make of a frame: it rounds the sides up."""

_STRICT = {"err_detect": "bitstream+buffer+explode"}
_UNAWARE = ("hevc", "vp8", "ffv1")
"""Their decoders do not refuse all damage, and show in its place what was in a frame's memory, or in the frame before:
that depends on all that a decoder has decoded, and with several threads on which is first."""

_NOT_VIDEO_FORMATS = {"tty"}  # FFmpeg's player of text files
# Metadata that is not UTF-8 stops PyAV up to 18 unless it is told otherwise; 19 never stops, and cannot be told.
_METADATA: dict[str, Any] = {"metadata_errors": "ignore"} if PYAV < 19 else {}
_CONTAINER_OPTIONS = {
    # Some formats (concat, VobSub, SDP) open what they name past `io_open`: no protocol is called so.
    "protocol_whitelist": "none",
    # Of HLS: connections are not FFmpeg's to keep, and a playlist is read once.
    "http_persistent": "0",
    "http_multiple": "0",
    "max_reload": "1",
}


@dataclass(frozen=True)
class Origin:
    """Where a video is: `name` as it may be shown, and the file or the address."""

    name: str
    path: Path = field(default_factory=Path)
    """Of what is no URL."""
    address: Address | None = None
    trouble: Trouble = field(default_factory=Trouble)

    @property
    def is_url(self) -> bool:
        """Whether it is at an address."""
        return self.address is not None

    def size(self) -> int:
        """The bytes of a file; ActionClipError where it is gone."""
        try:
            return self.path.stat().st_size
        except OSError as error:
            raise _not_there(self.name, error) from error

    @cached_property
    def format(self) -> str | None:
        """The format, where FFmpeg is not to find it out: of a playlist it would go by name and type.

        Raises ActionClipError for a file that names others, and for an index that claims too much.
        """
        file = self.open()
        try:
            head = read_all(file, HEAD)
            check_claims(self.name, file, whole=not self.is_url)
            file.seek(0, os.SEEK_SET)
            if is_stream := self.is_url and is_hls(head):
                check_end(self.name, file)
        finally:
            file.close()
            self.check()
        if names_others(head) and not is_stream:
            raise ActionClipError(f"{self.name} is a playlist, which names other files; give one of these")
        return "hls" if is_stream else None

    def open(self) -> Given:
        """Open it at its start; ActionClipError where it cannot be opened."""
        if self.address is not None:
            file: Readable = AddressFile(self.address)
            file.read(1)  # redirects are followed
            file.seek(0, os.SEEK_SET)
            return Given(file, self.address.base, self.trouble)
        try:
            file = open(self.path, "rb", buffering=0)  # noqa: SIM115 the caller closes it
        except OSError as error:
            raise _not_there(self.name, error) from error
        # Without the name, in which FFmpeg would see patterns and protocols.
        ending = re.search(r"\.[A-Za-z0-9]{1,8}$", self.path.name)
        return Given(file, f"video{ending[0] if ending else ''}", self.trouble)

    def open_named(self, url: str, flags: int, options: dict[str, str]) -> Given:
        """Open what a playlist names, for FFmpeg; by the rules of the playlist's address, and none for a file."""
        try:
            self.trouble.check()
            if self.address is None:
                raise ActionClipError(f"{self.name} names other files, which are not opened; give one of these")
            if url.startswith("crypto"):
                raise ActionClipError(f"the video at {self.name} is encrypted; give one that is not")
            file: Readable = AddressFile(self.address.part(url), owns=True)
            if is_hls(file.read(len(b"#EXTM3U"))):
                file.seek(0, os.SEEK_SET)
                check_end(self.name, file, is_named=True)
            file.seek(0, os.SEEK_SET)
        except Exception as error:
            self.trouble.note(error)
            file = io.BytesIO()
        return Given(file, url, self.trouble)

    def check(self) -> None:
        """Raise what went wrong while FFmpeg was reading: ActionClipError, or StoppedError."""
        try:
            self.trouble.check()
        except (OSError, ValueError) as error:
            raise _failure(self, error) from error


@dataclass(frozen=True)
class Video:
    """An open container and the stream of it that is looked at, with a decoder of its own."""

    origin: Origin
    container: InputContainer
    stream: VideoStream
    alpha: Alpha | None = None
    """Of transparency that is kept beside the pictures."""
    threads: int = 1
    """How many decode at once, of one decoder or of several."""

    @cached_property
    def aspect(self) -> Fraction:
        """How much wider than high its pixels are shown."""
        return pixel_aspect(self.stream)

    @property
    def notices_damage(self) -> bool:
        """Whether what the decoder shows without complaint depends on nothing but the packets."""
        return self.stream.codec_context.name not in _UNAWARE

    def decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """Return the frames that the decoder shows next; None empties it.

        Raises FFmpegError for what cannot be decoded, StoppedError when nobody waits for it.
        """
        self.origin.trouble.check()
        try:
            frames = self.stream.decode(packet)
            return self.alpha.laid_on(frames, packet) if self.alpha else frames
        except av.FFmpegError:
            raise
        except ValueError as error:  # of PyAV 19, after the decoder could not be opened
            raise av.FFmpegError(errno.EINVAL, str(error)) from error


@contextmanager
def locate(source: str | os.PathLike[str]) -> Iterator[Origin]:
    """Yield the origin of a file name or an http(s) URL; a pipe is first copied to a temporary file.

    A pipe can be read only once, and finding frames may take a second look. Raises ActionClipError, one
    sentence a case, for a missing, empty or unreadable file, a folder, a device, and an address that is not
    http(s).
    """
    name = os.fspath(source)
    if addresses.is_address(name):
        name = name.strip()
        shown = addresses.redacted(name)
        if addresses.is_offline():
            raise ActionClipError(
                f"the video {shown} is an address, and ACTION_CLIP_OFFLINE forbids connecting; download it first"
            )
        trouble = Trouble()
        address = Address(shown, name, connection.WaitBudget(trouble.stop))
        try:
            yield Origin(shown, address=address, trouble=trouble)
        finally:
            address.close()
        return
    try:
        status = os.stat(name)
    except (OSError, ValueError) as error:
        raise _not_there(name, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise ActionClipError(f"{name} is a folder, not a video; name one video file")
    if stat.S_ISREG(status.st_mode):
        if not status.st_size:
            raise ActionClipError(f"the video {name} is empty (0 bytes); copy or download it again")
        yield Origin(name, Path(os.path.abspath(name)))
    elif stat.S_ISFIFO(status.st_mode):
        with _copied(name) as copy:
            yield Origin(name, copy)
    else:
        raise ActionClipError(f"{name} is a device, not a video; name a video file")


@contextmanager
def opened(origin: Origin, threads: int, *, strict: bool = False) -> Iterator[Video]:
    """Yield the video, open at its start; every stream but the best video stream is skipped unread.

    `threads` is the number of decoding threads, 0 for one a core; fewer where frames are very large. One thread makes
    of damage what it can, the same every time, unless it is to be `strict`; several, which would make of it now this,
    now that, raise FFmpegError when they decode it.

    Raises ActionClipError when there is no video to decode: not a video file, only audio, only a cover picture, an
    unknown codec, a playlist of other files, frames of more than `most_pixels()`; and where reading fails, at the
    latest when the block ends.
    """
    file = origin.open()
    try:
        with _container(origin, file) as container:
            stream = _video_stream(origin.name, container)
            for other in container.streams:
                if other.index != stream.index:
                    other.discard = Discard.all
            context = stream.codec_context
            check_size(origin.name, context.width, context.height)
            context.thread_type = "AUTO"
            threads = _threads(threads, context.width * context.height)
            alpha = Alpha(stream, _decoder_options()) if has_alpha(stream) else None
            video = Video(origin, container, stream, alpha, 1 if alpha else threads)
            context.thread_count = video.threads if video.notices_damage else 1
            context.options = _decoder_options()  # for frames that turn out larger than that
            if strict or context.thread_count != 1:
                context.options |= _STRICT
            yield video
    finally:
        file.close()
        origin.check()


def demux(video: Video) -> Iterator[Packet[VideoStream]]:
    """Yield the packets of the video stream that hold data, from where the container is.

    Raises FFmpegError where they cannot be read.
    """
    try:
        for packet in video.container.demux(video.stream):
            if packet.size:
                yield packet
    except IndexError:  # of PyAV 18 at the end, where streams have begun in the middle
        return


def read_packets(video: Video) -> Iterator[Packet[VideoStream]]:
    """Yield the packets of the video stream, in decoding order, from where the container is.

    A cut or damaged file ends where it can no longer be read. Raises ActionClipError when the connection or
    the disk fails.
    """
    try:
        for packet in demux(video):
            video.origin.check()
            yield packet
    except av.FFmpegError as error:
        if video.origin.is_url or isinstance(error, OSError):
            raise _failure(video.origin, error) from error


@contextmanager
def _copied(name: str) -> Iterator[Path]:
    """Yield a temporary copy of what comes through a pipe."""
    stop = Event()

    def copy(target: Path) -> None:
        try:
            pipe = open(name, "rb")  # noqa: SIM115 closed below; it has errors of its own
        except OSError as error:
            raise _not_there(name, error) from error
        with pipe, target.open("wb") as file:
            while not stop.is_set() and (data := pipe.read1(_CHUNK)):
                check_room(name, len(data))
                file.write(data)

    with ExitStack() as folders:
        try:
            target = folders.enter_context(draft_folder()) / "video"
            interruptible(lambda: copy(target), stop, awaited_at_exit=False)
        except OSError as error:
            raise no_room(name) from error
        if not target.stat().st_size:
            raise ActionClipError(f"nothing came through the pipe {name}; check what writes to it")
        yield target


def _container(origin: Origin, file: Given) -> InputContainer:
    try:
        container: InputContainer = av.open(
            file,
            "r",
            format=origin.format,
            options=_decoder_options(),  # to know a stream, FFmpeg decodes some of it
            container_options=_CONTAINER_OPTIONS,
            buffer_size=_BUFFER,
            io_open=origin.open_named,
            **_METADATA,
        )
        return container
    except (av.FFmpegError, ValueError) as error:
        origin.check()
        raise _failure(origin, error) from error


def _decoder_options() -> dict[str, str]:
    return {"max_pixels": str(min(most_pixels() + _ALIGNMENT, 2**31 - 1))}


def _threads(threads: int, pixels: int) -> int:
    """How many threads decode: as wished, as long as their frames take no more than some hundred megabytes."""
    most = max(1, _PIXELS_AT_ONCE // max(pixels, 1))
    return min(threads or min(usable_cores(), _MOST_THREADS), most)


def _video_stream(name: str, container: InputContainer) -> VideoStream:
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
    if addresses.is_other_address(name):
        return addresses.unsupported_address(name)
    if isinstance(error, FileNotFoundError):
        return ActionClipError(f"the video {name} does not exist; check its name and folder")
    reason = getattr(error, "strerror", None) or error
    return ActionClipError(f"the video {name!r} cannot be opened ({reason}); check its name and rights")


def _failure(origin: Origin, error: Exception) -> ActionClipError:
    reason = getattr(error, "strerror", None) or error
    if origin.is_url:
        return ActionClipError(
            f"the video at {origin.name} could not be read ({reason}); check the address and the connection"
        )
    return ActionClipError(
        f"{origin.name} cannot be read as a video ({reason}); give a whole mp4, mkv, avi or gif file"
    )
