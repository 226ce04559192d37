"""Run fuzz targets on mutated seeds:  python tests/fuzz/driver.py TARGET… [--seconds 60] [--seed 0]

A target is a module fuzz_TARGET.py beside this one. Its `seeds()` gives inputs that are well formed, `target(data)`
does with an input what the program does; it lets ActionClipError pass and raises, or crashes, for whatever else goes
wrong. It runs in processes of its own, in a folder and with an ACTION_CLIP_HOME that are empty at first; one that takes
too long or too much memory is ended. The input at fault is kept, and `driver.py TARGET --input FILE` runs it again.
"""

import argparse
import contextlib
import faulthandler
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from random import Random
from time import monotonic

HERE = Path(__file__).resolve().parent
BATCH = 1000  # inputs of one process
LARGEST = 1 << 22  # bytes of an input

# Where lengths and counts overflow, as bytes and in texts; what else trips up who reads texts.
NUMBERS = [0, 1, *(number for bits in (7, 8, 15, 16, 20, 31, 32, 63, 64) for number in ((1 << bits) - 1, 1 << bits))]
TEXTS = [
    *(b"-1", b"0", b"1e309", b"nan", b"9" * 5000, *(str(number).encode() for number in NUMBERS)),
    *(b"\0", b"\n", b"\r", b"\xff\xfe", b"\xed\xa0\x80", b"\x1b[2J", "\u202e\u2028\ufeff".encode()),
    *(b"{}", b'"', b"[" * 3000, b"&amp;" * 50, b"../", b"%d"),
]


def flip(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << random.randrange(8))]) + data[place + 1 :]


def cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data))]


def remove(data: bytes, random: Random) -> bytes:
    start, end = _piece(data, random)
    return data[:start] + data[end:]


def repeat(data: bytes, random: Random) -> bytes:
    start, end = _piece(data, random)
    return data[:start] + data[start:end] * random.choice((2, 100)) + data[end:]


def put_number(data: bytes, random: Random) -> bytes:
    """A number over what was there."""
    place, size = random.randrange(len(data)), random.choice((1, 2, 4, 8))
    number = random.choice(NUMBERS) % (1 << 8 * size)
    return data[:place] + number.to_bytes(size, random.choice(("little", "big"))) + data[place + size :]


def put_text(data: bytes, random: Random) -> bytes:
    """A text in the place of a number that is written in digits, or anywhere."""
    numbers = [match.span() for match in re.finditer(rb"\d+", data)]
    start, end = random.choice(numbers or [(0, 0)]) if random.random() < 0.5 else (random.randrange(len(data)),) * 2
    return data[:start] + random.choice(TEXTS) + data[end:]


def put_run(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data))
    return data[:place] + random.randbytes(1) * random.choice((1, 100, 70_000)) + data[place:]


def _piece(data: bytes, random: Random) -> tuple[int, int]:
    start = random.randrange(len(data))
    return start, start + random.choice((1, 4, 64, 4096))


MUTATIONS: Sequence[Callable[[bytes, Random], bytes]] = (flip, flip, cut, remove, repeat, put_number, put_text, put_run)


def mutated(seeds: Sequence[bytes], random: Random) -> bytes:
    """A seed, or the head of one and the tail of another, changed in one place or in several."""
    data = random.choice(seeds)
    if random.random() < 0.1:
        other = random.choice(seeds)
        data = data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        if data:
            data = random.choice(MUTATIONS)(data, random)[:LARGEST]
    return data


def names() -> list[str]:
    """The names of all targets."""
    return sorted(path.stem.removeprefix("fuzz_") for path in HERE.glob("fuzz_*.py"))


def fuzz(target: Path, options: Sequence[str], *, seconds: float) -> Path | None:
    """Run a target for so long; where an input is at fault, say so and return the file in this folder that has it."""
    name, count, end = target.stem.removeprefix("fuzz_"), 0, monotonic() + seconds
    while True:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            batch = ["--start", str(count), "--seconds", str(end - monotonic())]
            done = _process([str(target), *options, *batch], Path(folder))
            ran = re.search(r"(\d+)\n\Z", done.stdout)
            if done.returncode or not ran:
                data = Path(folder, "input").read_bytes()
                kept = Path(f"fuzz-{name}-{sha256(data).hexdigest()[:8]}").resolve()
                kept.write_bytes(data)
                print(done.stderr[-5000:])
                print(f"{name}: ended with {done.returncode}; again: python tests/fuzz/driver.py {name} --input {kept}")
                return kept
        count += int(ran[1])
        if monotonic() > end or "--input" in options:
            print(f"{name}: {count} inputs")
            return None


def _process(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a batch in a process of its own, in a new folder inside `folder`; beside that is the last input."""
    (folder / "current").mkdir()
    (folder / "input").touch()
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, str(HERE / "driver.py"), *arguments],
        cwd=folder / "current",
        env={**os.environ, "PYTHONPATH": path, "ACTION_CLIP_HOME": str(folder / "home"), "ACTION_CLIP_OFFLINE": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def _batch(options: argparse.Namespace) -> None:
    """In that process: run inputs from number `start` on and print how many there were."""
    from action_clip.errors import ActionClipError

    specification = importlib.util.spec_from_file_location("target", options.targets[0])
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    seeds = [options.input.read_bytes()] if options.input else module.seeds()
    last = 1 if options.input else options.start + BATCH
    end = monotonic() + options.seconds
    faulthandler.enable()
    number = options.start
    while number < last and (monotonic() < end or number == options.start):
        data = seeds[number] if number < len(seeds) else mutated(seeds, Random(f"{options.seed} {number}"))
        Path("..", "input").write_bytes(data)
        # Shows where it is and ends the process, in C code as well.
        faulthandler.dump_traceback_later(options.input_seconds, exit=True)
        with contextlib.suppress(ActionClipError):
            module.target(data)
        faulthandler.cancel_dump_traceback_later()
        if (peak := _peak_mb()) > options.memory_mb:
            sys.exit(f"{peak:.0f} MB of memory")
        number += 1
    print(number - options.start)


def _peak_mb() -> float:
    """The most memory that this process has taken; 0 where the system does not say."""
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE) if status.exists() else None
    return int(found[1]) / 1024 if found else 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the targets, all of them by default, one after the other; 1 when one is at fault."""
    parser = argparse.ArgumentParser(description="Run fuzz targets on mutated seeds.")
    parser.add_argument("targets", nargs="*", default=names(), help="default: all")
    parser.add_argument("--seconds", type=float, default=60, help="for each target (default: 60)")
    parser.add_argument("--seed", default="0", help="another one gives other inputs (default: 0)")
    parser.add_argument("--input", type=Path, help="run this file alone")
    parser.add_argument("--input-seconds", type=float, default=10, help="for each input (default: 10)")
    parser.add_argument("--memory-mb", type=float, default=2048, help="for all inputs (default: 2048)")
    parser.add_argument("--start", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.start is not None:
        _batch(options)
        return 0
    passed_on = ["--seed", options.seed, "--input-seconds", str(options.input_seconds)]
    passed_on += ["--memory-mb", str(options.memory_mb)]
    passed_on += ["--input", str(options.input.resolve())] if options.input else []
    found = [fuzz(HERE / f"fuzz_{name}.py", passed_on, seconds=options.seconds) for name in options.targets]
    return 1 if any(found) else 0


if __name__ == "__main__":
    sys.exit(main())
