"""Playlists and the like: as files, which open nothing, and at an address, which leads to nothing but http(s)."""

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from fuzz_videos import COUNT, check, encoded
from requests.exceptions import ConnectionError
from requests.structures import CaseInsensitiveDict

import action_clip.video.address
from action_clip.errors import ActionClipError
from action_clip.system.connection import Transfer
from action_clip.video.reader import read_clip
from action_clip.video.sampling import make_sampler

OTHER_SIDES = (64, 16)
"""Of what may be opened from an address only."""
HLS = b"#EXTM3U\n#EXT-X-VERSION:4\n#EXT-X-TARGETDURATION:2\n"
SEGMENTS = b"#EXTINF:0.48,\nsegment.ts\n#EXTINF:0.48,\nhttps://host/b/segment.ts?x=1\n#EXT-X-ENDLIST\n"


@cache
def _segment() -> bytes:
    return encoded("mpegts", "libx264", sides=OTHER_SIDES)


def seeds() -> list[bytes]:
    """Playlists of what is there and of what is not."""
    dash = (
        b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
        b'<Representation id="1" bandwidth="1"><BaseURL>segment.ts</BaseURL></Representation></AdaptationSet></Period>'
        b"</MPD>"
    )
    return [
        HLS + SEGMENTS,
        HLS + b'#EXT-X-MAP:URI="segment.ts",BYTERANGE="720@0"\n#EXT-X-BYTERANGE:1000@376\n' + SEGMENTS,
        HLS + b'#EXT-X-KEY:METHOD=AES-128,URI="key",IV=0x00000000000000000000000000000001\n' + SEGMENTS,
        HLS + b"#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-DISCONTINUITY\n" + SEGMENTS,
        HLS + b"#EXTINF:1,\nfile:///segment.ts\n#EXTINF:1,\ndata:,x\n#EXTINF:1,\n../segment.ts\n#EXT-X-ENDLIST\n",
        b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000,RESOLUTION=64x16\nlist.m3u8\n",
        b'#EXTM3U\n#EXT-X-MEDIA:TYPE=VIDEO,GROUP-ID="v",URI="list.m3u8"\n'
        b'#EXT-X-STREAM-INF:BANDWIDTH=1,VIDEO="v"\nlist.m3u8\n',
        dash,
        b"ffconcat version 1.0\nfile segment.ts\nduration 0.48\nfile 'segment.ts'\ninpoint 0.1\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        b"# VobSub index file, v7 (do not modify this line!)\nsize: 64x16\nid: en, index: 0\ntimestamp: 00:00:00:000, "
        b"filepos: 000000000\n",
        b"[playlist]\nFile1=segment.ts\n",
    ]


class _Answer(Transfer):
    """What a server would answer; no connection is made."""

    status_code, reason = 200, "OK"
    playlist = b""

    def __init__(self, url: str, *_: object) -> None:
        # Any address of the host there is has the playlist or the segment; there are no others.
        parts = urlsplit(url)
        assert parts.scheme == "https", url
        if parts.hostname != "host":
            raise ConnectionError(url)
        ending = parts.path.rpartition(".")[2]
        self._body = {"m3u8": HLS + SEGMENTS, "ts": _segment(), "play": self.playlist}.get(ending, bytes(16))
        self.url = url
        self.headers = CaseInsensitiveDict({"Content-Length": str(len(self._body))})

    def chunks(self) -> Iterator[bytes]:
        for at in range(0, len(self._body), 1000):
            yield self._body[at : at + 1000]

    def close(self) -> None:
        pass


def target(data: bytes) -> None:
    """Read it with either sampling, as a file beside what it names, and at an address where all of that is too."""
    for name in ("segment.ts", "list.m3u8", "video.sub"):
        Path(name).write_bytes(_segment())
    os.environ.pop("ACTION_CLIP_OFFLINE", None)
    setattr(action_clip.video.address, "Transfer", _Answer)  # noqa: B010 to mypy, a class is not replaced
    _Answer.playlist = data
    Path("list").write_bytes(data)
    for name in ("list", "https://ann:pass@host/a/list.play?x=1"):
        for kind in ("uniform", "keyframes"):
            with suppress(ActionClipError):
                clip = read_clip(name, make_sampler(kind, COUNT, 0), threads=1)
                check(clip)
                assert name != "list" or clip.frames.shape[1:3] != OTHER_SIDES[::-1]
