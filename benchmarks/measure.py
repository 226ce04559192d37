"""Running contestants in turns, each in a process of its own.

Two pools of threads in one process would disturb each other, so warm stages are measured in workers, of which one works
at a time. Nothing large is imported: on Linux a child's peak of memory is at least that of its parent.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from benchmarks.contestants import THREADS, Contestant
from benchmarks.inputs import ABSENT, ROOT

# Seconds between two contestants, in which the threads of the first one go to sleep.
PAUSE_S = 0.3
# Largest difference of a probability, and smallest correlation, between answers in float32 that count as the same.
SAME_PROBABILITY = 2e-3
SAME_ANSWER = 0.99


@dataclass(frozen=True)
class Sample:
    """The figures of one run: seconds, peak of memory in MB (None for a worker), seconds of each stage.

    The seconds are those from start to exit, unless the process measures itself and answers with `seconds`. Stages are
    those of an answer for one video, or of all windows of one.
    """

    seconds: float
    peak_mb: float | None = None
    stages: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """All runs of a case: the samples of round 0, 1, … of each contestant."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    """By contestant without samples, the reason."""
    answers: dict[str, str] = field(default_factory=dict)
    """By contestant, how far its answer is from the first one's, as text."""
    notes: dict[str, float] = field(default_factory=dict)
    """Other figures, by their names on the page."""
    date: str = ""
    commit: str = ""


@dataclass(frozen=True)
class Command:
    """A whole process.

    Attributes:
        arguments: of the process.
        home: its ACTION_CLIP_HOME.
        forget: files and folders that are removed before each run.
        is_exact: whether its answer must be that of the first command.
    """

    arguments: Sequence[str]
    home: Path
    forget: tuple[Path, ...] = ()
    is_exact: bool = True


Answers = dict[str, dict[str, float]]
"""The probabilities of labels, by video."""


def turns(names: Sequence[str], rounds: int) -> Iterator[str]:
    """Yield every name once a round; each round begins with the next name, so that the order changes."""
    for number in range(rounds if names else 0):
        start = number % len(names)
        yield from (*names[start:], *names[:start])


def processes(commands: Mapping[str, Command], rounds: int) -> Raw:
    """Run whole commands in turns, from start to exit, and return all runs.

    Raises RuntimeError where one fails, or its answer differs from the first one's.
    """
    raw = Raw()
    answers: dict[str, Answers] = {}
    for name in turns(list(commands), rounds):
        if name in raw.absent:
            continue
        command = commands[name]
        for path in command.forget:
            _remove(path)
        code, output, sample = _run(command)
        if code == ABSENT:
            raw.absent[name] = output.strip().splitlines()[-1]
            continue
        if code:
            raise RuntimeError(f"{name} ended with {code}: {output}")
        raw.samples.setdefault(name, []).append(sample)
        if found := _answers(output):
            answers[name] = found
        sleep(PAUSE_S)
    first = next((name for name in commands if name in answers), None)
    for name, found in answers.items():
        assert first is not None
        differences = {video: _difference(found.get(video), expected) for video, expected in answers[first].items()}
        worst = max(differences, key=differences.__getitem__)
        if commands[name].is_exact and differences[worst] > SAME_PROBABILITY:
            raise RuntimeError(f"{name} answers {found.get(worst)} for {worst}, {first} {answers[first][worst]}")
        raw.answers[name] = f"Δp ≤ {differences[worst]:.1g}"
    return raw


def workers(stage: str, contestants: Sequence[Contestant], work: Path, rounds: int) -> Raw:
    """Time the contestants of a stage in turns, each in a warm process of its own, and return all runs.

    Args:
        stage: a key of benchmarks.contestants.STAGES.
        contestants: some of the stage's contestants.
        work: the work folder of benchmarks.inputs.
        rounds: how often each one is timed.

    Raises:
        RuntimeError: one of them fails, or its answer differs from the first one's.
    """
    raw = Raw()
    is_exact = {contestant.name: contestant.is_exact for contestant in contestants}
    answers: dict[str, list[float]] = {}
    with ExitStack() as stack:
        running: dict[str, _Worker] = {}
        for name in is_exact:
            worker = stack.enter_context(_Worker(stage, name, work))
            ready = worker.message()
            if "absent" in ready:
                raw.absent[name] = ready["absent"]
            else:
                running[name] = worker
                answers[name] = ready["answer"]
        for name in turns(list(running), rounds):
            sleep(PAUSE_S)
            raw.samples.setdefault(name, []).append(Sample(running[name].time()))
    first = next((name for name, exact in is_exact.items() if exact and answers.get(name)), None)
    if first is None:  # there is nothing to compare
        return raw
    for name, answer in answers.items():
        if not answer:
            continue
        same = statistics.correlation(answer, answers[first])
        if is_exact[name] and same < SAME_ANSWER:
            raise RuntimeError(f"{name} answers otherwise than {first}: the correlation is {same:.4f}")
        raw.answers[name] = f"r = {same:.5f}"
    return raw


class _Worker:
    """A process of benchmarks.worker: for each line that it is sent, it works once and answers with a line of JSON."""

    def __init__(self, stage: str, name: str, work: Path) -> None:
        self._name = name
        arguments = [sys.executable, "-m", "benchmarks.worker", str(work), stage, name]
        pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(pools, str(THREADS))}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=ROOT)

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()

    def message(self) -> dict[str, Any]:
        """Return the worker's next message. Raises RuntimeError where the process has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name} ended with {self._process.wait()}")
        content: dict[str, Any] = json.loads(line)
        return content

    def time(self) -> float:
        """Let the worker work once, and return the seconds that it took."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return float(self.message()["seconds"])


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _run(command: Command) -> tuple[int, str, Sample]:
    environment = {**os.environ, "ACTION_CLIP_HOME": str(command.home), "ACTION_CLIP_OFFLINE": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # modules are compiled once, as on users' machines
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        began = perf_counter()
        process = subprocess.Popen(command.arguments, stdout=out, stderr=err, env=environment, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        output = out.read() if process.returncode == 0 else err.read()
    unit = 1 if sys.platform == "darwin" else 1024
    lines = list(islice(_lines(output), 2))
    content = lines[0] if len(lines) == 1 else {}
    stages = _sums(output) or content.get("timings_s", {})
    sample = Sample(content.get("seconds", seconds), usage.ru_maxrss * unit / 1e6, stages)
    return process.returncode, output, sample


def _answers(output: str) -> Answers:
    """Return the probabilities of the top labels of each video."""
    return {
        line["video"]: {entry["label"]: entry["probability"] for entry in line["predictions"]}
        for line in _lines(output)
        if "predictions" in line
    }


def _sums(output: str) -> dict[str, float]:
    """Return the seconds of each stage, of all windows of a video together; {} where the answer is no window."""
    sums: dict[str, float] = {}
    for line in _lines(output):
        for stage, seconds in line.get("timings_s", {}).items() if "start_s" in line else ():
            sums[stage] = sums.get(stage, 0.0) + seconds
    return sums


def _difference(found: dict[str, float] | None, expected: dict[str, float]) -> float:
    """Return the largest difference of a probability; 1 where there is no answer."""
    if not found:
        return 1.0
    # Only the top labels are printed; a missing label's probability is below that of the last one.
    return max(abs(found.get(label, min(found.values())) - share) for label, share in expected.items())


def _lines(output: str) -> Iterator[dict[str, Any]]:
    """Yield the objects in the output's lines of JSON."""
    return (json.loads(line) for line in output.splitlines() if line.startswith("{"))
