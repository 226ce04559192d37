"""A model's files on this disk: downloaded where they are missing, or given their names when they have been exported.

The layout of home(): `<model>/` with the graphs and the checkpoint that they were exported from, if they were, and
`<model>/.lock`.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from action_clip.errors import ActionClipError
from action_clip.models.catalog.specs import CHECKPOINT, ModelFile, ModelSpec
from action_clip.models.store.hashes import (
    first_use_hashes,
    read_sha256,
    record_first_use,
    record_new_file,
    sha256_of,
)
from action_clip.models.store.home import home
from action_clip.models.store.locations import (
    USE_NANO,
    directory_of,
    export_hint,
    find_file,
    locate,
    published_sha256,
    require_file,
)
from action_clip.models.store.lock import locked, unwritable
from action_clip.system.addresses import is_offline, redacted

# How many times larger than the model a file of unknown length may be: a checkpoint may have more than weights.
_MOST_TIMES = 8
_log = logging.getLogger("action_clip")


def fetch(spec: ModelSpec, *, keep: bool = True) -> dict[str, Path]:
    """Return the graphs' paths by role, after downloading those that are not on this disk.

    Two runs at once download once. ACTION_CLIP_MIRROR (`https://host/base`) replaces the URLs' host, and
    ACTION_CLIP_OFFLINE=1 forbids every connection. The sha256 of a file in home() is recorded at first use, unless
    `keep` is false.

    Raises:
        ActionClipError: a file is missing and cannot be downloaded, graphs have yet to be exported, or a file is not
            the catalog's.
    """
    if spec.folder is None and locate(spec) is None:
        if spec.checkpoint is not None:
            raise ActionClipError(f"the graphs of {spec.name} are not on this disk yet: {export_hint(spec)}")
        about = f"{spec.name} is about {round(spec.size / 1e6)} MB in all"
        _download_missing(spec, spec.files, f"the model {spec.name}", about)
    paths = {file: require_file(spec, file) for file in spec.files}
    if spec.folder is None and keep:
        _record_first_use(spec, paths)
    return {file.role: path for file, path in paths.items()}


def fetch_checkpoint(spec: ModelSpec) -> Path:
    """Return the path of the checkpoint of the model's graphs, after downloading it if it is not on this disk.

    The path is in directory_of(spec); rules and errors are those of `fetch`. Raises ActionClipError also when the
    model's graphs are not made by an export.
    """
    if spec.checkpoint is None:
        raise ActionClipError(f"the graphs of {spec.name} are ready, not exported: use --model {spec.name}")
    if find_file(spec, spec.checkpoint) is None:
        about = f"{spec.name} is exported from it"
        _download_missing(spec, [spec.checkpoint], f"the export of {spec.name}", about)
    path = require_file(spec, spec.checkpoint)
    _record_first_use(spec, {spec.checkpoint: path})
    return path


def install(spec: ModelSpec, graphs: Mapping[str, Path]) -> None:
    """Give exported graphs their names: `graphs` has the path of each by role, inside directory_of(spec).

    Their sha256 takes the place of what was recorded before. Raises ActionClipError when the directory or the record
    cannot be written.
    """
    directory = directory_of(spec)
    with locked(directory, spec.name):
        for file in spec.files:
            digest = read_sha256(graphs[file.role])
            target = directory / file.name
            try:
                os.replace(graphs[file.role], target)
                record_new_file(target, digest)
            except OSError as error:
                raise unwritable(directory, error) from error


def _download_missing(spec: ModelSpec, files: Sequence[ModelFile], purpose: str, about: str) -> None:
    """Download the missing files; `purpose` is for the error message without network, `about` for the log."""
    directory = directory_of(spec)
    urls = {file.role: _mirrored(file.url) for file in files if file.url is not None}

    def missing_files() -> list[ModelFile]:
        return [file for file in files if find_file(spec, file) is None]

    if is_offline():
        missing = missing_files()
        names = " and ".join(file.name for file in missing)
        sources = ", ".join(redacted(urls[file.role]) for file in missing)
        raise ActionClipError(
            f"{purpose} needs {names} in {directory}, and ACTION_CLIP_OFFLINE forbids downloading: "
            f"put the missing files there by hand (from {sources}), {USE_NANO}"
        )
    with locked(directory, spec.name):
        from action_clip.models.store.resumable import remove_stale

        remove_stale(directory, [file.name for file in files])
        missing = missing_files()  # looked up under the lock: another run may just have fetched them
        if missing:
            names = " and ".join(file.name for file in missing)
            _log.warning("downloading %s (%s) to %s", names, about, directory)
        for file in missing:
            _download(spec, file, urls[file.role], directory / file.name)


def _download(spec: ModelSpec, file: ModelFile, url: str, target: Path) -> None:
    from action_clip.models.catalog.structure import check_checkpoint, check_graph
    from action_clip.models.store.download import download

    # Without a known hash, the file's structure shows whether it is a graph or a checkpoint.
    check = None if file.sha256 else check_checkpoint if file.role == CHECKPOINT else check_graph
    digest = download(url, target, size=file.size, sha256=file.sha256, most_bytes=_MOST_TIMES * spec.size, check=check)
    before = first_use_hashes(target.parent).get(file.name)
    if before is not None and before.sha256 != digest:
        _log.warning("%s is not the file it was before: sha256 %s, now %s", target, before.sha256, digest)
    with suppress(OSError, ActionClipError):
        record_new_file(target, digest)


def _mirrored(url: str) -> str:
    """Return the URL with the scheme, host and base path of ACTION_CLIP_MIRROR, where that is set."""
    mirror = os.environ.get("ACTION_CLIP_MIRROR", "").strip()
    if not mirror:
        return url
    try:
        parts = urlsplit(mirror)
        is_base = not (parts.query or parts.fragment) and parts.port != 0
        usable = parts.scheme in ("http", "https") and parts.hostname and is_base
    except ValueError:
        usable = False
    if not usable:
        # The address is not shown, as any part of it may be a password.
        raise ActionClipError("ACTION_CLIP_MIRROR is no address: make it https://host or https://host/path")
    return mirror.rstrip("/") + urlsplit(url).path


def _record_first_use(spec: ModelSpec, paths: Mapping[ModelFile, Path]) -> None:
    # A hash that cannot be recorded would be computed again in each run.
    if not os.access(home(), os.W_OK):
        return
    recorded = first_use_hashes(directory_of(spec))
    hashes = {}
    for file, path in paths.items():
        if path.name in recorded:
            continue
        digest = sha256_of(path)
        if published_sha256(file, path) not in (None, digest):
            raise ActionClipError(
                f"{path} has the sha256 {digest} instead of the catalog's {file.sha256}: delete it to download it again"
            )
        hashes[path] = digest
    record_first_use(hashes)
