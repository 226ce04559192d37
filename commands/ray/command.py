"""`action-clip ray`, the command for any number of videos on one machine or many: see --help."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from action_clip.command import reported
from action_clip.commands import arguments as common
from action_clip.commands.models import chosen_model
from action_clip.commands.question import question
from action_clip.errors import ActionClipError
from action_clip.models.actionclip import ActionClip
from action_clip.system.terminal import ArgumentParser

if TYPE_CHECKING:
    from action_clip.commands.ray.worker import Work

_FOR_WORKERS = {f"ACTION_CLIP_{name}" for name in ("OFFLINE", "MIRROR", "TIMEOUT", "MAX_PIXELS", "CACHE_GB")}
"""Environment variables that workers get; ACTION_CLIP_HOME is each machine's own."""
_LOG = logging.getLogger("action_clip")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 after an error, also of a video, 130 after Ctrl-C."""
    parser = build_parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(common.with_explicit_none(arguments, parser))
    common.check_frames(parser, options)
    return reported(partial(_run, options), options)


def build_parser() -> ArgumentParser:
    """Return the parser; the table of options in docs/scale.md is made from it."""
    parser = ArgumentParser(
        prog="action-clip ray",
        description="Classify any number of videos, on one machine or many, into a folder of Parquet files.",
        epilog="The same command again goes on with what is missing. The exit code is 0, 1 when something went wrong, "
        "also where videos have an error, 2 for wrong arguments.",
        allow_abbrev=False,
    )
    add = parser.add_argument_group("videos in, answers out").add_argument
    add(
        "videos",
        metavar="VIDEO",
        nargs="+",
        type=common.nonempty,
        help="a file, a folder, a pattern, @FILE with a name a line, or Parquet files of paths (their names end in "
        ".parquet); here, or at an address that pyarrow reads, such as s3://, gs:// and hdfs://; or an http(s) URL",
    )
    add(
        "--path-column",
        metavar="NAME",
        type=common.nonempty,
        default="path",
        help="the column of Parquet files of paths (default: %(default)s)",
    )
    add(
        "--out",
        metavar="FOLDER",
        type=common.nonempty,
        required=True,
        help="where the answers go, as Parquet files: a folder, also at such an address",
    )
    add("--retry-failed", action="store_true", help="do the videos again that have an error in FOLDER")
    add(
        "--videos-per-file",
        metavar="N",
        type=common.integer_from(1),
        default=256,
        help="at most: what a run that is ended has to do again of each worker's (default: %(default)s)",
    )
    names = ("text", "desc_file", "none", "multi_label", "classmap", "prompts", "sampling", "seed", "views")
    common.add_options(parser, "what to look for", (*names, "top_k"))
    common.add_options(parser, "the model", ("model", "average", "device", "no_cache"))
    _add_cluster(parser)
    common.add_options(parser, "other", ("quiet", "debug"))
    return parser


def _add_cluster(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("machines").add_argument
    add(
        "--address",
        metavar="ADDRESS",
        type=common.nonempty,
        help="of a Ray cluster: auto, HOST:6379 (default: RAY_ADDRESS, else a Ray of this machine that ends with the "
        "command)",
    )
    add(
        "--workers",
        metavar="N",
        type=common.integer_from(1),
        help="each with a model of its own (default: as many as there are CPUs and GPUs for)",
    )
    add(
        "--cpus",
        metavar="N",
        type=common.integer_from(1),
        help="CPUs of a worker (default: 4, or all of smaller machines)",
    )
    add(
        "--gpus",
        metavar="N",
        type=_share,
        help="GPUs of a worker, also a part of one, such as 0.5 (default: 1 with --device cuda, else none)",
    )
    add("--threads", metavar="N", type=common.integer_from(1), help="CPU threads of a worker (default: one a CPU)")


def _share(text: str) -> float:
    """Return a number of GPUs: parts of one, or whole ones, which Ray has no other of."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
    if not 0 <= value < float("inf") or (value > 1 and value % 1):
        raise argparse.ArgumentTypeError(f"{text} is neither from 0 to 1 nor a whole number")
    return value


def _run(options: argparse.Namespace) -> int:
    """Classify the videos and return the exit code."""
    address = options.address or os.environ.get("RAY_ADDRESS")
    address = None if address == "local" else address
    if address is not None and address.startswith("ray://"):
        raise ActionClipError(
            f"Ray Data does not work through Ray Client ({address}): run this command on a machine of the cluster with "
            "--address auto, or with ray job submit"
        )
    _require_ray(is_local=address is None)
    from action_clip.commands.ray.driver import classify_all, connected, pool_of
    from action_clip.commands.ray.inputs import find_videos
    from action_clip.commands.ray.output import Output
    from action_clip.commands.ray.worker import PROXY

    output = Output(options.out)
    videos = find_videos(options.videos, options.path_column)
    work, settings = _prepared(options, output.name)
    with output.opened(settings) as run:
        if options.retry_failed:
            output.forget_failed()
        held = output.held()
        missing = {path: source for path, source in videos.items() if path not in held.paths}
        failed = len(held.failed & videos.keys())
        if missing:
            if already := len(videos) - len(missing):
                _LOG.warning("%d of %d videos are in %s already", already, len(videos), output.place.name)
            with connected(address):
                gpus = float(options.device == "cuda") if options.gpus is None else options.gpus
                pool = pool_of(options.workers, options.cpus, gpus, grows=address is not None)
                own = {} if address else {PROXY: os.environ.get(PROXY)}
                work = replace(
                    work,
                    run=run,
                    model={**work.model, "threads": options.threads or pool.cpus},
                    environment={**work.environment, **own},
                )
                failed += classify_all(missing, work, pool, options.videos_per_file, done=already)
    if failed:
        _LOG.error("%d of %d videos have an error: see the column error in %s", failed, len(videos), output.place.name)
    return int(failed > 0)


def _require_ray(*, is_local: bool) -> None:
    """Import Ray with what it would connect to switched off. Raises ActionClipError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what it logs goes to stderr too
    if is_local:
        os.environ.setdefault("RAY_prestart_worker_first_driver", "0")  # else one idle process a core
        # Else, on Linux, it listens on the address by which other machines reach this one.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import pyarrow.parquet  # noqa: F401
        import ray.data  # noqa: F401
    except ImportError as error:
        raise ActionClipError(
            f"{error}: this command needs Ray, pip install 'action-clip[ray]', or in a clone pip install -r "
            "requirements-ray.txt"
        ) from error


def _prepared(options: argparse.Namespace, output: str) -> tuple["Work", dict[str, Any]]:
    """Return what workers do, and what the answers depend on, by the options.

    Labels are encoded here, once, so that no worker needs the text graph. Raises ActionClipError.
    """
    from action_clip.commands.ray.worker import Work, graphs_of

    found = chosen_model(options.model)
    has_labels = options.text or options.desc_file or found.spec.classes
    if not has_labels:
        raise ActionClipError("there are no labels: give some with --text or --desc_file")
    keep = not options.no_cache
    here = argparse.Namespace(**{**vars(options), "device": "cpu", "threads": None, "benchmark": False, "window": None})
    asked = question(here, found, prepack=True)
    graphs = graphs_of(found, keep=keep)
    settings: dict[str, Any] = {
        "--model": found.spec.name,
        "the graphs of the model": graphs,
        **{f"--{name.replace('_', '-')}": value for name, value in asked.how.items()},
    }
    bank = None
    with asked.model as model:
        if isinstance(model, ActionClip):
            bank = model.labels(asked.labels or (), **asked.against)
            settings |= {"the labels": bank.labels, "--prompts": model.prompts, "--average": model.average}
            if bank.none_texts:
                settings |= {"the texts of --none": bank.none_texts, "--multi-label": bank.is_multi_label}
        else:
            settings |= {"the class names": model.classes}
    work = Work(
        output=output,
        run="",
        model={
            "model": found.name if found.paths is None else os.path.abspath(found.name),
            "device": options.device,
            "threads": options.threads,
            "cache": keep,
            "prompts": asked.prompts,
            "average": options.average,
            "classmap": asked.classmap,
        },
        graphs=graphs,
        bank=bank,
        how=asked.how,
        environment={name: os.environ[name] for name in _FOR_WORKERS if name in os.environ},
    )
    return work, settings
