"""Features of several videos as a table: names and an array (N, D), in a file of NumPy or Parquet."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.system.files import check_target, replacing, writing

FORMATS = (".npz", ".parquet")


def check_path(path: str) -> None:
    """Raise ActionClipError where features cannot be written to `path`: by its ending or folder, or without pyarrow."""
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise ActionClipError(f"cannot write features to {path}: the name must end in {' or '.join(FORMATS)}")
    if ending == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise ActionClipError(
                f"cannot write {path}: Parquet needs pyarrow, the package of the extra [parquet]: pip install pyarrow, "
                "or name a file that ends in .npz"
            ) from error
    check_target(path)


class FeatureTable:
    """The features of up to `total` videos, which are added in any order."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._rows: NDArray[np.float32] | None = None
        self._there = np.zeros(total, bool)

    def add(self, place: int, features: NDArray[np.float32]) -> None:
        """Add the features, (D,), of the video at this place."""
        if self._rows is None:
            self._rows = np.empty((self._total, len(features)), np.float32)
        self._rows[place] = features
        self._there[place] = True

    def save(self, path: str | os.PathLike[str], names: Sequence[str], model: str) -> None:
        """Write the rows that are there, in the order of their places, whole or not at all.

        Args:
            path: ends in one of FORMATS. An .npz file has the arrays `videos` (N,), `features` (N, D) float32, and
                `model` (); a Parquet file the columns `video` and `features`, and `model` in its metadata.
            names: of all videos, `total` of them.
            model: its name.

        Raises:
            ActionClipError: there are no rows, or the file cannot be written.
        """
        if self._rows is None:
            raise ActionClipError(f"{os.fspath(path)} is not written: no video has features")
        places = np.flatnonzero(self._there).tolist()
        for row, place in enumerate(places):  # in place, as a copy would take as much memory again
            self._rows[row] = self._rows[place]
        write = _write_parquet if Path(path).suffix.lower() == ".parquet" else _write_npz
        with writing(path), replacing(path) as draft:
            write(draft, [names[place] for place in places], self._rows[: len(places)], model)


def _write_npz(path: Path, names: Sequence[str], features: NDArray[np.float32], model: str) -> None:
    with path.open("wb") as file:  # to a path, NumPy would add .npz
        np.savez(file, videos=np.array(names), features=features, model=np.array(model))


def _write_parquet(path: Path, names: Sequence[str], features: NDArray[np.float32], model: str) -> None:
    import pyarrow
    import pyarrow.parquet

    # Names of files that are not Unicode have escapes, as in CSV.
    videos = pyarrow.array([name.encode("utf-8", "backslashreplace").decode() for name in names], pyarrow.string())
    rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(features.reshape(-1)), features.shape[1])
    table = pyarrow.table({"video": videos, "features": rows}).replace_schema_metadata({"model": model})
    pyarrow.parquet.write_table(table, path)
