"""Where a model's graphs are on this disk: found, downloaded, installed, kept and verified.

The layout under home(): `<model>/` with the graphs and the checkpoint that they were exported from, if they were,
`<model>/sha256.json` (the hashes recorded at first use) and `<model>/.lock`.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from action_clip.errors import ActionClipError
from action_clip.models.catalog.specs import CHECKPOINT, ModelFile, ModelSpec
from action_clip.models.store.hashes import read_sha256, remember, sha256_of
from action_clip.models.store.home import NoHomeError, home
from action_clip.models.store.records import read_record, update_record
from action_clip.system.addresses import is_offline, redacted

if TYPE_CHECKING:
    from filelock import BaseFileLock

# How many times larger than the model a file of unknown length may be: a checkpoint may have more than weights.
_MOST_TIMES = 8
_HOLDER_S = 600.0
"""How long is waited for another run that brings nothing into the folder; longer than one waits for a silent server."""

_MODELS = Path(__file__).parents[1]
_log = logging.getLogger("action_clip")


@dataclass(frozen=True)
class VerifiedFile:
    """One graph whose hash was computed anew."""

    role: str
    path: Path
    sha256: str
    against: str
    """What it was equal to: "catalog", "first use", or "nothing" where no hash of it was known until now."""


def folder_of(spec: ModelSpec) -> Path:
    """Where the model's graphs are, or will be."""
    return home() / spec.name if spec.folder is None else _MODELS / spec.folder


def locate(spec: ModelSpec) -> dict[str, Path] | None:
    """The graphs' paths by role, or None when one is not on this disk. Never connects, never writes."""
    found = {file.role: path for file in spec.files if (path := _present(spec, file)) is not None}
    return found if len(found) == len(spec.files) else None


def fetch(spec: ModelSpec, *, keep: bool = True) -> dict[str, Path]:
    """The graphs' paths by role, after downloading those that are not on this disk.

    Two runs at once download once. ACTION_CLIP_MIRROR (`https://host/base`) stands in for the URLs' host, and
    with ACTION_CLIP_OFFLINE=1 nothing ever connects. The sha256 of a file of home() is recorded at first
    use, unless nothing is to be kept. Raises ActionClipError when a file is missing and cannot be had, or is not the
    catalog's; graphs that are yet to be exported cannot be had.
    """
    if spec.folder is None and locate(spec) is None:
        if spec.checkpoint is not None:
            raise ActionClipError(f"the graphs of {spec.name} are not on this disk yet: {_export_cure(spec)}")
        about = f"{spec.name} is about {round(spec.size / 1e6)} MB in all"
        _download_missing(spec, spec.files, f"the model {spec.name}", about)
    found = {file: _require(spec, file) for file in spec.files}
    if spec.folder is None and keep:
        _record_first_use(spec, found)
    return {file.role: path for file, path in found.items()}


def fetch_checkpoint(spec: ModelSpec) -> Path:
    """The path of what the model's graphs are exported from, after downloading it if it is not on this disk.

    The path is in folder_of(spec), the rules are those of `fetch`. Raises ActionClipError also when the model's graphs
    are not exported.
    """
    if spec.checkpoint is None:
        raise ActionClipError(f"the graphs of {spec.name} are ready, not exported: use --model {spec.name}")
    if _present(spec, spec.checkpoint) is None:
        about = f"{spec.name} is exported from it"
        _download_missing(spec, [spec.checkpoint], f"the export of {spec.name}", about)
    path = _require(spec, spec.checkpoint)
    _record_first_use(spec, {spec.checkpoint: path})
    return path


def install(spec: ModelSpec, graphs: Mapping[str, Path]) -> None:
    """Give exported graphs their names: `graphs` has the path of each by role, inside folder_of(spec).

    Their sha256 takes the place of what was recorded before. Raises ActionClipError when the folder cannot be written.
    """
    folder = folder_of(spec)
    with _locked(folder, spec):
        for file in spec.files:
            digest = read_sha256(graphs[file.role])
            target = folder / file.name
            try:
                os.replace(graphs[file.role], target)
                update_record(_record_path(spec), {file.name: digest})
            except OSError as error:
                raise _unwritable(folder, error) from error
            remember(target, digest)


def verify(spec: ModelSpec) -> tuple[VerifiedFile, ...]:
    """Read every graph anew and compare its sha256 with the catalog's, else with that of its first use.

    Raises ActionClipError naming every file that differs, with the hash expected and found, or missing.
    Nothing is recorded of an embedded model: what it should be comes with this version.
    """
    recorded = _recorded(spec)
    verified, changed = [], []
    for file in spec.files:
        path = _require(spec, file)
        actual = read_sha256(path)
        expected, against = _published(file, path), "catalog"
        if expected is None:
            expected, against = recorded.get(path.name), "first use"
        if expected is None:
            against = "nothing"
        elif actual != expected:
            changed.append(f"{path} has the sha256 {actual} instead of {expected} ({against})")
        verified.append(VerifiedFile(file.role, path, actual, against))
    if changed:
        cure = cure_of(spec)
        if spec.folder is None:
            cure += f", or delete {_record_path(spec)} if the change was yours"
        raise ActionClipError(f"{'; '.join(changed)}: {cure}")
    if spec.folder is None:
        _record(spec, {item.path.name: item.sha256 for item in verified})
    return tuple(verified)


def cure_of(spec: ModelSpec) -> str:
    """What helps where a file of the model is damaged: it depends on where the file is from."""
    if spec.checkpoint is not None:
        return f"run python -m export {spec.name} to export it again"
    if spec.folder is None:
        return "delete it to download it again"
    is_embedded = any(file.sha256 for file in spec.files)
    return "reinstall the program" if is_embedded else "export it again, or get it anew from where it is from"


def _present(spec: ModelSpec, file: ModelFile) -> Path | None:
    try:
        folder = folder_of(spec)
    except NoHomeError:
        return None
    paths = (folder / name for name in (file.name, *file.also_accepted))
    # Unlike Path.is_file, this is False for what is in a folder that may not be entered.
    return next((path for path in paths if os.path.isfile(path)), None)


def _missing(spec: ModelSpec, files: Sequence[ModelFile]) -> list[ModelFile]:
    return [file for file in files if _present(spec, file) is None]


def _published(file: ModelFile, path: Path) -> str | None:
    """The catalog's sha256, which does not hold for a file under another accepted name."""
    return file.sha256 if path.name == file.name else None


def _require(spec: ModelSpec, file: ModelFile) -> Path:
    path = _present(spec, file)
    if path is None:
        cure = "put it back or reinstall the program"
        if spec.checkpoint is not None:
            cure = _export_cure(spec)
        elif spec.folder is None:
            cure = f"run once with --model {spec.name} to download it, or put it there by hand"
        raise ActionClipError(f"{file.name} of the model {spec.name} is missing in {folder_of(spec)}: {cure}")
    return path


def _export_cure(spec: ModelSpec) -> str:
    return (
        f"run python -m export {spec.name} once (it needs requirements-export.txt), "
        "or use --model nano, which needs no download"
    )


def _download_missing(spec: ModelSpec, files: Sequence[ModelFile], user: str, about: str) -> None:
    """Download those of the files that are not there; `user` is what needs them, `about` what is said besides."""
    folder = folder_of(spec)
    urls = {file.role: _mirrored(file.url) for file in files if file.url is not None}
    if is_offline():
        missing = _missing(spec, files)
        names = " and ".join(file.name for file in missing)
        sources = ", ".join(redacted(urls[file.role]) for file in missing)
        raise ActionClipError(
            f"{user} needs {names} in {folder}, and ACTION_CLIP_OFFLINE forbids downloading: "
            f"put the missing files there by hand (from {sources}), "
            "or use --model nano, which needs no download"
        )
    with _locked(folder, spec):
        from action_clip.models.catalog.structure import check_checkpoint, check_graph
        from action_clip.models.store.download import download
        from action_clip.models.store.resumable import remove_stale

        remove_stale(folder, [file.name for file in files])
        missing = _missing(spec, files)  # asked under the lock: another run may just have fetched them
        if missing:
            names = " and ".join(file.name for file in missing)
            _log.warning("downloading %s (%s) to %s", names, about, folder)
        for file in missing:
            target = folder / file.name
            # Where no hash says so, its outline shows whether it is such a file at all.
            check = None if file.sha256 else check_checkpoint if file.role == CHECKPOINT else check_graph
            most = _MOST_TIMES * spec.size
            digest = download(urls[file.role], target, size=file.size, sha256=file.sha256, most=most, check=check)
            previous = _recorded(spec).get(file.name, digest)
            if previous != digest:
                _log.warning("%s is not the file it was before: sha256 %s, now %s", target, previous, digest)
            _record(spec, {file.name: digest})
            remember(target, digest)


def _mirrored(url: str) -> str:
    """The URL with the scheme, host and base path of ACTION_CLIP_MIRROR, where that is set."""
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
        # It is not shown: there may be a password in it, anywhere.
        raise ActionClipError("ACTION_CLIP_MIRROR is no address: make it https://host or https://host/path")
    return mirror.rstrip("/") + urlsplit(url).path


@contextmanager
def _locked(folder: Path, spec: ModelSpec) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.warning("waiting for another run that is downloading %s (Ctrl-C ends this one)", spec.name)
            _wait_for(lock, folder, spec)
    except (OSError, NotImplementedError) as error:  # the latter of file systems that have no locks
        raise _unwritable(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def _wait_for(lock: "BaseFileLock", folder: Path, spec: ModelSpec) -> None:
    """Acquire the lock, as long as another run makes progress; ActionClipError where it hangs."""
    from filelock import Timeout

    seen, since = _sizes(folder), monotonic()
    while monotonic() - since < _HOLDER_S:
        with suppress(Timeout):
            lock.acquire(timeout=min(1.0, _HOLDER_S))
            return
        if (now := _sizes(folder)) != seen:
            seen, since = now, monotonic()
    raise ActionClipError(
        f"another run holds {folder / '.lock'} and has brought nothing of {spec.name} for {_HOLDER_S:.0f} s: end it "
        "and run again, or use --model nano, which needs no download"
    )


def _sizes(folder: Path) -> dict[str, int]:
    sizes = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):  # it may just have got another name
                sizes[entry.name] = os.lstat(entry.path).st_size
    return sizes


def _unwritable(folder: Path, error: OSError | NotImplementedError) -> ActionClipError:
    reason = getattr(error, "strerror", None) or error
    return ActionClipError(
        f"{folder} cannot be written ({reason}): set ACTION_CLIP_HOME to another one, "
        "or use --model nano, which needs no download"
    )


def _record_first_use(spec: ModelSpec, found: Mapping[ModelFile, Path]) -> None:
    # Hashing what cannot be recorded would be repeated by every run on a read-only folder.
    if not os.access(folder_of(spec), os.W_OK):
        return
    recorded = _recorded(spec)
    new = {}
    for file, path in found.items():
        if path.name in recorded:
            continue
        digest = sha256_of(path)
        if _published(file, path) not in (None, digest):
            raise ActionClipError(
                f"{path} has the sha256 {digest} instead of the catalog's {file.sha256}: delete it to download it again"
            )
        new[path.name] = digest
    if new:
        _record(spec, new)


def _record_path(spec: ModelSpec) -> Path:
    return folder_of(spec) / "sha256.json"


def _recorded(spec: ModelSpec) -> dict[str, str]:
    """The sha256 of each file name, as recorded at first use."""
    return {name: value for name, value in read_record(_record_path(spec)).items() if isinstance(value, str)}


def _record(spec: ModelSpec, hashes: Mapping[str, str]) -> None:
    """Record the hashes, where the folder can be written."""
    with suppress(OSError, ActionClipError):
        update_record(_record_path(spec), hashes)
