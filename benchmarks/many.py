"""The cases with many videos: one process for all of them, asked once and again."""

import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

from action_clip.models.store.home import LABEL_BANK, VIDEO_BANK
from action_clip.system.cores import usable_cores
from benchmarks.contestants import ALONE, DECODING, GRAPHS, GRAPHS_INT8, PREPROCESSING, SCRIPTS
from benchmarks.inputs import ALL_TINY, CLIPS, FEW_TINY, Inputs, make_folder
from benchmarks.measure import Command, Raw, processes
from benchmarks.program import classify, forgetting
from benchmarks.targets import Case, Figure, Target, faster, ratio

PROGRAM, PROGRAM_INT8 = "program, labels known", "program int8, labels known"
LOOP = "a process a video, labels known"
FIRST, AGAIN = "program, first time", "program, again"
NEW_LABELS = "program, again, with new labels"
FEW, ALL = f"nano, {FEW_TINY} clips", f"nano, {ALL_TINY:,} clips"
# Rounds of cases that take minutes each.
ROUNDS = 3
# Runs a command, the arguments from the second one on, for each video of a folder, the first one.
_EACH = 'for video in "$0"/*; do "$@" "$video" || exit; done'


def against_limit(program: str, graphs: str) -> Figure:
    """Return the figure of clips per second, divided by those that all cores could do of the stages measured alone."""

    def figure(raw: Raw) -> float | None:
        rounds = zip(*(raw.samples.get(name, []) for name in (program, DECODING, PREPROCESSING, graphs)), strict=False)
        parts = [
            raw.notes["clips"] / whole.seconds / (raw.notes["cores"] / sum(stage.seconds for stage in alone))
            for whole, *alone in rounds
        ]
        return median(parts) if parts else None

    return figure


def _program(inputs: Inputs, precision: str, *forgotten: str) -> Command:
    """Return the program's command for the folder of clips; `forgotten` is removed from its home before each run."""
    return forgetting(classify(inputs, inputs.graphs(precision), inputs.labels_10, inputs.clips), *forgotten)


def _prepared(inputs: Inputs, *precisions: str) -> None:
    """Make the clips, and let the program keep its graphs and labels, on two videos."""
    make_folder(inputs, "clips", CLIPS)
    for precision in precisions:
        videos = sorted(inputs.clips.iterdir())[:2]
        command = classify(inputs, inputs.graphs(precision), inputs.labels_10, videos[0], "--video", str(videos[1]))
        processes({precision: command}, 1)


def looping(command: Command) -> Command:
    """Return a loop that starts the program for each video of the folder, which is the command's last argument."""
    *program, folder = command.arguments
    return replace(command, arguments=["sh", "-c", _EACH, folder, *program])


def _measured(commands: dict[str, Command], rounds: int) -> Raw:
    """Run the commands, and note the clips a second of those that classify clips."""
    raw = processes(commands, min(rounds, ROUNDS))
    medians = {name: median(run.seconds for run in runs) for name, runs in raw.samples.items() if name in raw.answers}
    speeds = {f"clips a second, {name}": CLIPS / seconds for name, seconds in medians.items()}
    return replace(raw, notes={"clips": CLIPS, "cores": usable_cores(), **speeds})


def _limit(inputs: Inputs, rounds: int) -> Raw:
    _prepared(inputs, "fp32", "int8")
    command = [sys.executable, "-m", "benchmarks.alone", str(inputs.work)]
    alone = {stage.name: Command([*command, stage.name], inputs.work / "home") for stage in ALONE}
    programs = {name: _program(inputs, kind, VIDEO_BANK) for name, kind in ((PROGRAM, "fp32"), (PROGRAM_INT8, "int8"))}
    return _measured({**programs, **alone}, rounds)


def _loop(inputs: Inputs, rounds: int) -> Raw:
    _prepared(inputs, "fp32")
    program = _program(inputs, "fp32", VIDEO_BANK)
    return _measured({PROGRAM: program, LOOP: looping(program)}, rounds)


def _scripts(inputs: Inputs, rounds: int) -> Raw:
    _prepared(inputs, "fp32")
    command, rest = [sys.executable, "-m", "benchmarks.script"], [str(inputs.work), str(inputs.labels_10)]
    scripts = {name: Command([*command, name, *rest], inputs.work / "home") for name in SCRIPTS}
    return _measured({FIRST: _program(inputs, "fp32", LABEL_BANK, VIDEO_BANK), **scripts}, rounds)


def _again(inputs: Inputs, rounds: int) -> Raw:
    _prepared(inputs, "fp32")
    commands = {
        FIRST: _program(inputs, "fp32", LABEL_BANK, VIDEO_BANK),
        AGAIN: _program(inputs, "fp32"),
        NEW_LABELS: _program(inputs, "fp32", LABEL_BANK),
    }
    return _measured(commands, rounds)


def _memory(inputs: Inputs, rounds: int) -> Raw:
    """Run each once: a peak of memory does not depend on what else the machine does."""
    make_folder(inputs, "tiny", ALL_TINY)
    few, all_of_them = (
        forgetting(classify(inputs, Path("nano"), inputs.labels_10, folder), VIDEO_BANK)
        for folder in (inputs.tiny / "few", inputs.tiny)
    )
    processes({FEW: few}, 1)  # graphs and labels are kept
    return processes({FEW: few, ALL: all_of_them}, 1)


_CLIPS = f"{CLIPS} clips"
MANY_CASES: dict[str, Case] = {
    "many": Case(
        f"{_CLIPS} of ten seconds against the limit",
        "A whole process from start to exit, for a folder of different clips, 640×360, H.264, none of which is known. "
        "The limit is the number of cores, divided by the processor's time for decoding, preprocessing and the graphs "
        "of a clip, each measured alone, in a process with one thread: those rows are the processor's time for a clip.",
        _limit,
        "",
        (
            Target(f"{_CLIPS} a second, against the limit, fp32", against_limit(PROGRAM, GRAPHS), 0.9, True, "×"),
            Target(
                f"{_CLIPS} a second, against the limit, int8", against_limit(PROGRAM_INT8, GRAPHS_INT8), 0.85, True, "×"
            ),
        ),
    ),
    "many-loop": Case(
        f"{_CLIPS} against a process a video",
        "The same clips, and a shell's loop that starts the program for each.",
        _loop,
        PROGRAM,
        (faster(f"{_CLIPS}, against a process a video", LOOP, PROGRAM, 2),),
    ),
    "many-scripts": Case(
        f"{_CLIPS} against a script for them",
        "The same clips, and what a user would write for them (`benchmarks/script.py`): a DataLoader with two "
        "processes that decode and preprocess, PyTorch on batches of eight clips, the same weights. All encode the ten "
        "labels anew.",
        _scripts,
        FIRST,
        (faster(f"{_CLIPS}, first time, against the fastest script with a DataLoader", tuple(SCRIPTS), FIRST, 1.3),),
    ),
    "many-again": Case(
        f"{_CLIPS}, asked again",
        "The same clips and ten labels. First time: neither the videos nor the labels were ever seen. Again: both are "
        "known. With new labels: the videos are known.",
        _again,
        FIRST,
        (
            faster(f"{_CLIPS} again, labels known", FIRST, AGAIN, 30),
            faster(f"{_CLIPS} again, 10 new labels", FIRST, NEW_LABELS, 12),
        ),
    ),
    "many-memory": Case(
        f"Memory for {ALL_TINY:,} clips",
        "The embedded model nano, and tiny clips (128×96, 16 frames), none of which is known.",
        _memory,
        FEW,
        (Target(f"peak memory, {ALL_TINY:,} clips over {FEW_TINY}", ratio(ALL, FEW, "peak_mb"), 1.1, False, "×"),),
    ),
}
