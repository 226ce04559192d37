"""Making onnxruntime sessions: number of threads, no other provider when a run fails, and nothing printed on stdout."""

from collections.abc import Mapping
from pathlib import Path

import onnxruntime
from onnxruntime.capi import onnxruntime_inference_collection

from action_clip.models.runtime.devices import CUDA, load_cuda_libraries
from action_clip.system.cores import graph_threads


def session_options(threads: int | None = None) -> onnxruntime.SessionOptions:
    """Return session options with this number of threads, by default `graph_threads()`.

    onnxruntime's default is a thread for each core of the machine, bound to it, even where the process may not use it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or graph_threads()
    options.inter_op_num_threads = 1  # operators run one after the other
    return options


class SessionError(Exception):
    """onnxruntime cannot make a session; `reason` is its exception, as these have no base class of their own."""

    def __init__(self, reason: object) -> None:
        super().__init__(str(reason).strip().partition("\n")[0])


def make_session(
    graph: Path | bytes,
    options: onnxruntime.SessionOptions,
    provider: str,
    settings: Mapping[str, str] | None = None,
) -> onnxruntime.InferenceSession:
    """Return a session of an ONNX file, or of the bytes of one.

    onnxruntime may use the CPU instead of the provider: the session's `get_providers` tells which it uses. `settings`
    are the provider's own options.

    Raises SessionError when onnxruntime cannot make it.
    """
    if provider == CUDA:
        load_cuda_libraries()
    own = {"provider_options": [dict(settings)]} if settings else {}
    # Before 1.23, enable_fallback has no effect, and onnxruntime prints what the exception says.
    onnxruntime_inference_collection.print = lambda *_: None
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=[provider], enable_fallback=0, **own)
    except Exception as error:  # whatever onnxruntime raises
        raise SessionError(error) from error
    session.disable_fallback()
    return session
