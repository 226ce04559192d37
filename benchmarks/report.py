"""Writing RESULTS.md from the raw numbers."""

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from benchmarks.measure import Raw, Sample
from benchmarks.targets import Case, Target

NOT_MEASURED = "not measured"
INTRODUCTION = """# Results

Written by `make benchmark`; do not edit. Graphs of ViT-B/32 with random weights, on which time does not depend. The
yardstick, `benchmarks/reference_flow.py`, does what the script did that this program replaces, on the same onnxruntime
and the same fp32 graphs. Contestants run in turns, each in a process of its own, and a ratio is the median of the
ratios within each round, so that what slows the whole machine down cancels out.
"""
STAGES = """Seconds of each stage, medians. What is left is Python's start, imports and exit; the program works at some
stages at once, so that theirs may sum up to more than the whole.
"""


def save(raw: Raw, path: Path) -> None:
    """Save the raw numbers as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(raw), ensure_ascii=False, indent=1), encoding="utf-8")


def load(path: Path) -> Raw:
    """Return the raw numbers that `save` has written."""
    content = json.loads(path.read_text(encoding="utf-8"))
    samples = {name: [Sample(**sample) for sample in runs] for name, runs in content.pop("samples").items()}
    return Raw(samples=samples, **content)


def render(cases: Mapping[str, Case], raws: Mapping[str, Raw], machine: Mapping[str, str]) -> str:
    """Return the whole page in Markdown; for cases that were never measured, it says so."""
    targets = [(target, raws.get(key, Raw())) for key, case in cases.items() for target in case.targets]
    parts = [
        INTRODUCTION,
        "## The machine\n",
        table(("", ""), machine.items()),
        "## What should be reached\n",
        table(("case", "reach", "measured", ""), (verdict(target, raw) for target, raw in targets)),
        *(section(key, case, raws.get(key)) for key, case in cases.items()),
    ]
    return "\n".join(parts)


def verdict(target: Target, raw: Raw) -> tuple[str, str, str, str]:
    """Return the cells of a target's row: its text, the limit, the figure measured, and whether it is met."""
    reach = f"{'≥' if target.is_least else '≤'} {target.limit:g}{target.unit}"
    figure = target.figure(raw)
    if figure is None:
        return target.text, reach, NOT_MEASURED, ""
    return target.text, reach, f"{figure:.3g}{target.unit}", "met" if target.is_met(figure) else "**missed**"


def section(key: str, case: Case, raw: Raw | None) -> str:
    """Return the section of a case: its table, the stages where contestants report them, and when it was measured."""
    parts = [f"## {case.title}\n", case.about + "\n"]
    if raw is None:
        return "\n".join([*parts, f"{NOT_MEASURED.capitalize()}: `python -m benchmarks --only {key}`.\n"])
    parts.append(
        table(("", "median", "min to max", "time to the first line's", "peak memory", "answer"), _rows(case, raw))
    )
    if any(sample.stages for runs in raw.samples.values() for sample in runs):
        parts += [STAGES, _stages(raw)]
    parts += [
        f"{name}: {value:,.0f}\n" if value >= 100 else f"{name}: {value:.3g}\n" for name, value in raw.notes.items()
    ]
    rounds = max(map(len, raw.samples.values()), default=0)
    return "\n".join([*parts, f"{rounds} rounds, {raw.date}, commit {raw.commit}.\n"])


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *map(list, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _rows(case: Case, raw: Raw) -> Iterable[tuple[str, ...]]:
    baseline = raw.samples.get(case.baseline, [])
    for name, runs in raw.samples.items():
        seconds = [run.seconds for run in runs]
        ratios = [run.seconds / other.seconds for run, other in zip(runs, baseline, strict=False)]
        peaks = [run.peak_mb for run in runs if run.peak_mb is not None]
        yield (
            name,
            _time(statistics.median(seconds)),
            f"{_time(min(seconds))} to {_time(max(seconds))}",
            f"{statistics.median(ratios):.3g}×" if ratios else "",
            f"{statistics.median(peaks):.0f} MB" if peaks else "",
            raw.answers.get(name, ""),
        )
    for name, reason in raw.absent.items():
        yield name, f"not installed ({reason})", "", "", "", ""


def _stages(raw: Raw) -> str:
    names = list(dict.fromkeys(stage for runs in raw.samples.values() for run in runs for stage in run.stages))
    rows = []
    for name, runs in raw.samples.items():
        medians = [statistics.median([run.stages.get(stage, 0.0) for run in runs]) for stage in names]
        left = statistics.median([run.seconds - sum(run.stages.values()) for run in runs])
        rows.append((name, *(f"{value:.3f}" if value else "" for value in medians), f"{left:.3f}" if left > 0 else ""))
    return table(("", *names, "left"), rows)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
