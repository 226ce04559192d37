"""The command on a terminal, and what its user sees."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "action_clip.py"


def on_terminals(command: list[str], *, out_too: bool) -> tuple[int, str, bytes]:
    """Exit code, what a terminal shows on which stderr is, and stdout if `out_too`; else what stdout got."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    try:
        ours, terminal = pty.openpty()
    except OSError as error:
        pytest.skip(f"no terminal can be made here ({error})")
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 80, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LC_ALL")}
    environment |= {"TERM": "xterm", "LANG": "en_US.UTF-8", "LC_CTYPE": "en_US.UTF-8", "NO_COLOR": "1"}
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=terminal if out_too else Path("out").open("wb"),
        stderr=terminal,
    ) as process:
        os.close(terminal)
        shown = b""
        try:
            while part := os.read(ours, 1 << 16):
                shown += part
        except OSError:  # as Linux says that the other side is closed
            pass
        finally:
            os.close(ours)
    return process.returncode, shown.decode(), b"" if out_too else Path("out").read_bytes()


def screen(shown: str) -> list[str]:
    """The lines that stay on a screen: of what is written over another, the last; spaces at the ends are left out."""
    lines = []
    for line in shown.replace("\r\n", "\n").split("\n"):
        cells: list[str] = []
        for part in line.split("\r"):
            cells[: len(part)] = part
        lines.append("".join(cells).rstrip())
    return lines
