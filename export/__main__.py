"""`python -m export` in a clone: the same as `action-clip export`."""

from action_clip.system.interrupts import leave_at_once, run

if __name__ == "__main__":
    leave_at_once()  # before the imports that take long
    from action_clip.export.command import main

    run(main)
