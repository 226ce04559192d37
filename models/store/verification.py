"""Verifying a model's graphs: against the hashes of the catalog, or those of their first use."""

from dataclasses import dataclass
from pathlib import Path

from action_clip.errors import ActionClipError
from action_clip.models.catalog.specs import ModelSpec
from action_clip.models.store.hashes import first_use_hashes, read_sha256, record_first_use
from action_clip.models.store.locations import directory_of, published_sha256, repair_hint, require_file


@dataclass(frozen=True)
class VerifiedFile:
    """One graph whose hash was computed anew."""

    role: str
    path: Path
    sha256: str
    against: str
    """Which known hash it is equal to: "catalog", "first use", or "nothing" where none was known until now."""


def verify(spec: ModelSpec) -> tuple[VerifiedFile, ...]:
    """Read every graph anew, compare its sha256 with the catalog's, else with that of its first use, and return it.

    A file without a known hash has its hash recorded, unless the model is embedded: its hashes come with this version.
    Raises ActionClipError naming every file that differs, with the hash expected and found, or that is missing.
    """
    first_uses = first_use_hashes(directory_of(spec)) if spec.folder is None else {}
    verified, changed = [], []
    records: dict[Path, None] = {}
    for file in spec.files:
        path = require_file(spec, file)
        actual = read_sha256(path)
        expected, against = published_sha256(file, path), "catalog"
        if expected is None and path.name in first_uses:
            expected, against = first_uses[path.name].sha256, "first use"
        if expected is None:
            against = "nothing"
        elif actual != expected:
            changed.append(f"{path} has the sha256 {actual} instead of {expected} ({against})")
            if against == "first use":
                records[first_uses[path.name].record] = None
        verified.append(VerifiedFile(file.role, path, actual, against))
    if changed:
        accept = (
            f", or delete its lines in {' and '.join(map(str, records))} if the change was yours" if records else ""
        )
        raise ActionClipError(f"{'; '.join(changed)}: {repair_hint(spec)}{accept}")
    if spec.folder is None:
        record_first_use({file.path: file.sha256 for file in verified})
    return tuple(verified)
