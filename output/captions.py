"""Texts for headings: titles of videos, durations, and counts."""

from pathlib import Path, PurePath
from urllib.parse import unquote, urlsplit


def title(video: str | None) -> str:
    """Return the name of the file, or the last part of the URL's path; "decoded frames" for None."""
    if video is None:
        return "decoded frames"
    if "://" in video:
        address = urlsplit(video)
        return unquote(PurePath(address.path).name) or address.hostname or video
    return Path(video).name


def duration(seconds: float) -> str:
    """Return a time in seconds as "12.34 s", "1:23.4" or "1:02:03"."""
    if seconds < 60:
        return f"{seconds:.2f} s"
    tenths = round(seconds * 10)
    if tenths < 36000:
        return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"
    return f"{tenths // 36000}:{tenths // 600 % 60:02}:{tenths // 10 % 60:02}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: "1 frame" or "8 frames"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def ranking(listed: int, count: int) -> str:
    """Return "10 labels", or "top 5 of 10 labels" where not all are listed."""
    return f"{f'top {listed} of ' if listed < count else ''}{counted(count, 'label')}"
