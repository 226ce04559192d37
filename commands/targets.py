"""Whether the files that the command is to write can be written, and are none of those that it reads."""

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from action_clip.commands.samples import SAMPLE_LABELS, SAMPLE_VIDEO
from action_clip.models.catalog.specs import ModelSpec
from action_clip.system.files import check_apart, check_target

TARGETS = ("output", "save", "features", "report")
"""The options that name files to write."""
_PROGRAM = Path(__file__).parents[1]
_FOLDERS = (
    "action_clip",
    "commands",
    "data",
    "evaluation",
    "export",
    "models",
    "output",
    "system",
    "tokenizer",
    "training",
    "video",
)
_WEIGHTS = {".onnx", ".onnx_data", ".data", ".bin", ".pt", ".pth", ".safetensors"}


def check_targets(options: argparse.Namespace, spec: ModelSpec, videos: Sequence[str | os.PathLike[str]]) -> None:
    """Raise ActionClipError where a file cannot be written, or would overwrite one that is read, or another one.

    Args:
        options: of the command.
        spec: the model.
        videos: the videos that --video names, and the lists of them.
    """
    sources: dict[str, Sequence[str | os.PathLike[str] | None]] = {
        f"--{name}": [getattr(options, name)] for name in ("desc_file", "prompts", "classmap")
    }
    check_written({f"--{name}": getattr(options, name) for name in TARGETS}, {**sources, "--video": videos}, spec)
    if options.output:
        check_target(options.output)
    if options.save:
        from action_clip.output.sheet import check_path

        check_path(options.save)
    if options.features:
        from action_clip.output.features import check_path as check_features_path

        check_features_path(options.features)
    if options.report:
        from action_clip.output.report.page import check_path as check_report_path

        check_report_path(options.report)


def check_written(
    targets: Mapping[str, str | None],
    sources: Mapping[str, Sequence[str | os.PathLike[str] | None]],
    spec: ModelSpec | None,
) -> None:
    """Raise ActionClipError where a file that is to be written is one that is read, or another one.

    Args:
        targets: the files that are to be written, by their options; None for those that are not given.
        sources: the files that are read, by their options; None as above.
        spec: the model, if there is one.
    """
    given = {name: path for name, path in targets.items() if path}
    if not given:
        return
    read = {name: [path for path in paths if path] for name, paths in sources.items()}
    read["a file of the model"] = [] if spec is None else [*_model_files(spec)]
    read["a file of this program"] = [*_program_files()]
    check_apart(given, read)


def _model_files(spec: ModelSpec) -> Iterable[Path]:
    """Yield the model's files and the program's caches on this disk."""
    from action_clip.models.store.home import HASHES, LABEL_BANK, VIDEO_BANK, cache_home
    from action_clip.models.store.locations import directory_of

    folder = directory_of(spec)
    yield from (path for path in folder.glob("*") if path.suffix in _WEIGHTS or path.name == "sha256.json")
    if (home := cache_home()) is not None:
        yield from (home / name for name in (LABEL_BANK, VIDEO_BANK, HASHES))
        yield from (home / "optimised").glob("*/*")


def _program_files() -> Iterable[Path]:
    """Yield the files of the code, the embedded model and the samples."""
    yield from (SAMPLE_VIDEO, SAMPLE_LABELS)
    yield from _PROGRAM.glob("*.py")
    for folder in _FOLDERS:
        yield from (_PROGRAM / folder).rglob("*")
