"""What conftest.py adds to every run of the tests."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.slow
def test_a_run_of_what_failed_last_passes_over_modules_that_passed(tmp_path: Path) -> None:
    for name in ("conftest.py", "fake_providers.py", "new_process.py"):
        shutil.copy(TESTS / name, tmp_path)
    for name in ("failed", "passed"):
        (tmp_path / f"test_{name}.py").write_text(f"def test_{name}() -> None: ...\n")
    last = tmp_path / "cache" / "v" / "cache" / "lastfailed"
    last.parent.mkdir(parents=True)
    last.write_text(json.dumps({"test_failed.py::test_failed": True}))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--last-failed", "-o", "cache_dir=cache", "-n", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TESTS.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
