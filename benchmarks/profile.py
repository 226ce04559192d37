"""Where the time of a graph goes: `python -m benchmarks.profile FOLDER`, a folder of an exported zero-shot model.

Prints what it takes to make a session of each graph, plainly, and as the program keeps it, with and without packing its
weights; and the kinds of operators that a run spends its time in. Each session is made in a process of its own.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from action_clip.models.cache.session_cache import write_optimised
from action_clip.models.catalog.model_directory import read_model_directory
from action_clip.system.terminal import ArgumentParser
from benchmarks.inputs import ROOT, SEED

RUNS = 7
# Most kinds of operators that are shown.
MOST = 8
TEXTS = 160
UNPACKED = "as it is kept, not packed"


def rows(role: str, frames: int, size: int, length: int) -> NDArray[Any]:
    """Return an input for the graph of a role: TEXTS texts of `length` tokens, one clip's frames, or its features."""
    generator = np.random.default_rng(SEED)
    if role == "text":
        tokens = generator.integers(1000, 40000, (TEXTS, length))
        tokens[:, -1] = 49407  # end of text
        return tokens
    shape = (frames, 3, size, size) if role == "image" else (1, frames, 512)
    return generator.normal(size=shape).astype(np.float32)


def make_session(path: Path) -> None:
    """Make a session of a graph, and print how many seconds it took and by how many MB the peak of memory rose.

    To be called in a process of its own.
    """
    before = peak_mb()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if path.parent.name != "plain":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if path.parent.name == UNPACKED:
        options.add_session_config_entry("session.disable_prepacking", "1")
    began = perf_counter()
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    seconds = perf_counter() - began
    print(json.dumps([seconds, peak_mb() - before]))


def peak_mb() -> float:
    """Return this process's peak of memory in MB; that of the module resource is at least the parent's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def plain(source: Path, folder: Path) -> Path:
    """Link to the graph in `folder`, and return the link: the graph as it was exported."""
    path = folder / source.name
    path.symlink_to(source)
    return path


FORMS: dict[str, Callable[[Path, Path], Path]] = {
    "plain": plain,
    "as it is kept": write_optimised,
    UNPACKED: write_optimised,
}


def session_table(graphs: dict[str, Path]) -> None:
    """Print the time and memory that sessions take, for each graph by role and each of FORMS."""
    print("| graph | kept | file | session, median | min to max | memory |\n| --- | --- | --- | --- | --- | --- |")
    for role, source in graphs.items():
        with TemporaryDirectory() as folder:
            paths = {}
            for form, write in FORMS.items():
                Path(folder, form).mkdir()
                paths[form] = write(source, Path(folder, form))
            found: dict[str, list[list[float]]] = {form: [] for form in FORMS}
            for _ in range(RUNS):
                for form, path in paths.items():
                    command = [sys.executable, "-m", "benchmarks.profile", "--session", str(path)]
                    found[form].append(json.loads(subprocess.check_output(command, cwd=ROOT)))
            for form, runs in found.items():
                megabytes = sum(file.stat().st_size for file in paths[form].parent.iterdir()) / 1e6
                seconds, peaks = zip(*runs, strict=True)
                spread = f"{min(seconds):.2f} to {max(seconds):.2f} s"
                row = (role, form, f"{megabytes:.0f} MB", f"{median(seconds):.2f} s", spread, f"{median(peaks):.0f} MB")
                print(f"| {' | '.join(row)} |")


def operator_table(name: str, path: Path, value: NDArray[Any]) -> None:
    """Print the kinds of operators that take most of a run on `value`, in ms, as a row with `name`."""
    with TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for _ in range(RUNS):
            session.run(None, {session.get_inputs()[0].name: value})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    spent: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"] / 1e3 / RUNS
    shares = ", ".join(f"{kind} {milliseconds:.0f}" for kind, milliseconds in spent.most_common(MOST))
    print(f"| {name} | {spent.total():.0f} | {shares} |")


def main() -> None:
    """Print the tables."""
    parser = ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("folder", type=Path, help="of an exported model")
    parser.add_argument("--session", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.session:
        make_session(options.folder)
        return
    spec, graphs = read_model_directory(options.folder)
    session_table(graphs)
    print("\n| run | ms | of which |\n| --- | --- | --- |")
    for role, path in graphs.items():
        for length in (77, 9) if role == "text" else (0,):
            name = f"{role}, {TEXTS} texts of {length} tokens" if length else role
            operator_table(name, path, rows(role, spec.frames, spec.image_size, length))


if __name__ == "__main__":
    main()
