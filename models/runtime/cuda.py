"""Opening graphs on CUDA: in half precision where they can be, and single clips as CUDA graphs."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import onnxruntime

from action_clip.errors import ActionClipError
from action_clip.models.cache.session_cache import GRAPH, cached_graph
from action_clip.models.runtime.device_session import DeviceSession, using_device
from action_clip.models.runtime.devices import CUDA, device_name, trial_session
from action_clip.models.runtime.half import FORM, HalfError, half_graph
from action_clip.models.runtime.opening import ERROR, NOT_KEPT, SILENT, require_sound, started, warn_not_kept
from action_clip.models.runtime.sessions import SessionError, make_session
from action_clip.models.store.home import warn_once

# cuDNN's default, EXHAUSTIVE, tries every way to convolve for each new shape, and batches have many sizes.
_SETTINGS = {"cudnn_conv_algo_search": "HEURISTIC"}
_CAPTURING = {**_SETTINGS, "enable_cuda_graph": "1"}
Options = Callable[[], onnxruntime.SessionOptions]


def open_on_cuda(path: Path, options: Options, *, cache: bool, group: int) -> DeviceSession:
    """Return a session of the graph at `path` on CUDA; `options` makes a session's options.

    Raises as `open_session` does.
    """
    require_sound(path)
    with using_device():
        _require_cuda()  # before any work is done for it
        graph = _graph(path, cache=cache, group=group)
        session = started(make_session(graph, options(), CUDA, _SETTINGS), CUDA)
    captured = partial(_captured_session, graph, options)
    return DeviceSession(session, device=device_name(CUDA), group=group, captured=captured)


def _require_cuda() -> None:
    """Raise ActionClipError where CUDA does not start: libraries or the driver are missing, or the GPU is full."""
    try:
        session = trial_session(CUDA, ERROR)
    except SessionError as error:
        reason = str(error)
        # CUDA's own sentence, without the place in onnxruntime's source that surrounds it.
        if found := re.search(r"CUDA failure \d+: ([^;]+)", reason):
            reason = found[1].strip()
        raise ActionClipError(
            f"the device 'cuda' could not be started ({reason}): check NVIDIA's driver, CUDA and cuDNN, and that the "
            "GPU has free memory, or use --device cpu"
        ) from error
    started(session, CUDA)


def _graph(path: Path, *, cache: bool, group: int) -> Path | bytes:
    """Return the graph in half precision, kept or as bytes; `path`, after a warning, where there is no such form."""

    def write(path: Path, folder: Path) -> None:
        (folder / GRAPH).write_bytes(half_graph(path, CUDA, group))

    try:
        kept = None
        if cache:
            try:
                kept = cached_graph(path, FORM, write)
            except NOT_KEPT as error:
                warn_not_kept(path, error)
        return kept or half_graph(path, CUDA, group)
    except HalfError as error:
        warn_once("half precision", "%s runs on the GPU as it is, not in half precision: %s", path, error)
        return path


def _captured_session(graph: Path | bytes, options: Options, sizes: Mapping[str, int]) -> onnxruntime.InferenceSession:
    """Return a session that captures its first run as a CUDA graph. Not every graph allows it: nothing is logged.

    Shapes are computed when it is made, for these sizes by their names, as no part of a CUDA graph can be on the CPU.
    """
    fixed = options()
    fixed.log_severity_level = SILENT
    for name, size in sizes.items():
        fixed.add_free_dimension_override_by_name(name, size)
    return make_session(graph, fixed, CUDA, _CAPTURING)
