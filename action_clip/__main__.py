"""`python -m action_clip` and the installed command."""

from typing import NoReturn

from action_clip.system.interrupts import exit_on_interrupt, run


def start() -> NoReturn:
    """Run the command and end the process with its exit code."""
    exit_on_interrupt()  # before the imports that take long
    from action_clip.command import main

    run(main)


if __name__ == "__main__":
    start()
