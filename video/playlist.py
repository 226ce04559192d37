"""Recognising playlists, which name other files instead of holding a video, and checking those of HLS."""

import os
import re
from collections import Counter

from action_clip.errors import ActionClipError
from action_clip.video.ffmpeg_file import Readable, read_all

HEAD_BYTES = 4096
"""Bytes at the start of a file by which a playlist is recognised."""
_MOST_BYTES = 16 << 20
"""Largest HLS playlist, in bytes: days of video."""
_HLS = b"#EXTM3U"
_LONGEST_LINE = 4000
_MOST_NAMED = 256
"""Most playlists that a playlist may name: FFmpeg reads all of them."""
# FFmpeg takes each of these three bytes for the end of a line.
_TAGS = re.compile(rb"[\r\n\0]#(EXT-X-ENDLIST|EXT-X-STREAM-INF|EXT-X-MEDIA:|EXT-X-I-FRAME|EXTINF)")
_NAMES_OTHERS = re.compile(
    rb"#EXTM3U|ffconcat version|\[playlist\]|# VobSub index|v=0\r?\n"
    rb"|(\xef\xbb\xbf)?\s*(<\?.*?\?>\s*|<!--.*?-->\s*)*<([\w.]+:)?(MPD|CompositionPlaylist|smil|asx|playlist)\b",
    re.DOTALL,
)


def is_hls(head: bytes) -> bool:
    """Return whether a file that begins with `head` is a playlist of HTTP Live Streaming."""
    return head.startswith(_HLS)


def is_playlist(head: bytes) -> bool:
    """Return whether a file whose first `HEAD_BYTES` are `head` names other files instead of holding a video."""
    return _NAMES_OTHERS.match(head) is not None


def check_end(name: str, file: Readable, *, is_named: bool = False, is_live: bool = False) -> None:
    """Check an HLS playlist: its size and its text, and that it has an end.

    Args:
        name: of the video, for the error message.
        file: the playlist, at its start; it is there again afterwards.
        is_named: whether another playlist names it. Then it may name none itself, as the two could name each other.
        is_live: whether it may be without an end.

    Raises:
        ActionClipError: it is a live stream, too long, not UTF-8 text, or names too many playlists.
    """
    text = read_all(file, _MOST_BYTES + 1)
    file.seek(0, os.SEEK_SET)
    if len(text) > _MOST_BYTES:
        raise ActionClipError(
            f"the playlist at {name} has more than {_MOST_BYTES >> 20} MiB; give one of the videos that it names"
        )
    # PyAV passes on only addresses in UTF-8, and FFmpeg cuts lines.
    if not _is_utf8(text) or max(map(len, re.split(rb"[\r\n\0]", text))) > _LONGEST_LINE:
        raise ActionClipError(f"the playlist at {name} is not UTF-8 text; give one of the videos that it names")
    tags = Counter(_TAGS.findall(text))
    named = tags[b"EXT-X-STREAM-INF"] + tags[b"EXT-X-MEDIA:"] + tags[b"EXT-X-I-FRAME"]
    if named > (0 if is_named else _MOST_NAMED):
        raise ActionClipError(f"the playlist at {name} names too many others; give one of the videos that it names")
    # A playlist of playlists names no segments; each of these has an end.
    if not is_live and not tags[b"EXT-X-ENDLIST"] and (tags[b"EXTINF"] or not named):
        raise ActionClipError(f"{name} is a live stream, a playlist without an end; watch it with --live")


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
