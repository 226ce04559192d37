"""The command: parse the arguments, load a model, classify, write the result."""

import argparse
import errno
import io
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import action_clip
from action_clip.errors import ActionClipError
from action_clip.models.actionclip import AVERAGES, DEFAULT_MODEL, ActionClip
from action_clip.models.cache.feature_memory import MEMORY
from action_clip.models.model import find_model
from action_clip.models.prediction import Prediction
from action_clip.models.timesformer import TimeSformer
from action_clip.system.addresses import redacted
from action_clip.system.terminal import ArgumentParser, LogFormatter, printable, sentence
from action_clip.video.sampling import SAMPLINGS

LABELS = (
    "applauding", "dancing", "driving", "driving car", "driving truck",
    "eating", "punching", "reading", "surfing", "talking phone",
)  # fmt: skip
SAMPLES = Path(__file__).parent / "samples"
SAMPLE_VIDEO = SAMPLES / "sample.gif"
SAMPLE_LABELS = SAMPLES / "labels.txt"
BENCHMARK_RUNS = 5
_WEIGHTS = {".onnx", ".onnx_data", ".data", ".bin", ".pt", ".pth", ".safetensors"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 for what went wrong, 130 when interrupted (2 is argparse's)."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for what --help says, where it has no letters for it
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.seed is not None and options.sampling != "random":
        parser.error("--seed belongs to --sampling random")
    if options.spreadsheet and options.format != "csv":
        parser.error("--spreadsheet belongs to --format csv")
    _log_to_stderr()
    try:
        _run(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output has gone
        return 1
    except Exception as error:
        if options.debug:
            import traceback

            print(printable(redacted(traceback.format_exc()), lines=True), file=sys.stderr)
        logging.getLogger("action_clip").error("error: %s", _sentence(error))
        return 1
    return 0


def _sentence(error: Exception) -> str:
    if isinstance(error, ActionClipError):
        return sentence(error)
    if isinstance(error, ImportError):
        return (
            f"a package cannot be loaded ({error}): install what requirements.txt lists, and for a system library "
            "(lib….so) see Troubleshooting in the README"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error}): make room, or name another folder with TMPDIR or ACTION_CLIP_HOME"
    if isinstance(error, MemoryError):
        return "there is not enough memory: give fewer labels at a time, or a smaller video"
    return (
        f"something went wrong that should not have ({type(error).__name__}: {error}): "
        "run again with --debug and report what it prints"
    )


def _run(options: argparse.Namespace) -> None:
    if options.list_models:
        _write(_model_table())
    elif options.verify:
        _write(_verified(options.model))
    else:
        _classify(options)


def _classify(options: argparse.Namespace) -> None:
    from action_clip.output.writers import FORMATS, CsvWriter
    from action_clip.system.files import check_apart, check_target

    # Whatever can be checked at once is checked before a model is downloaded.
    targets = {f"--{name}": getattr(options, name) for name in ("output", "save") if getattr(options, name)}
    if targets:
        inputs = ("video", "desc_file", "prompts", "classmap")
        sources: dict[str, list[str | Path]] = {
            f"--{name}": [getattr(options, name)] for name in inputs if getattr(options, name)
        }
        sources["a file of the model"] = [*_model_files(options.model)]
        sources["a file of this program"] = [*_program_files()]
        check_apart(targets, sources)
    if options.output:
        check_target(options.output)
    if options.save:
        from action_clip.output.sheet import check_path, save_sheet

        check_path(options.save)
    classify = _classifier(options) if _is_closed_set(options.model) else _recognizer(options)
    prediction = classify()
    if options.benchmark:
        timings = _benchmark(classify)
        prediction.timings_s.update(timings)
        print(_timing_table(timings), file=sys.stderr)
    writer = CsvWriter(for_spreadsheets=True) if options.spreadsheet else FORMATS[options.format]
    if options.output:
        writer.save(prediction, options.output)
    else:
        _write(writer.text(prediction))
    if options.save:  # last: where there is no OpenCV for it, the answer is there
        save_sheet(options.save, prediction)


def _model_files(model: str) -> Iterable[Path]:
    """What is kept of the model, and beside it, on this disk."""
    from action_clip.models.store.home import HASHES, LABEL_BANK, cache_home
    from action_clip.models.store.locations import directory_of

    folder = directory_of(find_model(model)[0])
    yield from (path for path in folder.glob("*") if path.suffix in _WEIGHTS or path.name == "sha256.json")
    if (home := cache_home()) is not None:
        yield from (home / name for name in (LABEL_BANK, HASHES))
        yield from (home / "optimised").glob("*/*")


def _program_files() -> Iterable[Path]:
    """The code, the embedded models, and what is read where nothing else is named."""
    yield from (SAMPLE_VIDEO, SAMPLE_LABELS)
    yield from SAMPLES.parent.glob("*.py")
    for folder in ("models", "tokenizer", "video", "output"):
        yield from (SAMPLES.parent / folder).rglob("*")


def _is_closed_set(model: str) -> bool:
    return find_model(model)[0].kind == TimeSformer.kind


def _recognizer(options: argparse.Namespace) -> Callable[[], Prediction]:
    """What classifies the video with a zero-shot model."""
    from action_clip.tokenizer.prompts import read_prompts

    if options.classmap:
        raise ActionClipError(f"--classmap is for closed-set models, {options.model} takes labels: use --desc_file")
    labels = _labels(options)
    model = ActionClip(
        options.model,
        device=options.device,
        threads=options.threads,
        prompts=read_prompts(options.prompts) if options.prompts else None,
        average=options.average,
        cache=not (options.no_cache or options.benchmark),
    )
    return lambda: model.classify(options.video or SAMPLE_VIDEO, labels, **_how(options))


def _classifier(options: argparse.Namespace) -> Callable[[], Prediction]:
    """What classifies the video with a closed-set model."""
    from action_clip.models.classmap import read_classmap

    for option in ("text", "desc_file", "prompts"):
        if getattr(options, option):
            raise ActionClipError(
                f"{options.model} is a closed-set model, it knows its own classes and no other labels: leave out "
                f"--{option}, or choose a zero-shot model, such as {DEFAULT_MODEL} or nano"
            )
    if options.average != AVERAGES[0]:
        raise ActionClipError(f"--average is over prompts, and {options.model} has none: leave it out")
    classmap = read_classmap(options.classmap) if options.classmap else None
    model = TimeSformer(options.model, device=options.device, threads=options.threads, classmap=classmap)
    return lambda: model.classify(options.video or SAMPLE_VIDEO, **_how(options))


def _how(options: argparse.Namespace) -> dict[str, Any]:
    return {"top_k": options.top_k, "sampling": options.sampling, "seed": options.seed or 0}


def _labels(options: argparse.Namespace) -> list[str]:
    from action_clip.tokenizer.prompts import read_labels, warn_about_lists

    warn_about_lists(options.text)
    labels = [*options.text, *(read_labels(options.desc_file, before=options.text) if options.desc_file else ())]
    return labels or (list(LABELS) if options.video else read_labels(SAMPLE_LABELS))


def _model_table() -> str:
    from action_clip.models.catalog.specs import catalog
    from action_clip.models.store.locations import locate

    rows = [("name", "frames", "size", "on this disk", "published accuracy", "licence")]
    for spec in catalog():
        names = ", ".join((spec.name, *spec.aliases))
        absent = "no" if spec.checkpoint is None else f"no: python -m export {spec.name}"
        here = "yes" if locate(spec) else absent
        rows.append((names, str(spec.frames), f"{spec.size / 1e6:.0f} MB", here, spec.accuracy, spec.licence))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def _verified(model: str) -> str:
    from action_clip.models.store.verification import verify

    lines = []
    for file in verify(find_model(model)[0]):
        known = "nothing to compare it with" if file.against == "nothing" else f"equal to {file.against}"
        lines.append(f"{printable(str(file.path))}\n  sha256 {file.sha256}, {known}\n")
    return "".join(lines)


def _benchmark(classify: Callable[[], Prediction]) -> dict[str, float]:
    """The median seconds of each stage, and of the whole, which is less than their sum where stages overlap."""
    from statistics import median

    runs = []
    for _ in range(BENCHMARK_RUNS):
        MEMORY.clear()  # labels are encoded anew
        began = perf_counter()
        stages = classify().timings_s
        runs.append({**stages, "whole": perf_counter() - began})
    return {stage: median(run[stage] for run in runs) for stage in runs[0]}


def _timing_table(timings_s: dict[str, float]) -> str:
    lines = [f"{stage:<12}{seconds * 1e3:>10.1f} ms" for stage, seconds in timings_s.items()]
    return "\n".join([f"median of {BENCHMARK_RUNS} runs, after one to warm up", *lines])


def _write(text: str) -> None:
    """Write the whole text to stdout; ActionClipError where that cannot be done."""
    if sys.stdout is None:
        raise ActionClipError("there is no stdout to write to: name a file with --output")
    if sys.stdout.isatty():
        text = printable(text, lines=True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name that is not valid Unicode must not stop a run.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer goes nowhere: or Python would complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise ActionClipError(
            f"the answer cannot be written to stdout ({error.strerror}): name a file with --output"
        ) from error


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter("action_clip: %(message)s"))
    log = logging.getLogger("action_clip")
    log.handlers[:] = [handler]
    log.propagate = False


def _from(lowest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None
        if value < lowest:
            raise argparse.ArgumentTypeError(f"{value} is below {lowest}")
        return value

    return parse


def _given(text: str) -> str:
    # An unset variable in a shell script, and not the wish for the default.
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return text


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command; the table of options in the README is made from it."""
    parser = ArgumentParser(
        prog="action_clip.py",
        description="Say what to look for, and it finds it in video: which of these labels, in plain words, happens?",
        epilog="Without arguments it looks at its sample. Results go to stdout, everything else to stderr; the exit "
        "code is 0, 1 when something went wrong, 2 for wrong arguments.",
        allow_abbrev=False,
    )
    add = parser.add_argument_group("what to look at, and for").add_argument
    add("-v", "--video", metavar="VIDEO", type=_given, help="a video file or an http(s) URL; default: the sample")
    add("-t", "--text", metavar="LABEL", action="append", default=[], help="a label; repeat it for more labels")
    add("--desc_file", metavar="FILE", type=_given, help="labels: lines, CSV, TSV or JSON; after those of --text")
    add("--classmap", metavar="FILE", type=_given, help="names of a closed-set model's classes, in the same forms")
    add("--prompts", metavar="FILE", type=_given, help="prompt templates, one a line in UTF-8, each with one {}")
    add(
        "--sampling",
        choices=SAMPLINGS,
        default="uniform",
        help="which frames: the official evaluation's; a random one from each segment; or the keyframes nearest to the "
        "official ones, quick for hours of video (exact where a short one has too few) (default: %(default)s)",
    )
    add("--seed", metavar="N", type=_from(0), help="seed of --sampling random (default: 0)")

    add = parser.add_argument_group("the model").add_argument
    add(
        "-m",
        "--model",
        metavar="NAME_OR_FOLDER",
        type=_given,
        default=DEFAULT_MODEL,
        help="a name that --list-models shows, or a folder with exported graphs (default: %(default)s)",
    )
    add(
        "--average",
        choices=AVERAGES,
        default="probabilities",
        help="over the prompts: probabilities as ActionCLIP, embeddings as open_clip (default: %(default)s)",
    )
    add(
        "--device",
        type=_given,
        default="cpu",
        help="cpu, cuda, openvino, coreml, … as the installed onnxruntime has them (default: %(default)s)",
    )
    add("--threads", metavar="N", type=_from(1), help="CPU threads (default: all cores that it may use)")
    add("--no-cache", action="store_true", help="encode every label anew, and keep nothing on disk")

    add = parser.add_argument_group("the answer").add_argument
    add("--top-k", metavar="K", type=_from(1), default=5, help="how many labels (default: %(default)s)")
    add("--format", choices=("text", "json", "csv"), default="text", help="default: %(default)s")
    add(
        "--spreadsheet",
        action="store_true",
        help="in CSV, put ' before what a spreadsheet would take for a formula (names that begin with =, +, -, @)",
    )
    add("--output", metavar="FILE", type=_given, help="write the answer to a file instead of stdout")
    add("--save", metavar="SHEET.png", type=_given, help="also draw the frames looked at and the top labels")
    add(
        "--benchmark",
        action="store_true",
        help=f"time each stage: median of {BENCHMARK_RUNS} runs after one to warm up, labels encoded anew",
    )

    add = parser.add_argument_group("other").add_argument
    add("--list-models", action="store_true", help="show every model and exit")
    add("--verify", action="store_true", help="read the model's files anew, compare their sha256 and exit")
    add("--version", action="version", version=f"action_clip {action_clip.__version__}")
    add("--debug", action="store_true", help="show the traceback of an error")
    return parser
