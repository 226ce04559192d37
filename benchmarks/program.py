"""The program's command, as the cases run it."""

import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.inputs import Inputs
from benchmarks.measure import Command


def classify(inputs: Inputs, graphs: Path, labels: Path, video: Path | str, *options: str) -> Command:
    """Return the command that classifies a video, or a folder of them, with a home for each model."""
    command = [sys.executable, "action_clip.py", "--model", str(graphs), "--desc_file", str(labels), "--format", "json"]
    command += [*options, "--video", str(video)]
    return Command(command, inputs.work / f"home-{graphs.name}", is_exact=graphs != inputs.int8)


def forgetting(command: Command, *names: str) -> Command:
    """Return the command with the files of these names removed from its home before each run."""
    return replace(command, forget=tuple(command.home / name for name in names))
