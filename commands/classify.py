"""Classify one video as the options say, and write the answer."""

import argparse
import logging
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from time import perf_counter

from action_clip.commands.arguments import BENCHMARK_RUNS
from action_clip.commands.models import chosen_model
from action_clip.commands.samples import LABELS, SAMPLE_LABELS, SAMPLE_VIDEO
from action_clip.errors import ActionClipError
from action_clip.models import AVERAGES, DEFAULT_MODEL
from action_clip.models.actionclip import ActionClip
from action_clip.models.cache.feature_memory import MEMORY
from action_clip.models.catalog.specs import ModelSpec, catalog
from action_clip.models.classmap import read_classmap
from action_clip.models.loading import load
from action_clip.models.model_graphs import FoundModel
from action_clip.models.prediction import Prediction
from action_clip.output.stdout import is_terminal, write_stdout
from action_clip.output.writers import FORMATS, as_csv, save_text
from action_clip.tokenizer.prompts import read_labels, read_prompts, warn_about_lists

_PROGRAM = Path(__file__).parents[1]
_ROOMS = ("action_clip", "commands", "export", "models", "output", "system", "tokenizer", "video")
_WEIGHTS = {".onnx", ".onnx_data", ".data", ".bin", ".pt", ".pth", ".safetensors"}
_LOG = logging.getLogger("action_clip")

Classify = Callable[[], Prediction]


def classify(options: argparse.Namespace) -> None:
    """Load the model, classify the video, write the answer, and draw the sheet.

    Raises:
        ActionClipError: options, video, labels or model are not usable, or the answer cannot be written.
    """
    # Everything that can be checked now is checked before a model is downloaded.
    model = chosen_model(options.model)
    _check_targets(options, model.spec)
    run = _loaded(options, model)
    prediction = run()
    if options.benchmark:
        _benchmark(run, prediction)
    form = partial(as_csv, for_spreadsheets=True) if options.spreadsheet else FORMATS[options.format or "text"]
    if options.output:
        save_text(form(prediction), options.output)
    elif options.format is None and is_terminal():
        from action_clip.output.terminal_writer import terminal_writer

        write_stdout(terminal_writer().text(prediction), styled=True)
    else:
        write_stdout(form(prediction))
    if model.spec.folder is not None and model.spec in catalog():
        _LOG.warning(
            "the embedded model %s is a stand-in that sees objects, not motion: leave out --model for ActionCLIP "
            "itself (%d MB, downloaded once)",
            model.spec.name,
            round(catalog()[0].size / 1e6),
        )
    if options.save:  # last: without OpenCV for it, the answer is already written
        from action_clip.output.sheet import save_sheet

        save_sheet(options.save, prediction)


def _check_targets(options: argparse.Namespace, spec: ModelSpec) -> None:
    """Raise ActionClipError where a file cannot be written, or would overwrite one that is read."""
    from action_clip.system.files import check_apart, check_target

    targets = {f"--{name}": getattr(options, name) for name in ("output", "save") if getattr(options, name)}
    if targets:
        inputs = ("video", "desc_file", "prompts", "classmap")
        sources: dict[str, list[str | Path]] = {
            f"--{name}": [getattr(options, name)] for name in inputs if getattr(options, name)
        }
        sources["a file of the model"] = [*_model_files(spec)]
        sources["a file of this program"] = [*_program_files()]
        check_apart(targets, sources)
    if options.output:
        check_target(options.output)
    if options.save:
        from action_clip.output.sheet import check_path

        check_path(options.save)


def _model_files(spec: ModelSpec) -> Iterable[Path]:
    """Yield the model's files and the program's caches on this disk."""
    from action_clip.models.store.home import HASHES, LABEL_BANK, cache_home
    from action_clip.models.store.locations import directory_of

    folder = directory_of(spec)
    yield from (path for path in folder.glob("*") if path.suffix in _WEIGHTS or path.name == "sha256.json")
    if (home := cache_home()) is not None:
        yield from (home / name for name in (LABEL_BANK, HASHES))
        yield from (home / "optimised").glob("*/*")


def _program_files() -> Iterable[Path]:
    """Yield the files of the code, the embedded model and the samples."""
    yield from (SAMPLE_VIDEO, SAMPLE_LABELS)
    yield from _PROGRAM.glob("*.py")
    for room in _ROOMS:
        yield from (_PROGRAM / room).rglob("*")


def _loaded(options: argparse.Namespace, found: FoundModel) -> Classify:
    """Load the model, read the files of labels, prompts and classes, and return a function that classifies the video.

    Raises ActionClipError where one of them is not usable.
    """
    check_kind(options, found)
    model = load(
        found,
        device=options.device,
        threads=options.threads,
        cache=not (options.no_cache or options.benchmark),
        prepack=options.benchmark,  # else there is one clip
        prompts=read_prompts(options.prompts) if options.prompts else None,
        average=options.average,
        classmap=read_classmap(options.classmap) if options.classmap else None,
    )
    video = options.video or SAMPLE_VIDEO
    how = {"top_k": options.top_k, "sampling": options.sampling, "seed": options.seed or 0}
    if isinstance(model, ActionClip):
        return partial(model.classify, video, _labels(options), **how)
    return partial(model.classify, video, **how)


def check_kind(options: argparse.Namespace, found: FoundModel) -> None:
    """Raise ActionClipError where an option is for the other kind of model."""
    if found.spec.kind == ActionClip.kind:
        if options.classmap:
            raise ActionClipError(f"--classmap is for closed-set models, {found.name} takes labels: use --desc_file")
        return
    for option in ("text", "desc_file", "prompts"):
        if getattr(options, option):
            raise ActionClipError(
                f"{options.model} is a closed-set model, it knows its own classes and no other labels: leave out "
                f"--{option}, or choose a zero-shot model, such as {DEFAULT_MODEL} or nano"
            )
    if options.average != AVERAGES[0]:
        raise ActionClipError(f"--average is over prompts, and {found.name} has none: leave it out")


def _labels(options: argparse.Namespace) -> list[str]:
    return given_labels(options) or (list(LABELS) if options.video else read_labels(SAMPLE_LABELS))


def given_labels(options: argparse.Namespace) -> list[str]:
    """Return the labels of --text and --desc_file. Raises ActionClipError where the file cannot be used."""
    warn_about_lists(options.text)
    return [*options.text, *(read_labels(options.desc_file, before=options.text) if options.desc_file else ())]


def _benchmark(run: Classify, prediction: Prediction) -> None:
    """Store the median times of several runs in the prediction's timings, and print them on stderr."""
    timings = _median_timings(run)
    prediction.timings_s.update(timings)
    if _LOG.isEnabledFor(logging.WARNING):
        lines = [f"{stage:<12}{seconds * 1e3:>10.1f} ms" for stage, seconds in timings.items()]
        print(f"median of {BENCHMARK_RUNS} runs, after one to warm up", *lines, sep="\n", file=sys.stderr)


def _median_timings(run: Classify) -> dict[str, float]:
    """Return the median seconds of each stage, and of the whole, which is below their sum where stages overlap."""
    from statistics import median

    runs = []
    for _ in range(BENCHMARK_RUNS):
        MEMORY.clear()  # labels are encoded anew
        began = perf_counter()
        stages = run().timings_s
        runs.append({**stages, "whole": perf_counter() - began})
    return {stage: median(timings[stage] for timings in runs) for stage in runs[0]}
