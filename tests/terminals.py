"""The command on a terminal, and what its user sees."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "action_clip.py"


def new_terminal(columns: int = 80, rows: int = 50) -> tuple[int, int]:
    """The two sides of a terminal: ours, and that of a process. Skips the test where none can be made."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    try:
        ours, terminal = pty.openpty()
    except OSError as error:
        pytest.skip(f"no terminal can be made here ({error})")
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    return ours, terminal


def environment(**variables: str) -> dict[str, str]:
    """The variables of this process, as on a terminal with colours, and with others."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "LC_ALL")}
    return inherited | {"TERM": "xterm", "LANG": "en_US.UTF-8", "LC_CTYPE": "en_US.UTF-8"} | variables


def shown_on(ours: int, terminal: int) -> str:
    """What the process that was started on a terminal shows there until it ends; both sides are closed."""
    os.close(terminal)
    shown = b""
    try:
        while part := os.read(ours, 1 << 16):
            shown += part
    except OSError:  # as Linux says that the other side is closed
        pass
    finally:
        os.close(ours)
    return shown.decode()


def on_terminals(command: list[str], *, out_too: bool) -> tuple[int, str, bytes]:
    """Exit code, what a terminal shows on which stderr is, and stdout if `out_too`; else what stdout got."""
    ours, terminal = new_terminal()
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), *command],
        env=environment(NO_COLOR="1"),
        stdin=subprocess.DEVNULL,
        stdout=terminal if out_too else Path("out").open("wb"),
        stderr=terminal,
    ) as process:
        shown = shown_on(ours, terminal)
    return process.returncode, shown, b"" if out_too else Path("out").read_bytes()


def screen(shown: str) -> list[str]:
    """The lines that stay on a screen: of what is written over another, the last; spaces at the ends are left out."""
    lines = []
    for line in shown.replace("\r\n", "\n").split("\n"):
        cells: list[str] = []
        for part in line.split("\r"):
            cells[: len(part)] = part
        lines.append("".join(cells).rstrip())
    return lines
