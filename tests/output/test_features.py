"""Tables of features: what is in the files, in which order, and which paths are refused."""

import sys
from pathlib import Path

import numpy as np
import pytest

from action_clip.errors import ActionClipError
from action_clip.output.features import FeatureTable, check_path

NAMES = ["b.mp4", "failed.mp4", "ä\udcff.mp4", "a.mp4"]
ROWS = {3: np.full(6, 3, np.float32), 0: np.zeros(6, np.float32), 2: np.arange(6, dtype=np.float32)}


def table() -> FeatureTable:
    filled = FeatureTable(len(NAMES))
    for place, row in ROWS.items():
        filled.add(place, row)
    return filled


def test_npz_has_names_and_rows_in_the_order_given_without_what_failed(tmp_path: Path) -> None:
    target = tmp_path / "features.NPZ"
    target.write_text("old")
    table().save(target, NAMES, "nano")
    with np.load(target, allow_pickle=False) as file:
        assert file["videos"].tolist() == ["b.mp4", "ä\udcff.mp4", "a.mp4"]
        assert file["features"].dtype == np.float32
        assert np.array_equal(file["features"], [ROWS[0], ROWS[2], ROWS[3]])
        assert file["model"] == "nano"
    assert list(tmp_path.iterdir()) == [target]


def test_parquet_has_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    check_path(str(tmp_path / "features.parquet"))
    table().save(tmp_path / "features.parquet", NAMES, "nano")
    read = parquet.read_table(tmp_path / "features.parquet")
    assert read.column_names == ["video", "features"]
    rows = read.schema.field("features").type
    assert (str(rows.value_type), rows.list_size) == ("float", 6)
    assert read["video"].to_pylist() == ["b.mp4", "ä\\udcff.mp4", "a.mp4"]
    assert read["features"].to_pylist() == [ROWS[0].tolist(), ROWS[2].tolist(), ROWS[3].tolist()]
    assert read.schema.metadata[b"model"] == b"nano"
    assert [path.name for path in tmp_path.iterdir()] == ["features.parquet"]


def test_without_pyarrow_the_package_is_named_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    with pytest.raises(ActionClipError, match=r"the extra \[parquet\]: pip install pyarrow, or name a file that ends"):
        check_path(str(tmp_path / "features.parquet"))
    check_path(str(tmp_path / "features.npz"))


@pytest.mark.parametrize("name", ["features", "features.npy", "features.npz.gz"])
def test_another_ending_is_refused(name: str) -> None:
    with pytest.raises(ActionClipError, match=r"the name must end in \.npz or \.parquet"):
        check_path(name)


def test_a_table_without_rows_and_a_folder_that_is_gone_write_nothing(tmp_path: Path) -> None:
    with pytest.raises(ActionClipError, match="is not written: no video has features"):
        FeatureTable(2).save(tmp_path / "features.npz", ["a", "b"], "nano")
    with pytest.raises(ActionClipError, match=r"cannot write .*features\.npz"):
        table().save(tmp_path / "gone" / "features.npz", NAMES, "nano")
    assert list(tmp_path.iterdir()) == []
