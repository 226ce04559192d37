"""The cases: the contestants of each, and the targets that their figures should reach."""

import statistics
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from action_clip.models.store.home import LABEL_BANK, VIDEO_BANK
from benchmarks.contestants import (
    EXACT_FRAMES,
    GPU_BATCHES,
    KEYFRAMES,
    ON_GPU,
    PEERS,
    PROGRAM,
    PROGRAM_INT8,
    PYTORCH_ON_GPU,
    SCORE,
    STAGES,
    VIDEO_LENGTHS_S,
    YARDSTICK,
)
from benchmarks.film import FILM_CASES
from benchmarks.inputs import LABELS_400, Inputs
from benchmarks.many import MANY_CASES
from benchmarks.measure import Command, Raw, processes, workers
from benchmarks.program import classify, forgetting
from benchmarks.targets import Case, Figure, Target, faster, middle, smaller

EMPTY, KNOWN = "program, empty label bank", "program, labels known"
VIDEO_KNOWN = "program, video and labels known"
EMPTY_INT8, KNOWN_INT8 = "program int8, empty label bank", "program int8, labels known"
FIRST = "program, very first run"
PYTORCH = ("transformers", "open_clip")
SGEMM = tuple(contestant.name for contestant in STAGES["clip"] if contestant.name.startswith("sgemm"))
NOTHING, NUMPY = "python -c pass", "python -c 'import numpy'"
IMPORT, HELP = "python -c 'import action_clip'", "action_clip.py --help"
AVERAGES = ("probabilities", "embeddings")


def _yardstick(inputs: Inputs, labels: Path) -> Command:
    command = [sys.executable, "-m", "benchmarks.reference_flow", "--model", str(inputs.fp32)]
    return Command([*command, "--video", str(inputs.clip), "--desc_file", str(labels)], inputs.work / "home")


def _empty_and_known(inputs: Inputs, labels: Path) -> dict[str, Command]:
    known, known_int8 = (classify(inputs, graphs, labels, inputs.clip) for graphs in (inputs.fp32, inputs.int8))
    return {
        EMPTY: forgetting(known, LABEL_BANK, VIDEO_BANK),
        KNOWN: forgetting(known, VIDEO_BANK),
        VIDEO_KNOWN: known,
        EMPTY_INT8: forgetting(known_int8, LABEL_BANK, VIDEO_BANK),
        KNOWN_INT8: forgetting(known_int8, VIDEO_BANK),
    }


def _ten_labels(inputs: Inputs, rounds: int) -> Raw:
    peers = {
        peer.name: Command(
            [sys.executable, "-m", "benchmarks.peers", peer.name, str(inputs.work), str(inputs.labels_10)],
            inputs.work / "home",
            is_exact=peer.is_exact,
        )
        for peer in PEERS
    }
    program = _empty_and_known(inputs, inputs.labels_10)
    # One run that is not counted: the first one makes caches and reads files from the disk; the case "first" has it.
    processes({EMPTY: program[EMPTY], EMPTY_INT8: program[EMPTY_INT8]}, 1)
    return processes({YARDSTICK: _yardstick(inputs, inputs.labels_10), **program, **peers}, rounds)


def _400_labels(inputs: Inputs, rounds: int) -> Raw:
    program = _empty_and_known(inputs, LABELS_400)
    processes({EMPTY: program[EMPTY], EMPTY_INT8: program[EMPTY_INT8]}, 1)
    return processes({YARDSTICK: _yardstick(inputs, LABELS_400), **program}, rounds)


def _first_run(inputs: Inputs, rounds: int) -> Raw:
    home = inputs.work / "home-first"
    program = replace(classify(inputs, inputs.fp32, inputs.labels_10, inputs.clip), home=home, forget=(home,))
    return processes({YARDSTICK: _yardstick(inputs, inputs.labels_10), FIRST: program}, rounds)


def _start(inputs: Inputs, rounds: int) -> Raw:
    arguments = {
        NOTHING: ["-c", "pass"],
        NUMPY: ["-c", "import numpy"],
        IMPORT: ["-c", "import action_clip"],
        HELP: ["action_clip.py", "--help"],
    }
    commands = {name: Command([sys.executable, *rest], inputs.work / "home") for name, rest in arguments.items()}
    return processes(commands, 3 * rounds)


def _stage(stage: str, inputs: Inputs, rounds: int) -> Raw:
    return workers(stage, STAGES[stage], inputs.work, rounds)


def _gpu(inputs: Inputs, rounds: int) -> Raw:
    """Run the image graph on a GPU, and note how many clips a second that is."""
    raw = _stage("gpu", inputs, 3 * rounds)
    counts = {name.format(count): count for name in (ON_GPU, PYTORCH_ON_GPU) for count in GPU_BATCHES}
    notes = {
        f"clips a second, {name}": counts[name] / statistics.median(sample.seconds for sample in samples)
        for name, samples in raw.samples.items()
    }
    return replace(raw, notes=notes)


def _bank(inputs: Inputs, rounds: int) -> Raw:
    """Run each way of averaging once, and note the bytes that the label bank takes for a label."""
    commands = {}
    for average in AVERAGES:
        command = classify(inputs, inputs.fp32, LABELS_400, inputs.clip, "--average", average)
        command = replace(command, home=inputs.work / f"home-{average}", is_exact=False)
        commands[average] = forgetting(command, LABEL_BANK, VIDEO_BANK)
    raw = processes(commands, 1)
    sizes = {average: (commands[average].home / LABEL_BANK).stat().st_size for average in AVERAGES}
    return replace(raw, notes={f"bytes a label, --average {name}": size / 400 for name, size in sizes.items()})


def _bytes(name: str) -> Figure:
    return lambda raw: raw.notes.get(f"bytes a label, --average {name}")


def _smaller_bank(raw: Raw) -> float | None:
    first, second = (_bytes(name)(raw) for name in AVERAGES)
    return first / second if first and second else None


CASES: dict[str, Case] = {
    "10-labels": Case(
        "Whole process, 10 labels",
        "From start to exit, on a clip of ten seconds. “Empty label bank”: no label was ever seen, but the model was "
        "used before on this machine. Where nothing else is said, the video was not seen before either. Memory is the "
        "peak of what is resident, mapped files included.",
        _ten_labels,
        YARDSTICK,
        (
            faster("whole process, 10 labels, empty label bank", YARDSTICK, EMPTY, 4),
            faster("whole process, 10 labels, labels known", YARDSTICK, KNOWN, 8),
            smaller("peak memory, labels known, fp32", KNOWN, 0.55),
            smaller("peak memory, labels known, int8", KNOWN_INT8, 0.3),
        ),
    ),
    "400-labels": Case(
        "Whole process, 400 labels",
        "The same with the classes of Kinetics-400. The peers are left out: each would take minutes a run.",
        _400_labels,
        YARDSTICK,
        (
            faster("whole process, 400 labels, first time", YARDSTICK, EMPTY, 6),
            faster("whole process, 400 labels, labels known", YARDSTICK, KNOWN, 150),
        ),
    ),
    "first": Case(
        "The very first run of a model, 10 labels",
        "Nothing is kept from before: the files are hashed and the graphs optimised for the machine, once.",
        _first_run,
        YARDSTICK,
        (),
    ),
    "clip": Case(
        "Eight frames: image graph and fusion, warm",
        "Two threads each. The sgemm rows multiply float32 matrices only: of the shapes of the graphs' every MatMul, "
        "Gemm and Conv, or as many FLOPs in one product with a matrix of 2048 × 2048. The program, plain onnxruntime "
        "and OpenVINO run the same graphs.",
        partial(_stage, "clip"),
        PROGRAM,
        (
            faster("image graph + fusion, fp32, against the fastest sgemm", SGEMM, PROGRAM, 0.85),
            faster("image graph + fusion, fp32, against OpenVINO in f32", "OpenVINO, f32", PROGRAM, 1),
            faster(
                "image graph + fusion, fp32, against PyTorch (transformers, open_clip)",
                PYTORCH,
                PROGRAM,
                1,
            ),
            faster("image graph + fusion, int8 against fp32", PROGRAM, PROGRAM_INT8, 3),
        ),
    ),
    "text": Case(
        "Ten labels in 16 prompts: text graph, warm",
        "Tokens and features of 160 texts, two threads each.",
        partial(_stage, "text"),
        YARDSTICK,
        (),
    ),
    **{
        f"video-{length.replace(' ', '')}": Case(
            f"Eight exact frames of a 1080p H.264 file of {length}",
            "A keyframe every 250 frames; the same frames and two threads for all, but for --sampling keyframes, "
            "which takes the nearest keyframes (in a short video with few of them, the frames themselves).",
            partial(_stage, f"video of {length}"),
            EXACT_FRAMES,
            (
                faster(f"8 frames of {length}, against torchcodec", "torchcodec", EXACT_FRAMES, 1),
                faster(f"8 frames of {length}, against decord", "decord", EXACT_FRAMES, 1),
                *((Target("--sampling keyframes, 2 h", middle(KEYFRAMES), 0.3, False, " s"),) * (length == "2 h")),
            ),
        )
        for length in VIDEO_LENGTHS_S
    },
    "start": Case(
        "Import and --help",
        "Whole processes; three times as many rounds.",
        _start,
        NUMPY,
        (
            Target("import action_clip, over import numpy", middle(IMPORT, NUMPY), 0.05, False, " s"),
            Target("--help", middle(HELP), 0.25, False, " s"),
        ),
    ),
    "small": Case(
        "The small stages, warm",
        "10,000 labels are random features: the text graph would take hours for 160,000 texts.",
        partial(_stage, "small"),
        "",
        (Target("score 10,000 labels × 16 prompts", middle(SCORE), 0.05, False, " s"),),
    ),
    "gpu": Case(
        "Clips on a CUDA GPU, warm",
        "The image graph, from float32 frames in the CPU's memory to features there, for 1 to 128 clips of eight "
        "frames at once; three times as many rounds. PyTorch runs transformers' CLIPModel.",
        _gpu,
        "",
        tuple(
            faster(
                f"GPU, clips at once: {count}, against PyTorch in fp16",
                PYTORCH_ON_GPU.format(count),
                ON_GPU.format(count),
                2 if count == 1 else 1,
            )
            for count in GPU_BATCHES
        ),
    ),
    "bank": Case(
        "The label bank on the disk, 400 labels",
        "One run of the whole process each, with an empty label bank.",
        _bank,
        AVERAGES[0],
        (Target("label bank, probabilities against embeddings", _smaller_bank, 15, True, "×"),),
    ),
    **MANY_CASES,
    **FILM_CASES,
}
