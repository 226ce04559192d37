"""onnxruntime sessions that fail where they fail: no other provider takes over, and nothing is said on stdout."""

from pathlib import Path

import onnxruntime
from onnxruntime.capi import onnxruntime_inference_collection

from action_clip.system.cores import graph_threads


def session_options(threads: int | None = None) -> onnxruntime.SessionOptions:
    """Options with so many threads, by default `graph_threads()`.

    Left alone, onnxruntime makes one for each core of the machine, and binds it to that one, whether it may run there
    or not.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or graph_threads()
    options.inter_op_num_threads = 1  # operators come one after the other
    return options


class SessionError(Exception):
    """onnxruntime cannot make a session, for that reason: its own exceptions have no base class."""

    def __init__(self, reason: object) -> None:
        super().__init__(str(reason).strip().partition("\n")[0])


def make_session(
    graph: Path | bytes, options: onnxruntime.SessionOptions, provider: str
) -> onnxruntime.InferenceSession:
    """A session of an ONNX file, or of what is in one.

    Before onnxruntime 1.23 another provider can take over while it is made, as `get_providers` of the session tells.

    Raises SessionError when onnxruntime cannot make it.
    """
    # Before 1.23, the argument has no effect; what would be said is what the exception says.
    onnxruntime_inference_collection.print = lambda *_: None
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=[provider], enable_fallback=0)
    except Exception as error:  # whatever onnxruntime raises
        raise SessionError(error) from error
    session.disable_fallback()
    return session
