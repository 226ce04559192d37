"""The arguments of the command without a sub-command."""

import argparse
import glob
import math
import os
import re
from collections.abc import Callable, Sequence

import action_clip
from action_clip.commands.combinations import LIVE_WINDOW_S, SUBTITLES, check_live, check_windows
from action_clip.errors import ActionClipError
from action_clip.models import AVERAGES, DEFAULT_MODEL, SWITCHING_COST_S
from action_clip.system.terminal import ArgumentParser
from action_clip.video import SAMPLINGS, is_video_name
from action_clip.video.views import ONE_VIEW, parse_views

BENCHMARK_RUNS = 5
DEFAULT_TOP_K = 5
SHELLS = ("bash", "zsh", "fish")
OWN_TEXTS = "\0"
"""What --none alone adds to its values, for the model's own texts: no argument of a process can have this character."""
_PATH = re.compile(r"[/\\*?\[]")
"""A character that paths and patterns have."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the parsed options; `video` has the positional arguments too, first. Exits with 2 where one is wrong."""
    parser = build_parser()
    arguments = list(arguments)
    if "--" in arguments:  # parse_known_intermixed_args would take what follows for options
        end = arguments.index("--")
        arguments[end:] = [f"--video={word}" for word in arguments[end + 1 :]]
    options, unknown = parser.parse_known_intermixed_args(with_explicit_none(arguments, parser))
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{_advice(unknown[0], parser)}")
    if len(options.positional_video) > 1:
        _check_words(options.positional_video, parser)
    options.video = [*options.positional_video, *options.video]
    check_frames(parser, options)
    check_live(parser, options)
    check_windows(parser, options)
    if options.spreadsheet and options.format != "csv":
        parser.error("--spreadsheet belongs to --format csv")
    if options.resume and not options.output:
        parser.error("--resume goes on with the file that --output names: name it")
    if options.resume and options.report:
        parser.error("--report shows the answers of one run, and --resume leaves out earlier ones: leave out --resume")
    return options


def with_explicit_none(arguments: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Return the arguments, in which a word after --none that names a video is no text for it.

    Exits with 2 where a word may be meant as either.
    """
    arguments = list(arguments)
    for place, word in enumerate(arguments[1:]):
        if arguments[place] != "--none" or (word.startswith("-") and word != "-"):
            continue
        if _names_video(word):
            arguments[place] = f"--none={OWN_TEXTS}"
        elif os.path.lexists(word) or (_PATH.search(word) and " " not in word):
            parser.error(
                f"{word} after --none may be a video or a text for it: write --none={word} for the text, or --none "
                f"--video {word}"
            )
    return arguments


def _names_video(word: str) -> bool:
    """Return whether a word is a video, a folder, a list, or a pattern that fits something, and not a label."""
    if word == "-" or word.startswith("@") or "://" in word or is_video_name(word):
        return True
    return word.endswith(("/", os.sep)) or (_PATH.search(word) is not None and bool(glob.glob(word, recursive=True)))


def check_frames(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Exit with 2 where a seed is given that is not used, or there are no such views. One view becomes None."""
    if options.seed is not None and options.sampling != "random":
        parser.error("--seed belongs to --sampling random")
    try:
        views = str(parse_views(options.views or ONE_VIEW))
    except ActionClipError as error:
        parser.error(f"--{error}")
    options.views = None if views == ONE_VIEW else views


def _check_words(words: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Exit with 2 where one of several words does not look like a video, but like a label or a sub-command."""
    for word in words:
        if not os.path.lexists(word) and not re.search(r"[.*?@/\\:-]", word):
            parser.error(
                f"there is no file or folder {word} (each label follows --text; the sub-commands are evaluate, export, "
                "ray and train)"
            )


def _advice(argument: str, parser: argparse.ArgumentParser) -> str:
    """Return advice on an argument that the parser does not know, for the error message; "" where there is none."""
    from difflib import get_close_matches

    options = get_close_matches(argument.partition("=")[0], parser._option_string_actions, 1)
    return f" (do you mean {options[0]}?)" if options else ""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; the table of options in docs/command-line.md is made from it."""
    parser = ArgumentParser(
        prog="action-clip",
        description="Say what to look for, and it finds it in video: which of these labels, in plain words, happens?",
        epilog="Without arguments it classifies its sample. With --help, `action-clip train` tells how to make a model "
        "of your own classes, `evaluate` how good one is on your clips, `export` how to make one of a checkpoint, and "
        "`ray` how to use many machines. Results go to stdout, everything else to stderr; the exit code is 0, 1 when "
        "something went wrong, 2 for wrong arguments.",
        allow_abbrev=False,
    )
    _add_input(parser)
    _add_windows(parser)
    _add_model(parser)
    _add_output(parser)
    _add_others(parser)
    return parser


def _add_input(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what to look at, and for").add_argument
    add("positional_video", metavar="VIDEO", nargs="*", type=nonempty, help="the same as --video VIDEO")
    add(
        "-v",
        "--video",
        metavar="VIDEO",
        action="extend",
        nargs="+",
        default=[],
        type=nonempty,
        help="a video file or an http(s) URL; a folder, for all videos in and below it; a pattern with * or **; @FILE, "
        "a list of videos, one a line; or -, such a list on stdin; repeat it for more (default: the sample). Live, and "
        "alone: the number of a camera, its device, or an rtsp, rtmp or udp address",
    )
    add(
        "--live",
        action="store_true",
        help="watch what --video names, in windows, until it ends or Ctrl-C: an http(s) address of a live stream, or a "
        "file at its own rate; cameras and rtsp, rtmp and udp addresses always are",
    )
    add("-t", "--text", metavar="LABEL", action="append", default=[], help="a label; repeat it for more labels")
    add("--desc_file", metavar="FILE", type=nonempty, help="labels: lines, CSV, TSV or JSON; after those of --text")
    add(
        "--none",
        metavar="LABEL",
        action="append",
        nargs="?",
        const=OWN_TEXTS,
        default=[],
        type=nonempty,
        help="allow the answer 'none of these'. Its probability is that of texts which mean something else, together: "
        "the model's own ones, or LABEL; repeat it for more. It says how much nearer these are to the video than the "
        "labels, and not how often that is right (measured for nano: see its card)",
    )
    add(
        "--multi-label",
        action="store_true",
        help="score each label by itself against these texts, for actions that happen together: 0.5 means as near to "
        "the video as all of them together; the probabilities do not sum to 1",
    )
    add("--classmap", metavar="FILE", type=nonempty, help="names of a closed-set model's classes, in the same forms")
    add("--prompts", metavar="FILE", type=nonempty, help="prompt templates, one a line in UTF-8, each with one {}")
    add(
        "--sampling",
        choices=SAMPLINGS,
        default="uniform",
        help="which frames: the official evaluation's; a random one from each segment; or the keyframes nearest to the "
        "official ones, quick for hours of video (exact where a short one has too few) (default: %(default)s)",
    )
    add("--seed", metavar="N", type=integer_from(0), help="seed of --sampling random (default: 0)")
    add(
        "--views",
        metavar="CLIPSxCROPS",
        type=nonempty,
        help="how many times each video is looked at: clips from equal stretches of it, times crops of their frames, 1 "
        "(the centre) or 3 (along the longer side), as 10x3, 10x1 or 1x3; probabilities are averaged, and it takes as "
        f"many times as long (default: {ONE_VIEW})",
    )


def _add_windows(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("when it happens").add_argument
    add(
        "--window",
        metavar="S",
        type=number(least=0, above=True),
        help="seconds: answer for the whole video in windows of this length, and not once (default of live video: "
        f"{LIVE_WINDOW_S:g})",
    )
    add(
        "--stride",
        metavar="S",
        type=number(least=0, above=True),
        help="seconds from the beginning of a window to that of the next one (default: half a window)",
    )
    add(
        "--segments",
        action="store_true",
        help="join windows with the same answer: when something begins and ends (the default but for JSON and CSV)",
    )
    add(
        "--threshold",
        metavar="P",
        type=number(least=0, most=1),
        help="the probability that a segment begins with; it ends below half of it (default: 0; with --none or "
        "--multi-label that of the model, for nano 0.29 or 0.37, as measured, for the others 0 or 0.5)",
    )
    add(
        "--min-duration",
        metavar="S",
        type=number(least=0),
        help="seconds: leave out shorter segments (default: 0)",
    )
    add(
        "--switching-cost",
        metavar="S",
        type=number(least=0),
        help="seconds: where another label is e times as probable for less than that, the answer does not change; 0: "
        f"each window has its own answer (default: {SWITCHING_COST_S:g})",
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the model").add_argument
    add(
        "-m",
        "--model",
        metavar="NAME_OR_FOLDER",
        type=nonempty,
        default=DEFAULT_MODEL,
        help="a name that --list-models shows, or a folder that export or train has made (default: %(default)s)",
    )
    add(
        "--average",
        choices=AVERAGES,
        default="probabilities",
        help="over the prompts: probabilities as ActionCLIP, embeddings as open_clip (default: %(default)s)",
    )
    add(
        "--device",
        type=nonempty,
        default="auto",
        help="auto: CUDA, ROCm or DirectML, where one starts, else the CPU; or cpu, cuda, openvino, coreml, … as the "
        "installed onnxruntime has them (default: %(default)s)",
    )
    add("--threads", metavar="N", type=integer_from(1), help="CPU threads (default: all cores that it may use)")
    add("--no-cache", action="store_true", help="encode every label anew, and keep nothing on disk")


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the answer").add_argument
    add(
        "--top-k",
        metavar="K",
        type=integer_from(1),
        help=f"how many labels (default: {DEFAULT_TOP_K}; with --multi-label all)",
    )
    add(
        "--format",
        choices=("text", "json", "csv", *SUBTITLES),
        help="default: bars on a terminal, and text, a fixed layout for scripts, everywhere else; with --window a "
        "table; srt and vtt, subtitles, are for --window",
    )
    add(
        "--spreadsheet",
        action="store_true",
        help="in CSV, put ' before what a spreadsheet would take for a formula (names that begin with =, +, -, @)",
    )
    add("--output", metavar="FILE", type=nonempty, help="write the answer to a file instead of stdout")
    add(
        "--resume",
        action="store_true",
        help="go on with the answers in --output: what an earlier run, ended in any way, answered is not done again",
    )
    add(
        "--features",
        metavar="FILE",
        type=nonempty,
        help="also write the videos' names and features, (N, D) float32, as NumPy (.npz) or Parquet (.parquet)",
    )
    add(
        "--save",
        metavar="FILE",
        type=nonempty,
        help="also save a picture of the frames of one video that were looked at, and the top labels (.png, .jpg, "
        ".webp); or the video itself with the top labels in each frame (.mp4, .mkv, .webm, .gif)",
    )
    add(
        "--report",
        metavar="REPORT.html",
        type=nonempty,
        help="also write a page to look at, which a browser opens from disk: frames and bars of one video, a table of "
        "several, with --window curves and segments beside the video",
    )
    add(
        "--benchmark",
        action="store_true",
        help=f"time each stage: median of {BENCHMARK_RUNS} runs after one to warm up, labels encoded anew; of live "
        "video, how long answers come after their last frames",
    )
    add(
        "--show",
        action="store_true",
        help="open a window with the live video, labels and bars; q, Esc or closing it ends",
    )


def _add_others(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("other").add_argument
    add("-q", "--quiet", action="store_true", help="nothing on stderr but errors")
    add("--list-models", action="store_true", help="show every model and exit")
    add("--verify", action="store_true", help="read the model's files anew, compare their sha256 and exit")
    add("--completion", choices=SHELLS, help="print what makes the shell complete this command's arguments, and exit")
    add("--version", action="version", version=f"action_clip {action_clip.__version__}")
    add("--debug", action="store_true", help="show the traceback of an error")


def add_options(parser: argparse.ArgumentParser, title: str, names: Sequence[str]) -> None:
    """Add a group of options of the command, by the names that their values have, to the parser of a sub-command."""
    options = {action.dest: action for action in build_parser()._actions}
    group = parser.add_argument_group(title)
    for name in names:
        group._add_action(options[name])


def integer_from(lowest: int, most: int | None = None) -> Callable[[str], int]:
    """Return a function that parses a whole number from `lowest`, to `most` if that is given."""

    def parse_integer(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
        if value < lowest:
            raise argparse.ArgumentTypeError(f"{value} is below {lowest}")
        if most is not None and value > most:
            raise argparse.ArgumentTypeError(f"{value} is above {most}")
        return value

    return parse_integer


def number(*, least: float, most: float = math.inf, above: bool = False) -> Callable[[str], float]:
    """Return a function that parses a finite number from `least`, or with `above` above it, to `most`."""

    def parse_number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
        if not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{text} is not a finite number")
        if value < least or (above and value == least):
            raise argparse.ArgumentTypeError(f"{text} is not {'above' if above else 'from'} {least:g}")
        if value > most:
            raise argparse.ArgumentTypeError(f"{text} is above {most:g}")
        return value

    return parse_number


def nonempty(text: str) -> str:
    """Return an argument that is not empty."""
    # An empty argument is an unset variable of a shell script, not a choice of the default.
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text
