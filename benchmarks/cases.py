"""The cases: the contestants of each, and the targets that their figures should reach."""

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from action_clip.models.store.home import LABEL_BANK
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
from benchmarks.inputs import LABELS_400, Inputs
from benchmarks.measure import Command, Raw, processes, workers

EMPTY, KNOWN = "program, empty label bank", "program, labels known"
EMPTY_INT8, KNOWN_INT8 = "program int8, empty label bank", "program int8, labels known"
FIRST = "program, very first run"
PYTORCH = ("transformers", "open_clip")
SGEMM = tuple(contestant.name for contestant in STAGES["clip"] if contestant.name.startswith("sgemm"))
NOTHING, NUMPY = "python -c pass", "python -c 'import numpy'"
IMPORT, HELP = "python -c 'import action_clip'", "action_clip.py --help"
AVERAGES = ("probabilities", "embeddings")

Figure = Callable[[Raw], float | None]


@dataclass(frozen=True)
class Target:
    """A figure, and the limit that it should reach."""

    text: str
    figure: Figure
    """Computes the figure from all runs of the case; None where it could not be measured."""
    limit: float
    is_least: bool
    """True where the figure should be at least the limit, False where it should be at most the limit."""
    unit: str

    def is_met(self, figure: float) -> bool:
        """Return whether the figure reaches the limit."""
        return figure >= self.limit if self.is_least else figure <= self.limit


@dataclass(frozen=True)
class Case:
    """Contestants that are measured in turns, and the targets."""

    title: str
    about: str
    measure: Callable[[Inputs, int], Raw]
    baseline: str
    """The contestant that the others' times are divided by; "" where they do different things."""
    targets: tuple[Target, ...]


def ratio(over: str | tuple[str, ...], under: str, value: str = "seconds") -> Figure:
    """Return the figure that divides an attribute of `over`'s samples by that of `under`'s: the median of all rounds.

    Where `over` names several contestants, it is the smallest of their medians.
    """

    def figure(raw: Raw) -> float | None:
        ratios = []
        for name in [over] if isinstance(over, str) else over:
            pairs = zip(raw.samples.get(name, []), raw.samples.get(under, []), strict=False)
            if found := [getattr(upper, value) / getattr(lower, value) for upper, lower in pairs]:
                ratios.append(statistics.median(found))
        return min(ratios, default=None)

    return figure


def middle(name: str, less: str | None = None) -> Figure:
    """Return the figure with the median of a contestant's seconds, minus those of `less` in the same round."""

    def figure(raw: Raw) -> float | None:
        samples = raw.samples.get(name, [])
        others = [0.0] * len(samples) if less is None else [sample.seconds for sample in raw.samples.get(less, [])]
        differences = [sample.seconds - other for sample, other in zip(samples, others, strict=False)]
        return statistics.median(differences) if differences else None

    return figure


def faster(text: str, over: str | tuple[str, ...], under: str, limit: float) -> Target:
    """Return the target that `under` is at least `limit` times as fast as `over`."""
    return Target(text, ratio(over, under), limit, True, "×")


def smaller(text: str, name: str, limit: float) -> Target:
    """Return the target that a contestant takes at most `limit` times the yardstick's peak of memory."""
    return Target(text, ratio(name, YARDSTICK, "peak_mb"), limit, False, "×")


def _classify(inputs: Inputs, graphs: Path, labels: Path, *options: str) -> Command:
    """Return the program's command, with a home() for each model."""
    command = [sys.executable, "action_clip.py", "--model", str(graphs), "--video", str(inputs.clip)]
    command += ["--desc_file", str(labels), "--format", "json", *options]
    return Command(command, inputs.work / f"home-{graphs.name}", is_exact=graphs == inputs.fp32)


def _forgetful(command: Command) -> Command:
    """Return the command with an empty label bank; the other files of its home() stay."""
    return replace(command, forget=(command.home / LABEL_BANK,))


def _yardstick(inputs: Inputs, labels: Path) -> Command:
    command = [sys.executable, "-m", "benchmarks.reference_flow", "--model", str(inputs.fp32)]
    return Command([*command, "--video", str(inputs.clip), "--desc_file", str(labels)], inputs.work / "home")


def _empty_and_known(inputs: Inputs, labels: Path) -> dict[str, Command]:
    known, known_int8 = (_classify(inputs, graphs, labels) for graphs in (inputs.fp32, inputs.int8))
    return {
        EMPTY: _forgetful(known),
        KNOWN: known,
        EMPTY_INT8: _forgetful(known_int8),
        KNOWN_INT8: known_int8,
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
    program = replace(_classify(inputs, inputs.fp32, inputs.labels_10), home=home, forget=(home,))
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
        command = _classify(inputs, inputs.fp32, LABELS_400, "--average", average)
        home = inputs.work / f"home-{average}"
        commands[average] = replace(command, home=home, forget=(home / LABEL_BANK,), is_exact=False)
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
        "used before on this machine. Memory is the peak of what is resident, mapped files included.",
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
}
