"""Opening what is watched live: a camera, an address, or a file that is played at its own rate.

FFmpeg itself connects only to the address that the user gave, of a scheme that is a live stream's, and by the protocols
that this scheme needs. What is at http(s) addresses comes through `connection`.
"""

import os
import re
from contextlib import ExitStack

import av
from av.container import InputContainer
from av.stream import Discard

from action_clip.errors import ActionClipError
from action_clip.system.addresses import is_address, is_live_address, is_offline, redacted
from action_clip.video.live import camera_of
from action_clip.video.live.containers import ContainerFeed
from action_clip.video.live.feed import AS_THEY_COME, IN_BURSTS, OF_A_FILE, Feed, Pace
from action_clip.video.pixels import check_size
from action_clip.video.source import METADATA, Video, VideoSource, decoder_options, locate, open_video, video_stream

_OPEN_S = 20.0
"""Seconds in which a stream is to be connected to, and known."""
_SILENCE_S = 10.0
"""Seconds without data after which a connection is taken for broken."""
_PROTOCOLS = {
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsps,rtsp,rtp,udp,tls,tcp",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,rtmp,tls,tcp",
    "udp": "udp",
}
"""What FFmpeg may connect by, for each scheme of an address."""
OPENING = {"fpsprobesize": "0"}
"""Options of FFmpeg: else it waits for 20 frames to learn their rate, which nothing needs."""


def open_feed(source: int | str | os.PathLike[str]) -> Feed:
    """Connect to a camera or a stream, or open a file.

    Args:
        source: the number of a camera, its device, an address (rtsp, rtsps, rtmp, rtmps, udp, http, https), or a file.

    Raises:
        ActionClipError: it is not there, or has no video that can be decoded.
    """
    camera = camera_of(source)
    if camera is not None:
        from action_clip.video.live.camera import CameraFeed

        return CameraFeed(camera)
    name = os.fsdecode(source)  # type: ignore[arg-type]  # a number is a camera's
    if (is_address(name) or is_live_address(name)) and is_offline():
        raise ActionClipError(f"{redacted(name.strip())} is an address, and ACTION_CLIP_OFFLINE forbids connecting")
    if is_live_address(name):
        return _open_stream(name.strip())
    if is_address(name):
        from action_clip.video.live.http import open_http

        return open_http(name.strip())
    return open_file(name)


def open_file(name: str) -> Feed:
    """Open a file, or one at an http(s) address, to play it at its own rate. Raises ActionClipError as `locate`."""
    with ExitStack() as resources:
        if os.path.exists(name) and not os.path.isfile(name) and not os.path.isdir(name):
            raise ActionClipError(
                f"{name} is a pipe or a device, which cannot be watched; give a camera, file or address"
            )
        video = open_video(resources.enter_context(locate(name)), threads=1)
        resources.callback(video.close)
        return ContainerFeed(video, resources.pop_all(), OF_A_FILE, has_end=True, silence_s=_SILENCE_S)


def _open_stream(address: str) -> Feed:
    scheme = address.partition(":")[0].lower()
    shown = redacted(address)
    options = {**OPENING, "protocol_whitelist": _PROTOCOLS[scheme]}
    if scheme.startswith("rtsp"):
        options["rtsp_flags"] = "prefer_tcp"  # UDP where the server refuses, or the address ends in ?udp
    try:
        container = av.open(
            address,
            "r",
            options=decoder_options(),
            container_options=options,
            timeout=(_OPEN_S, _SILENCE_S),
            **METADATA,
        )
    except av.ExitError as error:
        raise _unreadable(shown, f"nothing came in {_OPEN_S:.0f} s") from error
    except (av.FFmpegError, ValueError) as error:
        raise _unreadable(shown, _reason(error)) from error
    return streamed(VideoSource(shown), container, silence_s=_SILENCE_S)


def _reason(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return re.sub(r"(?i)^server returned ", "the server answers ", reason)


def _unreadable(shown: str, reason: str) -> ActionClipError:
    return ActionClipError(f"the stream {shown} could not be opened ({reason}); check the address and the server")


def streamed(
    source: VideoSource,
    container: InputContainer,
    *,
    silence_s: float,
    pace: Pace = AS_THEY_COME,
    has_end: bool = False,
) -> ContainerFeed:
    """Return the feed of an open container; the other arguments are those of ContainerFeed.

    Raises ActionClipError, and closes the container, where it has no video to decode.
    """
    with ExitStack() as resources:
        resources.callback(container.close)
        stream = video_stream(source.name, container)
        context = stream.codec_context
        check_size(source.name, context.width, context.height)
        context.options = decoder_options()
        for other in container.streams:  # variants of a playlist would be loaded too; others tell that data comes
            if pace == IN_BURSTS and other.index != stream.index:
                other.discard = Discard.all
        video = Video(source, container, stream)
        return ContainerFeed(video, resources.pop_all(), pace, has_end=has_end, silence_s=silence_s)
