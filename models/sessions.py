"""onnxruntime sessions that fail where they fail: no other provider takes over, and nothing is said on stdout."""

from pathlib import Path

import onnxruntime
from onnxruntime.capi import onnxruntime_inference_collection


class SessionError(Exception):
    """onnxruntime cannot make a session; the text is its reason. Its own exceptions have no base class."""


def make_session(path: Path, options: onnxruntime.SessionOptions, provider: str) -> onnxruntime.InferenceSession:
    """A session of the graph at `path`.

    Before onnxruntime 1.23 another provider does take over while it is made, as `get_providers` of the session tells.

    Raises SessionError when there can be none.
    """
    # Before 1.23, the argument has no effect; what would be said is what the exception says.
    onnxruntime_inference_collection.print = lambda *_: None
    try:
        session = onnxruntime.InferenceSession(path, options, providers=[provider], enable_fallback=0)
    except Exception as error:  # whatever onnxruntime raises
        raise SessionError(str(error)) from error
    session.disable_fallback()
    return session
