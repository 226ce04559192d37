"""The packet table of an MP4 or QuickTime file from its index; nothing else of the file is read."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from action_clip.video.mp4_boxes import boxes, boxes_of_file
from action_clip.video.packets import PacketTable, clock
from action_clip.video.source import Video

_CODECS = ("h264", "hevc")  # packets of other codecs can change the palette
_MOST_BYTES = 2**28  # of an index: days of video


def table_of_index(video: Video) -> PacketTable | None:
    """Return the table of the file's packets from its index; None where the index leaves anything uncertain.

    FFmpeg's own index has everything but the presentation times, which are in the file's boxes. Where a packet that is
    read later differs from this table, the table of `scan` is needed.
    """
    stream = video.stream
    if not video.container.format.name.startswith("mov,mp4") or stream.codec_context.name not in _CODECS:
        return None
    path = video.source.path
    try:
        tables = _sample_table(path, stream.id)
        durations = _expanded(tables["stts"])
        delays = _expanded(tables["ctts"]) if "ctts" in tables else np.zeros_like(durations)
        # With one sample description, no packet changes parameters; with one edit, the boxes are in the index's order.
        is_plain = int.from_bytes(tables["stsd"][4:8]) == 1 and int.from_bytes(tables.get("elst", b"")[4:8]) <= 1
    except (ValueError, KeyError, OSError):
        return None
    rows = [(entry.timestamp, entry.pos, entry.size, entry.flags) for entry in stream.index_entries]
    dts, position, size, flags = np.array(rows, np.int64).reshape(-1, 4).T.copy()
    is_whole = (
        is_plain
        and stream.start_time is not None
        and 0 < len(dts) == len(durations) == len(delays)
        # An edit that cuts frames away leaves a gap in the times, or flags these frames.
        and np.array_equal(np.diff(dts), durations[:-1])
        and bool(np.all(flags & ~1 == 0))
        and int((position + size).max()) <= os.path.getsize(path)
    )
    if not is_whole or stream.start_time is None:
        return None
    pts = dts + delays
    time_base, rate = clock(stream)
    return PacketTable(
        time_base=time_base,
        rate=rate,
        pts=pts + (stream.start_time - pts.min()),
        dts=dts,
        duration=durations,
        size=size,
        is_key=flags == 1,
        is_shown=np.ones(len(dts), np.bool_),
        starts_anywhere=True,
        cached=None,
    )


def _sample_table(path: Path, track: int) -> dict[str, bytes]:
    """Return the boxes of the sample table of a track and its edit list (ISO 14496-12, 8.5 and 8.6), by type.

    Raises ValueError or KeyError where there is no such table, or where it is incomplete, as in a fragmented file.
    """
    movie = _movie(path)
    for kind, trak in boxes(movie):
        if kind != "trak":
            continue
        parts = dict(boxes(trak))
        header = parts["tkhd"]
        at = 20 if header[0] else 12  # version 1 has times of eight bytes
        if int.from_bytes(header[at : at + 4]) == track:
            table = dict(boxes(dict(boxes(parts["mdia"]))["minf"]))["stbl"]
            return dict(boxes(table)) | dict(boxes(parts.get("edts", b"")))
    raise KeyError(track)


def _movie(path: Path) -> bytes:
    """Return the content of the file's moov box. Raises ValueError for none, several, or a fragmented file."""
    movie: bytes | None = None
    with path.open("rb") as file:
        for kind, start, end in boxes_of_file(file):
            if kind == "moof" or (kind == "moov" and (movie is not None or not end or end - start > _MOST_BYTES)):
                raise ValueError(kind)
            if kind == "moov" and end:
                file.seek(start)
                movie = file.read(end - start)
    if movie is None:
        raise ValueError(path)
    return movie


def _expanded(box: bytes) -> NDArray[np.int64]:
    """Return one number for each sample from a box of (count, number) pairs, as stts and ctts are.

    Raises ValueError where the box is malformed.
    """
    pairs = np.frombuffer(box, ">i4", offset=8).astype(np.int64)
    if len(pairs) != 2 * int.from_bytes(box[4:8]) or pairs[::2].min(initial=0) < 0 or pairs[::2].sum() > _MOST_BYTES:
        raise ValueError(len(pairs))
    return np.repeat(pairs[1::2], pairs[::2])
