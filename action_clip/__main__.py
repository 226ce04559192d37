"""`python -m action_clip` and the installed command."""

from typing import NoReturn

from action_clip.system.interrupts import leave_at_once, run


def start() -> NoReturn:
    """Run the command and end the process with its exit code."""
    leave_at_once()  # before the imports that take long
    from action_clip.command import main

    run(main)


if __name__ == "__main__":
    start()
