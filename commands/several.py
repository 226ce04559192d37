"""Classify several videos, or one in windows, as the options say: answers are written as they come."""

import argparse
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from action_clip.commands.answers import Answers, Sink, StdoutSink, file_sink, report_failure
from action_clip.commands.arguments import SUBTITLES
from action_clip.commands.classify import are_done, note_stand_in
from action_clip.commands.models import graph_hashes
from action_clip.commands.progress import progress
from action_clip.commands.question import Question, question
from action_clip.commands.resume import ResumableOutput, Settings, digest
from action_clip.commands.samples import SAMPLE_VIDEO
from action_clip.commands.targets import TARGETS, check_targets
from action_clip.commands.timelines import joining, write_timelines
from action_clip.commands.videos import ListedVideo, Listing, is_one_video, list_videos
from action_clip.errors import ActionClipError
from action_clip.models.model_graphs import FoundModel
from action_clip.models.prediction import Failure
from action_clip.output.features import FeatureTable
from action_clip.output.stdout import is_terminal
from action_clip.output.timelines import TimelineForm, timeline_form
from action_clip.output.writers import Form, form_of_several
from action_clip.system.addresses import display_name, is_address
from action_clip.video.views import ONE_VIEW

if TYPE_CHECKING:
    from action_clip.output.report.report import Report

_LOG = logging.getLogger("action_clip")


def classify_several(options: argparse.Namespace, found: FoundModel) -> int:
    """Classify all videos that --video names, and write answers and features; return the exit code, 1 if any failed.

    Raises:
        ActionClipError: options, labels or model are not usable, there are no videos, or answers cannot be written.
    """
    _check_count(options)
    listing = list_videos(options.video or [str(SAMPLE_VIDEO)])
    check_targets(options, found.spec, _sources(options, listing))
    asked = question(options, found, prepack=True)
    form, styled = _form(options)
    table = FeatureTable(len(listing.videos)) if options.features else None
    report = _report(options, asked)
    with _sink(options, found, asked, form.head, styled=styled) as sink:
        try:
            if isinstance(form, TimelineForm):
                keep = {} if report is None else {"keep": report.add}
                failed = write_timelines(options, asked, listing.videos, form, sink, **keep)
            else:
                failed = _run(options, asked, listing.videos, Answers(form, sink, listing.videos), table, report)
        except KeyboardInterrupt:
            if isinstance(sink, ResumableOutput):
                _LOG.warning("stopped: the same command with --resume goes on with %s", options.output)
            raise
    names = [display_name(video.name) for video in listing.videos]
    steps = [] if table is None else [partial(table.save, options.features, names, found.spec.name)]
    are_saved = are_done([*steps, *([] if report is None else [report.save])])
    if failed < len(listing.videos):
        note_stand_in(found.spec)
    if failed and not _is_one_in_windows(options):
        _LOG.error("%d of %d videos failed", failed, len(listing.videos))
    return 1 if failed or listing.unreadable or not are_saved else 0


def _check_count(options: argparse.Namespace) -> None:
    """Raise ActionClipError where an option is for one video."""
    for option in ("save", "benchmark"):
        if getattr(options, option):
            raise ActionClipError(f"--{option} is for one video: name a single file or URL, without --resume")
    if options.format in SUBTITLES and not _is_one_in_windows(options):
        raise ActionClipError(
            f"--format {options.format} is for one video: name a single file or URL, and begin anew for each"
        )


def _is_one_in_windows(options: argparse.Namespace) -> bool:
    """Return whether the answer is the timeline of one video, which does not name it."""
    return options.window is not None and is_one_video(options.video)


def _sources(options: argparse.Namespace, listing: Listing) -> list[str]:
    """Return the lists, and those videos which may be the files that are to be written."""
    targets = Listing()
    for name in TARGETS:
        if path := getattr(options, name):
            targets.add(path)
    files = {video.file for video in targets.videos if video.file is not None}
    paths = {os.path.realpath(video.name) for video in targets.videos}
    return [
        *listing.lists,
        *(
            video.name
            for video in listing.videos
            if video.file in files
            or (video.file is None and not is_address(video.name) and os.path.realpath(video.name) in paths)
        ),
    ]


def _form(options: argparse.Namespace) -> tuple[Form | TimelineForm, bool]:
    """Return the form of the answers, and whether it is that for people, on a terminal."""
    if options.window is not None:
        form = timeline_form(
            options.format or "text",
            of_segments=options.segments,
            is_one=_is_one_in_windows(options),
            for_spreadsheets=options.spreadsheet,
        )
        return form, False
    if options.output or options.format or not is_terminal():
        return form_of_several(options.format or "text", for_spreadsheets=options.spreadsheet), False
    from action_clip.output.terminal_writer import terminal_writer

    return Form("", terminal_writer().text, lambda failure: "", in_order=True), True


@contextmanager
def _sink(
    options: argparse.Namespace, found: FoundModel, asked: Question, head: str, *, styled: bool
) -> Iterator[Sink]:
    if options.output is None:
        yield StdoutSink(head, separator="\n" if styled else "", styled=styled)
        return
    with file_sink(options.output, head, lambda: _settings(options, found, asked), resume=options.resume) as output:
        yield output


def _settings(options: argparse.Namespace, found: FoundModel, asked: Question) -> Settings:
    """Return what the answers depend on, besides the videos."""
    graphs = graph_hashes(found, keep=not options.no_cache)
    return {
        "the model": found.spec.name,
        "graphs of the model": None if graphs is None else digest(graphs),
        "labels": digest([asked.labels, asked.against] if asked.against else asked.labels),
        "prompts": digest(asked.prompts),
        "class names": digest(asked.classmap),
        "--average": options.average,
        "--top-k": asked.how["top_k"],
        "--sampling": options.sampling,
        "--seed": options.seed or 0,
        "--views": options.views or ONE_VIEW,
        "--format": options.format or "text",
        "--spreadsheet": options.spreadsheet,
        **_window_settings(options),
    }


def _window_settings(options: argparse.Namespace) -> Settings:
    """Return the settings of windows: each has a value, as those that are None are not compared."""
    if options.window is None:
        return {"--window": "none"}
    return {
        "--window": options.window,
        "--stride": "half of it" if options.stride is None else options.stride,
        "--segments": options.segments,
        "--threshold": "default" if options.threshold is None else options.threshold,
        "--min-duration": options.min_duration or 0.0,
        "--switching-cost": "default" if options.switching_cost is None else options.switching_cost,
        "the timeline": "of one video" if _is_one_in_windows(options) else "of several videos",
    }


def _report(options: argparse.Namespace, asked: Question) -> "Report | None":
    """Return the page that is to be written at the end, if there is to be one."""
    if not options.report:
        return None
    from action_clip.output.report.report import Report

    return Report(options.report, joining(options, asked.threshold))


def _run(
    options: argparse.Namespace,
    asked: Question,
    videos: Sequence[ListedVideo],
    answers: Answers,
    table: FeatureTable | None,
    report: "Report | None",
) -> int:
    """Classify the videos that have no answer yet; return how many failed.

    Those that have one are looked at again, for their features alone, where a table of features is to be filled.
    """
    places = [place for place in range(len(videos)) if table is not None or place not in answers.answered]
    names = (videos[place].name for place in places)
    beside_answers = options.output is None and is_terminal()
    failed = 0
    how = asked.against | asked.how | {"thumbnail": report is not None}
    with (
        progress(len(videos), len(videos) - len(places), beside_answers=beside_answers) as bar,
        closing(asked.model.classify_as_completed(names, *asked.arguments, **how)) as results,
    ):
        for number, result in results:
            place = places[number]
            if isinstance(result, Failure):
                failed += 1
                report_failure(videos[place], result.error)
            elif table is not None:
                table.add(place, result.video_features)
            if report is not None:
                report.add(place, result)
            with bar.undisturbed():
                answers.add(place, result)
            bar.count(failed)
    return failed
