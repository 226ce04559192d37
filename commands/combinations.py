"""Which options of the command fit together: those of windows, of segments and of live video."""

import argparse
from pathlib import Path

from action_clip.output.saving import PICTURES

SUBTITLES = ("srt", "vtt")
"""The formats that are of one video, and need --window."""
_SEGMENT_OPTIONS = ("threshold", "min_duration", "switching_cost")
_WINDOW_OPTIONS = ("stride", "segments", *_SEGMENT_OPTIONS)
"""The options that need --window."""
_WHOLE_VIDEO_OPTIONS = ("sampling", "seed", "views", "features", "benchmark")
"""The options that --window leaves no use for."""
_RECORDING_OPTIONS = ("sampling", "seed", "views", "features", "save", "report", "resume")
"""The options that need a video with an end."""
LIVE_WINDOW_S = 4.0
"""The length of windows of live video, unless --window sets it."""


def check_live(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Set `live` and `window` where a video is live by its name; exit with 2 where options do not fit to live video."""
    from action_clip.video.live import is_live

    options.live = options.live or any(map(is_live, options.video))
    if not options.live:
        if options.show:
            parser.error("--show is about live video: add --live, which plays a file at its own rate")
        return
    if len(options.video) != 1:
        parser.error("one camera, stream or file is watched at a time: name one with --video")
    for name in _RECORDING_OPTIONS:
        if _is_given(parser, options, name):
            parser.error(f"--{name} is about recordings, and live video has no end: leave out --{name}")
    if options.format in SUBTITLES:
        parser.error(f"--format {options.format} is about recordings: give text, json or csv for live video")
    options.window = LIVE_WINDOW_S if options.window is None else options.window


def check_windows(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Set `segments` where they are the format's default; exit with 2 where options do not fit together."""
    if options.window is None:
        for name in _WINDOW_OPTIONS:
            if _is_given(parser, options, name):
                parser.error(f"--{name.replace('_', '-')} is about windows: give their length with --window S")
        if options.format in SUBTITLES:
            parser.error(f"--format {options.format} needs the length of windows: give it with --window S")
        return
    for name in _WHOLE_VIDEO_OPTIONS:
        if not options.live and _is_given(parser, options, name):
            parser.error(f"--{name} is about one answer for a whole video: leave out --{name}, or --window")
    if options.save and Path(options.save).suffix.lower() in PICTURES:
        parser.error(
            f"--save {options.save} is a picture of one answer for a whole video: save the video itself, as .mp4, or "
            "leave out --window"
        )
    if options.stride is not None and options.stride > options.window:
        parser.error(
            f"windows of {options.window:g} s that begin every {options.stride:g} s leave out parts of the video: give "
            f"a --stride of {options.window:g} at most"
        )
    is_text = options.format not in ("json", "csv")
    options.segments = options.segments or (is_text and not options.live)
    for name in _SEGMENT_OPTIONS:
        # Of live video, text has the changes of the answer, which is smoothed as that of segments is.
        applies = options.segments or (is_text and name != "min_duration")
        if _is_given(parser, options, name) and not applies:
            parser.error(f"--{name.replace('_', '-')} is about segments: add --segments")
    if options.segments and options.top_k is not None:
        parser.error(
            "--top-k is about windows, and a segment has one label: leave it out, or give --format json or csv without "
            "--segments"
        )
    if options.switching_cost is not None and options.multi_label:
        parser.error("--switching-cost is about one label at a time: leave it out, or --multi-label")


def _is_given(parser: argparse.ArgumentParser, options: argparse.Namespace, name: str) -> bool:
    """Return whether an option, if there is one of this name, has another value than its default."""
    default = parser.get_default(name)
    return bool(getattr(options, name, default) != default)
