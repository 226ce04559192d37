"""Raw numbers to verdicts, on numbers that can be checked by hand."""

from pathlib import Path

from benchmarks.inputs import Inputs
from benchmarks.measure import Raw, Sample
from benchmarks.report import load, render, save, verdict
from benchmarks.targets import Case, Target, faster, middle, smaller

RAW = Raw(
    samples={
        # The machine is twice as slow in the second round.
        "yardstick": [Sample(8, 1000, {"text": 6, "image": 1}), Sample(16, 1000), Sample(9, 1000)],
        "program": [Sample(2, 500), Sample(4, 700), Sample(3, 600)],
    },
    absent={"other": "No module named 'other'"},
    answers={"program": "Δp ≤ 1e-06"},
    notes={"bytes a label": 32768.0, "clips a second": 1.9375},
    date="2026-01-02",
    commit="0123456789ab",
)


def never(inputs: Inputs, rounds: int) -> Raw:
    raise AssertionError


def case(*targets: Target) -> Case:
    return Case("A case", "About it.", never, "yardstick", targets)


def test_ratios_are_within_rounds() -> None:
    # 4, 4 and 3; the ratio of the medians would be 3
    assert verdict(faster("speed", "yardstick", "program", 4), RAW) == ("speed", "≥ 4×", "4×", "met")
    assert verdict(faster("speed", "yardstick", "program", 4.1), RAW) == ("speed", "≥ 4.1×", "4×", "**missed**")
    assert verdict(smaller("memory", "program", 0.6), RAW) == ("memory", "≤ 0.6×", "0.6×", "met")
    assert verdict(smaller("memory", "program", 0.5), RAW)[3] == "**missed**"


def test_seconds() -> None:
    assert middle("program")(RAW) == 3
    assert middle("yardstick", "program")(RAW) == 6  # of 6, 12 and 6; 9 - 3 is chance
    assert verdict(Target("time", middle("program"), 3, False, " s"), RAW) == ("time", "≤ 3 s", "3 s", "met")


def test_the_fastest_of_several_counts() -> None:
    raw = Raw(samples={"a": [Sample(2)], "b": [Sample(3)], "program": [Sample(4)]})
    assert verdict(faster("speed", ("a", "b", "other"), "program", 0.5), raw)[2:] == ("0.5×", "met")


def test_what_is_not_installed_is_not_measured() -> None:
    assert verdict(faster("speed", "other", "program", 1), RAW) == ("speed", "≥ 1×", "not measured", "")
    assert verdict(Target("time", middle("other"), 1, False, " s"), RAW)[2] == "not measured"


def test_the_page() -> None:
    cases = {"one": case(faster("speed", "yardstick", "program", 5)), "two": case(faster("later", "a", "b", 1))}
    page = render(cases, {"one": RAW}, {"processor": "abacus"})
    assert "| processor | abacus |" in page
    assert "| speed | ≥ 5× | 4× | **missed** |" in page
    assert "| later | ≥ 1× | not measured |  |" in page
    assert "| program | 3.00 s | 2.00 s to 4.00 s | 0.25× | 600 MB | Δp ≤ 1e-06 |" in page
    assert "| other | not installed (No module named 'other') |" in page
    assert "| yardstick | 0.000 |" not in page
    assert "bytes a label: 32,768\n" in page
    assert "clips a second: 1.94\n" in page
    assert "3 rounds, 2026-01-02, commit 0123456789ab." in page
    assert "python -m benchmarks --only two" in page


def test_numbers_are_kept(tmp_path: Path) -> None:
    save(RAW, tmp_path / "raw" / "case.json")
    assert load(tmp_path / "raw" / "case.json") == RAW
