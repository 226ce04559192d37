"""Decoding H.264 with several threads, such that no damage goes unnoticed."""

from __future__ import annotations  # PyAV subscripts Packet in its stubs only

import re
from collections.abc import Iterator

from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

_SLICES = range(1, 6)  # types of NAL units (H.264, table 7-1)


def decode_packet(context: VideoCodecContext, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
    """Return the frames that a decoder outputs next, the same every time; a `packet` of None empties the decoder.

    Each thread decodes a frame of its own. An H.264 decoder notices only at a frame's end that data is missing, which
    is too late to mark a frame that was output before. Frames that refer to another wait until it is complete, but for
    a frame that no other refers to nothing waits. So its packet is sent again, to be skipped, until each thread has had
    a packet: then the frame is complete before the next one begins. (A packet made here would do as well, but PyAV
    needs the GIL to free one, and holds it while it closes a decoder and waits for its threads.)

    Raises FFmpegError where the packet cannot be decoded.
    """
    frames = context.decode(packet)
    if packet is None or context.name != "h264" or context.thread_count == 1 or context.skip_frame == "NONREF":
        return frames
    extradata = context.extradata or b""
    # In avcC the lower two bits of byte 4 are the bytes of a length, less one; else there are start codes.
    length_bytes = (extradata[4] & 3) + 1 if len(extradata) > 6 and extradata[0] == 1 else 0
    if _is_reference(bytes(packet), length_bytes):
        return frames
    context.skip_frame = "NONREF"
    try:
        for _ in range(context.thread_count - 1):
            frames += context.decode(packet)
    finally:
        context.skip_frame = "DEFAULT"
    return frames


def _is_reference(data: bytes, length_bytes: int) -> bool:
    """Return whether other frames may refer to a packet's picture, as its first slice states."""
    header = next((header for header in _headers(data, length_bytes) if header & 31 in _SLICES), 0xFF)
    return header & 0x60 != 0


def _headers(data: bytes, length_bytes: int) -> Iterator[int]:
    """Yield the first byte of each NAL unit; `length_bytes` is 0 for a stream with start codes."""
    if not length_bytes:
        yield from (match[0][-1] for match in re.finditer(rb"\x00\x00\x01.", data, re.DOTALL))
        return
    at = length_bytes
    while at < len(data):
        yield data[at]
        at += int.from_bytes(data[at - length_bytes : at]) + length_bytes
