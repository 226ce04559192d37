"""onnxruntime sessions: their threads, no change of provider at a run that fails, and nothing printed on stdout."""

from pathlib import Path

import onnxruntime
from onnxruntime.capi import onnxruntime_inference_collection

from action_clip.system.cores import graph_threads


def session_options(threads: int | None = None) -> onnxruntime.SessionOptions:
    """Options with so many threads, by default `graph_threads()`.

    onnxruntime's default is a thread for each core of the machine, bound to it, even where the process may not use it.
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

    onnxruntime may put the CPU in the place of the provider, as `get_providers` of the session tells.

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
