"""`python -m export` in a clone: the same as `action-clip export`."""

from action_clip.system.interrupts import exit_on_interrupt, run

if __name__ == "__main__":
    exit_on_interrupt()  # before the imports that take long
    from action_clip.export.command import main

    run(main)
