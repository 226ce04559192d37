"""Opening a video: a file, a pipe or an http(s) address becomes an open container and its video stream."""

from __future__ import annotations  # PyAV subscripts Packet in its stubs only

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

import connection
from errors import ActionClipError

URL_TIMEOUT_S = 20.0

_NOT_VIDEO_FORMATS = {"tty"}  # FFmpeg's player of text files
# Metadata that is not UTF-8 stops PyAV up to 18 unless it is told otherwise; 19 never stops, and cannot be told.
_METADATA: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}


@dataclass(frozen=True)
class Origin:
    """Where a video is: `name` as the user gave it, `address` as FFmpeg opens it."""

    name: str
    address: str
    is_url: bool

    @property
    def path(self) -> Path:
        """Of what is no URL: the file."""
        return Path(self.address.removeprefix("file:"))


@dataclass(frozen=True)
class Video:
    """An open container and the stream of it that is looked at, with a decoder of its own."""

    origin: Origin
    container: InputContainer
    stream: VideoStream


@contextmanager
def locate(source: str | os.PathLike[str]) -> Iterator[Origin]:
    """Yield the origin of a file name or an http(s) URL; a pipe is first copied to a temporary file.

    A pipe can be read only once, and finding frames may take a second look. Raises ActionClipError, one
    sentence a case, for a missing, empty or unreadable file, a folder, a device, and an address that is not
    http(s).
    """
    name = os.fspath(source)
    if re.match(r"https?://", name, re.IGNORECASE):
        if connection.is_offline():
            raise ActionClipError(
                f"the video {name} is an address, and ACTION_CLIP_OFFLINE forbids connecting; download it first"
            )
        yield Origin(name, _final_address(name), is_url=True)
        return
    try:
        mode = os.stat(name).st_mode
        if stat.S_ISREG(mode):
            with open(name, "rb") as file:
                is_empty = not file.read(1)
    except (OSError, ValueError) as error:
        raise _not_there(name, error) from error
    if stat.S_ISDIR(mode):
        raise ActionClipError(f"{name} is a folder, not a video; name one video file")
    if stat.S_ISREG(mode):
        if is_empty:
            raise ActionClipError(f"the video {name} is empty (0 bytes); copy or download it again")
        yield Origin(name, f"file:{os.path.abspath(name)}", is_url=False)
    elif stat.S_ISFIFO(mode):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, "video")
            with open(name, "rb") as pipe, copy.open("wb") as file:
                shutil.copyfileobj(pipe, file)
            if not copy.stat().st_size:
                raise ActionClipError(f"nothing came through the pipe {name}; check what writes to it")
            yield Origin(name, f"file:{copy}", is_url=False)
    else:
        raise ActionClipError(f"{name} is a device, not a video; name a video file")


@contextmanager
def opened(origin: Origin, threads: int) -> Iterator[Video]:
    """Yield the video, open at its start; every stream but the best video stream is skipped unread.

    `threads` is the number of decoding threads, 0 for one a core. Raises ActionClipError when there is no
    video to decode: not a video file, only audio, only a cover picture, an unknown codec.
    """
    try:
        options = _url_options(origin.address) if origin.is_url else {}
        container = av.open(origin.address, "r", container_options=options, **_METADATA)
    except (av.FFmpegError, ValueError) as error:
        raise _failure(origin, error) from error
    with container:
        stream = _video_stream(origin.name, container)
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        yield Video(origin, container, stream)


def read_packets(video: Video) -> Iterator[Packet[VideoStream]]:
    """Yield the packets of the video stream that hold data, in decoding order, from where the container is.

    A cut or damaged file ends where it can no longer be read. Raises ActionClipError when the connection or
    the disk fails.
    """
    try:
        for packet in video.container.demux(video.stream):
            if packet.size:
                yield packet
    except av.FFmpegError as error:
        if video.origin.is_url or isinstance(error, OSError):
            raise _failure(video.origin, error) from error


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


def _final_address(name: str) -> str:
    """Where an https address leads in the end: FFmpeg itself would follow a redirect to plain http."""
    if not name.lower().startswith("https:"):
        return name
    import requests

    try:
        with connection.Transfer(name, {}, (URL_TIMEOUT_S, URL_TIMEOUT_S), connection.Patience()) as response:
            return response.url
    except (connection.RedirectError, connection.SlowError, requests.RequestException) as error:
        reason = "no secure connection to the server" if isinstance(error, requests.RequestException) else error
        raise _unreachable(name, reason) from error


def _url_options(address: str) -> dict[str, str]:
    from requests.utils import DEFAULT_CA_BUNDLE_PATH

    options = {
        # PyAV's own timeout does not cover seeking, FFmpeg's does.
        "rw_timeout": str(round(URL_TIMEOUT_S * 1e6)),
        # FFmpeg trusts every certificate unless told otherwise, and knows of no authorities by itself.
        "tls_verify": "1",
        "ca_file": os.environ.get("REQUESTS_CA_BUNDLE") or DEFAULT_CA_BUNDLE_PATH,
    }
    if address.lower().startswith("https:"):
        options["max_redirects"] = "0"  # they have been followed
    return options


def _not_there(name: str, error: OSError | ValueError) -> ActionClipError:
    if re.match(r"[a-z][a-z0-9+.-]+://", name, re.IGNORECASE):
        return ActionClipError(f"the address {name} is neither http nor https; give one of these or a file")
    if isinstance(error, FileNotFoundError):
        return ActionClipError(f"the video {name} does not exist; check its name and folder")
    reason = getattr(error, "strerror", None) or error
    return ActionClipError(f"the video {name!r} cannot be opened ({reason}); check its name and rights")


def _failure(origin: Origin, error: Exception) -> ActionClipError:
    reason = getattr(error, "strerror", None) or error
    if not origin.is_url:
        return ActionClipError(
            f"{origin.name} cannot be read as a video ({reason}); give a whole mp4, mkv, avi or gif file"
        )
    if isinstance(error, TimeoutError):
        reason = f"no answer for {URL_TIMEOUT_S:g} seconds"
    return _unreachable(origin.name, reason)


def _unreachable(name: str, reason: object) -> ActionClipError:
    return ActionClipError(f"the video at {name} could not be read ({reason}); check the address and the connection")
