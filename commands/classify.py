"""Classify one video as the options say, and write the answer; for several, and for windows, see several.py."""

import argparse
import logging
import sys
from collections.abc import Callable, Iterable
from functools import partial
from time import perf_counter

from action_clip.commands.arguments import BENCHMARK_RUNS
from action_clip.commands.models import chosen_model
from action_clip.commands.question import question
from action_clip.commands.samples import SAMPLE_VIDEO
from action_clip.commands.targets import check_targets
from action_clip.commands.videos import is_one_video
from action_clip.errors import ActionClipError
from action_clip.models.cache.feature_memory import MEMORY
from action_clip.models.catalog.specs import ModelSpec, catalog
from action_clip.models.model_graphs import FoundModel
from action_clip.models.prediction import Prediction
from action_clip.output.stdout import is_terminal, write_stdout
from action_clip.output.writers import FORMATS, as_csv, save_text

_LOG = logging.getLogger("action_clip")

Classify = Callable[[], Prediction]


def classify(options: argparse.Namespace) -> int:
    """Load the model, classify what --video names, and write the answers; return the exit code, 1 if a video failed.

    Raises:
        ActionClipError: options, the only video, labels or model are not usable, or an answer cannot be written.
    """
    found = chosen_model(options.model)
    if options.resume or options.window is not None or not is_one_video(options.video):
        from action_clip.commands.several import classify_several

        return classify_several(options, found)
    return 0 if _classify_one(options, found) else 1


def _classify_one(options: argparse.Namespace, found: FoundModel) -> bool:
    """Write the answer, then what else is asked for; return whether all of it is written."""
    # Everything that can be checked now is checked before a model is downloaded.
    check_targets(options, found.spec, options.video)
    asked = question(options, found, prepack=options.benchmark)  # else there is one clip
    video = options.video[0] if options.video else SAMPLE_VIDEO
    how = asked.against | asked.how | {"thumbnails": bool(options.save or options.report)}
    run: Classify = partial(asked.model.classify, video, *asked.arguments, **how)
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
    note_stand_in(found.spec)
    # Without OpenCV for the sheet, the answer is already written; and one of these is written where another cannot be.
    return are_done(partial(save, options, prediction) for save in (_save_features, _save_sheet, _save_report))


def _save_features(options: argparse.Namespace, prediction: Prediction) -> None:
    if options.features:
        from action_clip.output.features import FeatureTable

        table = FeatureTable(1)
        table.add(0, prediction.video_features)
        table.save(options.features, [prediction.video or ""], prediction.model)


def _save_sheet(options: argparse.Namespace, prediction: Prediction) -> None:
    if options.save:
        from action_clip.output.sheet import save_sheet

        save_sheet(options.save, prediction)


def _save_report(options: argparse.Namespace, prediction: Prediction) -> None:
    if options.report:
        from action_clip.output.report.report import save_report

        save_report(options.report, prediction)


def are_done(steps: Iterable[Callable[[], None]]) -> bool:
    """Take each step after the answers, and return whether all are done; for each that is not, stderr says why."""
    done = True
    for step in steps:
        try:
            step()
        except ActionClipError as error:
            _LOG.error("error: %s", error)
            done = False
    return done


def note_stand_in(spec: ModelSpec) -> None:
    """Say on stderr that the embedded model is a stand-in, if `spec` is that one."""
    if spec.folder is not None and spec in catalog():
        _LOG.warning(
            "the embedded model %s is a stand-in that sees objects, not motion: leave out --model for ActionCLIP "
            "itself (%d MB, downloaded once)",
            spec.name,
            round(catalog()[0].size / 1e6),
        )


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
