"""The transparency of VP8 and VP9 in WebM: a second video, in grey, in the side data of the packets."""

from __future__ import annotations  # PyAV subscripts Packet in its stubs only

from collections.abc import Mapping
from typing import cast

import av
import numpy as np
from av.codec.context import ThreadType
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.stream import VideoStream
from numpy.typing import NDArray

SIDE_DATA = "matroska_block_additional"
_ID_BYTES = 8  # which kind of addition it is, before its content


def has_alpha(stream: VideoStream) -> bool:
    """Return whether a stream states that it has transparency of this kind."""
    return stream.codec_context.name in ("vp8", "vp9") and stream.metadata.get("alpha_mode") == "1"


class Alpha:
    """The decoder of the grey video, fed from the start: its keyframes need not be where the colour video's are."""

    def __init__(self, stream: VideoStream, options: Mapping[str, str]) -> None:
        """Make a decoder with the stream's codec and these options.

        It has one thread, as the stream's own decoder must have: with more, frames come later than their packets.
        """
        self._context = cast(VideoCodecContext, av.CodecContext.create(stream.codec_context.name, "r"))
        self._context.options = dict(options)
        self._context.thread_type = ThreadType.NONE
        self._context.thread_count = 1

    def apply(self, frames: list[VideoFrame], packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """Return the frames that were decoded from `packet` with its transparency added.

        They are unchanged where the packet has none, or none that can be decoded.
        """
        beside = packet.iter_sidedata() if packet else ()
        added = [bytes(data)[_ID_BYTES:] for data in beside if data.data_type == SIDE_DATA]
        try:
            greys = [grey for data in added for grey in self._context.decode(Packet(data))]
        except av.FFmpegError:
            return frames
        return [_joined(frame, greys[-1]) for frame in frames] if greys else frames


def _joined(frame: VideoFrame, grey: VideoFrame) -> VideoFrame:
    """Return the frame with the grey one as its alpha plane; unchanged where size or format differ."""
    if (grey.width, grey.height, grey.format.name) != (frame.width, frame.height, frame.format.name):
        return frame
    joined = frame.reformat(format=frame.format.name.replace("yuv", "yuva"), threads=1)
    rows = _rows(joined.planes[3]).copy()
    width = min(rows.shape[1], grey.planes[0].line_size)
    rows[:, :width] = _rows(grey.planes[0])[: len(rows), :width]
    joined.planes[3].update(rows.tobytes())
    return joined


def _rows(plane: VideoPlane) -> NDArray[np.uint8]:
    return np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)
