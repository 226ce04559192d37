"""The cases with a long film in windows: decoding, graphs and the whole run against their limits, and memory."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from shutil import which
from statistics import median

from action_clip.models.store.home import VIDEO_BANK
from action_clip.system.cores import usable_cores
from benchmarks.contestants import DECODING_FILM, FILM_ALONE, GRAPHS_FILM, PREPROCESSING_FILM, VIDEO_LENGTHS_S
from benchmarks.inputs import Inputs, make_folder
from benchmarks.measure import Command, Raw, Sample, processes
from benchmarks.program import classify, forgetting
from benchmarks.targets import Case, Figure, Target, faster, ratio

FILM, SHORT = "program, {}", "program, ten seconds"
DECODED, FFMPEG = "decoding alone, {}", "ffmpeg -vf fps=2, {}"
_LENGTHS = ("10 min", "2 h")


def _figure(film: str, compare: Callable[[Sample, dict[str, float], float], float | None]) -> Figure:
    """Return the figure that compares the program's runs with the processor's seconds that each stage alone needs.

    `compare` takes a run, by stage the seconds for the whole film, and the number of cores.
    """

    def figure(raw: Raw) -> float | None:
        stages = (DECODING_FILM, PREPROCESSING_FILM, GRAPHS_FILM)
        rounds = zip(raw.samples.get(film, []), *(raw.samples.get(stage, []) for stage in stages), strict=False)
        values = []
        for run, *alone in rounds:
            seconds = {stage: sample.seconds * raw.notes["tens"] for stage, sample in zip(stages, alone, strict=True)}
            values.append(compare(run, seconds, raw.notes["cores"]))
        known = [value for value in values if value is not None]
        return median(known) if known else None

    return figure


def over_limit(film: str) -> Figure:
    """Return the figure of a run's seconds over the processor's time of all stages alone, divided by the cores."""
    return _figure(film, lambda run, alone, cores: run.seconds * cores / sum(alone.values()))


def speed_of_graphs(film: str) -> Figure:
    """Return the figure of the graphs' speed in a run over their speed alone, a thread each."""

    def compare(run: Sample, alone: dict[str, float], cores: float) -> float | None:
        seconds = sum(run.stages.get(stage, 0.0) for stage in ("image", "fusion"))
        return alone[GRAPHS_FILM] / seconds if seconds else None

    return _figure(film, compare)


def _measure(length: str, inputs: Inputs, rounds: int) -> Raw:
    """Run each once: a round of two hours takes half an hour."""
    make_folder(inputs, "long", [*VIDEO_LENGTHS_S].index(length) + 1)
    film, home, cores = inputs.video(length), inputs.work / "home", usable_cores()
    program, short = (
        forgetting(classify(inputs, inputs.fp32, inputs.labels_10, path, "--window", "4"), VIDEO_BANK)
        for path in (film, inputs.video("10 s"))
    )
    short = replace(short, is_exact=False)  # it is another video
    processes({SHORT: short}, 1)  # graphs and labels are kept
    commands = {
        FILM.format(length): program,
        SHORT: short,
        DECODED.format(length): Command([sys.executable, "-m", "benchmarks.grid", str(film)], home),
        FFMPEG.format(length): Command(_ffmpeg(str(film), cores), home),
    }
    alone = [sys.executable, "-m", "benchmarks.alone", str(inputs.work)]
    commands |= {stage.name: Command([*alone, stage.name], home) for stage in FILM_ALONE}
    absent = {}
    if which("ffmpeg") is None:
        del commands[FFMPEG.format(length)]
        absent[FFMPEG.format(length)] = "the program ffmpeg"
    raw = processes(commands, 1)
    return replace(raw, absent=raw.absent | absent, notes={"tens": VIDEO_LENGTHS_S[length] / 10, "cores": cores})


def _ffmpeg(film: str, threads: int) -> list[str]:
    return ["ffmpeg", "-v", "error", "-threads", str(threads), "-i", film, "-vf", "fps=2", "-f", "null", "-"]


def _case(length: str) -> Case:
    film, decoded, ffmpeg = (name.format(length) for name in (FILM, DECODED, FFMPEG))
    return Case(
        f"{length} of 1080p H.264 in windows of four seconds",
        "A keyframe every 250 frames; eight frames a window, a window every two seconds, ten labels that are known, "
        "fp32. Decoding alone is what the windows look at, two frames a second, with a thread a core, and so is "
        "ffmpeg. The other rows alone are the processor's time for ten seconds, in a process with one thread; their "
        "sum for the whole film, divided by the number of cores, is the limit.",
        partial(_measure, length),
        "",
        (
            faster(f"decoding {length} in windows, against ffmpeg", ffmpeg, decoded, 1),
            Target(f"graphs on {length} in windows, against themselves alone", speed_of_graphs(film), 0.9, True, "×"),
            Target(f"{length} in windows, over the limit", over_limit(film), 1.1, False, "×"),
            Target(f"peak memory, {length} over ten seconds", ratio(film, SHORT, "peak_mb"), 1.15, False, "×"),
        ),
    )


FILM_CASES: dict[str, Case] = {f"film-{length.replace(' ', '')}": _case(length) for length in _LENGTHS}
