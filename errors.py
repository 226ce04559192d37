"""The exception for everything that a user can put right."""


class ActionClipError(Exception):
    """Something the user can put right: the message says what was wrong and what to do, in one sentence.

    The command prints it on one line of stderr and exits 1; a library user catches it.
    """
