"""Exports that take long are made once for all processes of a test run."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], None]) -> Path:
    """A folder that `fill` has filled, in this process or in another one of the run, which is waited for."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, complete = shared / f"once-{name}", shared / f"once-{name}-complete"
    try:
        folder.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + 1500
        while not complete.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{folder} is not complete") from None
            time.sleep(0.05)
        return folder
    try:
        fill(folder)
    finally:  # where it failed, the tests of the other processes fail without waiting
        complete.touch()
    return folder
