"""Every target for a few seconds, and that whatever goes wrong in one is noticed."""

import os
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import pytest
from conftest import FOR_EXPORTING
from driver import HERE, fuzz, names

SECONDS = 1.5


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_no_input_is_at_fault(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        with patch.dict(os.environ):  # which a target may change for its own process
            import_module(f"fuzz_{name}")
    except ModuleNotFoundError as error:
        if error.name not in FOR_EXPORTING:
            raise
        pytest.skip(f"{error.name} is not installed")
    monkeypatch.chdir(tmp_path)
    assert fuzz(HERE / f"fuzz_{name}.py", ["--seed", "0"], seconds=SECONDS) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "shown"),
    [
        ("raise ValueError(data)", "ValueError: b'bad"),
        ("raise SystemExit", ""),
        ("import ctypes; ctypes.string_at(0)", "Segmentation fault"),
        ("import re; re.match(rb'(a+)+$', b'a' * 60 + b'b')", "Timeout"),
        ("bytearray(300 << 20)[::4096]", "MB of memory"),
    ],
)
def test_faults_are_found(
    fault: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = f"""
from action_clip.errors import ActionClipError

def seeds():
    return [b"bad", b"good"]

def target(data):
    if data.startswith(b"bad"):
        {fault}
    raise ActionClipError("not good")
"""
    path = tmp_path / "fuzz_faulty.py"
    path.write_text(code)
    monkeypatch.chdir(tmp_path)
    kept = fuzz(path, ["--input-seconds", "2", "--memory-mb", "200"], seconds=60)
    assert kept is not None
    assert kept.read_bytes().startswith(b"bad")
    printed = capsys.readouterr().out
    assert shown in printed
    assert f"driver.py faulty --input {kept}" in printed
