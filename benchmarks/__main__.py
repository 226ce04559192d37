"""Measure and write RESULTS.md: `python -m benchmarks`; needs requirements-benchmark.txt, and nothing else running."""

import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path

from action_clip.system.terminal import ArgumentParser
from benchmarks.cases import CASES
from benchmarks.inputs import ROOT, Inputs
from benchmarks.machine import commit, describe
from benchmarks.report import load, render, save

RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> None:
    """Measure the chosen cases, save their numbers, and write RESULTS.md from the saved numbers of all cases."""
    parser = ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir(), "action_clip-benchmarks"),
        help="for graphs, videos and raw numbers, kept between runs; about 6 GB (default: %(default)s)",
    )
    parser.add_argument("--runs", type=int, default=7, help="rounds (default: %(default)s; 3 at most with many videos)")
    parser.add_argument("--only", action="append", choices=CASES, help="measure this case; repeat it for more")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args()
    inputs = Inputs(options.work.absolute())
    # In another process: a child's peak of memory is at least that of this one, which must stay small.
    subprocess.run([sys.executable, "-m", "benchmarks.inputs", str(inputs.work)], cwd=ROOT, check=True)
    kept = {key: inputs.work / "raw" / f"{key}.json" for key in CASES}
    for key in CASES if options.only is None else options.only:
        print(f"measuring {key}", file=sys.stderr, flush=True)
        raw = CASES[key].measure(inputs, options.runs)
        save(replace(raw, date=date.today().isoformat(), commit=commit()), kept[key])
    raws = {key: load(path) for key, path in kept.items() if path.exists()}
    options.out.write_text(render(CASES, raws, describe()), encoding="utf-8")
    print(options.out, file=sys.stderr)


if __name__ == "__main__":
    main()
