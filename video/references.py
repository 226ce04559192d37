"""Which packets no other packet refers to: on the way to a wanted frame these need not be decoded."""

from collections.abc import Callable, Iterator

from av.video.codeccontext import VideoCodecContext

LeavesOut = Callable[[bytes], bool]
"""Whether the packet of these bytes may be left out without changing the frames of the others."""


def nothing(_: bytes) -> bool:
    """Leave no packet out."""
    return False


def unreferenced(context: VideoCodecContext) -> LeavesOut:
    """Return what tells the unreferenced packets of a stream: of H.264 and HEVC, of others it tells none.

    An encoder writes into each slice whether other frames refer to it. Decoders could skip by themselves
    (`skip_frame`), but then nobody knows which of the promised frames are still to come.
    """
    extradata = context.extradata or b""
    if context.name == "h264":
        # In avcC the lower two bits of byte 4 are the bytes of a length, less one; else there are start codes.
        length_bytes = (extradata[4] & 3) + 1 if len(extradata) > 6 and extradata[0] == 1 else 0
        return lambda data: _all_idle(_units(data, length_bytes), _is_idle_h264)
    # In hvcC byte 21 has the number of temporal layers: with one, nothing refers to what is marked so.
    if context.name == "hevc" and len(extradata) > 22 and extradata[0] == 1 and extradata[21] >> 3 & 7 == 1:
        length_bytes = (extradata[21] & 3) + 1
        return lambda data: _all_idle(_units(data, length_bytes), _is_idle_hevc)
    return nothing


def _units(data: bytes, length_bytes: int) -> Iterator[int]:
    """Yield the first byte of each NAL unit, 0 (no type that is known) for an empty or cut one."""
    if not length_bytes:
        at = data.find(b"\0\0\1")
        while at >= 0:
            yield data[at + 3] if at + 3 < len(data) else 0
            at = data.find(b"\0\0\1", at + 3)
        return
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + length_bytes])
        at += length_bytes
        yield data[at] if size and at + size <= len(data) else 0
        at += size


def _all_idle(units: Iterator[int], is_idle: Callable[[int], bool | None]) -> bool:
    """Whether there is a slice that nothing refers to, and nothing else that others could need."""
    answers = [is_idle(unit) for unit in units]
    return True in answers and False not in answers


def _is_idle_h264(header: int) -> bool | None:
    """Whether nothing refers to the unit; None for what accompanies a slice (H.264, table 7-1)."""
    kind, nal_ref_idc = header & 31, header >> 5 & 3
    if kind == 1:
        return nal_ref_idc == 0
    return None if kind in (6, 9, 12) else False  # SEI, delimiter, filler


def _is_idle_hevc(header: int) -> bool | None:
    """Whether nothing refers to the unit; None for what accompanies a slice (H.265, table 7-1)."""
    kind = header >> 1 & 63
    if kind < 10:
        return kind % 2 == 0  # "sub-layer non-reference"
    return None if kind in (35, 38, 39, 40) else False  # delimiter, filler, SEI
