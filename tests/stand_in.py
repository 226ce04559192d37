"""The notice with which the command names the embedded model a stand-in, for tests of what else it says."""

NOTICE = (
    "action_clip: the embedded model nano is a stand-in that sees objects, not motion: leave out --model for "
    "ActionCLIP itself (681 MB, downloaded once)\n"
)


def without_notice(stderr: str) -> str:
    """What else is on stderr."""
    return stderr.replace(NOTICE, "", 1)
