"""Devices, as users name them, and onnxruntime's execution providers: "cuda" is CUDAExecutionProvider."""

import logging
from functools import cache, partial
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np

from action_clip.errors import ActionClipError
from action_clip.system.forks import at_fork, hold_during_forks
from action_clip.system.interrupts import interruptible

if TYPE_CHECKING:
    import onnxruntime

_LOG = logging.getLogger("action_clip")
AUTO = "auto"
"""The device that stands for the best provider that starts."""
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# What "auto" tries before the CPU, in this order. Left out are the providers that compile each graph in each process,
# which takes longer than most runs (TensorRT, MIGraphX, CoreML), and OpenVINO, which on a CPU is no faster.
_PREFERRED = (CUDA, "ROCMExecutionProvider", "DmlExecutionProvider")
_REMOTE = "AzureExecutionProvider"
# The packages with these devices, and the extras that name them. All of them install into one folder, so only the one
# installed last is there.
_PACKAGES = {
    "cuda": ("onnxruntime-gpu", "cuda"),
    "tensorrt": ("onnxruntime-gpu", "cuda"),
    "openvino": ("onnxruntime-openvino", "openvino"),
}
# An ONNX graph: y = x @ x, float32, 2 × 2.
_PRODUCT = (
    b"\x08\x08:B\n\x13\n\x01x\n\x01x\x12\x01y\x22\x06MatMul:\x00\x12\x01p"
    b"Z\x13\n\x01x\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x02\n\x02\x08\x02"
    b"b\x13\n\x01y\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x02\n\x02\x08\x02B\x04\n\x00\x10\r"
)
# Severities of onnxruntime's log: its default, and the highest, at which hardly anything is logged.
_WARNING, _SILENT = 2, 4


def provider(device: str) -> str:
    """Return the onnxruntime execution provider of a device: "CUDAExecutionProvider" for "cuda".

    "auto" is the first of _PREFERRED that starts here, else the CPU's. It is decided once a process.

    Raises:
        ActionClipError: this installation of onnxruntime does not have the device; the message names those it has.
    """
    if device.lower() == AUTO:
        with _deciding:
            return _best_provider()
    available = {device_name(name): name for name in _available()}
    try:
        return available[device.lower()]
    except KeyError:
        raise ActionClipError(
            f"the device '{device}' is not there: this onnxruntime has {', '.join(sorted(available))}; "
            f"{_advice(device.lower())}"
        ) from None


def check_device(device: str) -> None:
    """Raise ActionClipError where this installation of onnxruntime does not have the device; none is started."""
    if not isinstance(device, str):
        raise ActionClipError(f"device is {device!r}: give its name, such as 'auto' or 'cpu'")
    if device.lower() not in (AUTO, "cpu"):  # which are always there
        provider(device)


def device_name(provider: str) -> str:
    """Return the device of a provider: "cuda" for "CUDAExecutionProvider"."""
    return provider.removesuffix("ExecutionProvider").lower()


def _available() -> list[str]:
    """Return the local providers that this onnxruntime was built with; their drivers and libraries may be missing."""
    import onnxruntime

    return [name for name in onnxruntime.get_available_providers() if name != _REMOTE]


def _advice(device: str) -> str:
    """Return how to get a device that is not there, for an error message."""
    from importlib import metadata

    if device not in _PACKAGES:
        return "choose one of them or install the onnxruntime package for your device"
    package, extra = _PACKAGES[device]
    again = f"pip install --no-deps --force-reinstall {package}"
    if any(metadata.distributions(name=package)):
        return f"{package} is installed, but another onnxruntime package was installed over it: {again}"
    return f"choose one of them, or pip install 'action-clip[{extra}]' (in a clone '.[{extra}]') and then {again}"


@cache
def _best_provider() -> str:
    available = _available()
    for name in _PREFERRED:
        if name in available and interruptible(partial(_starts, name)):
            _LOG.warning("graphs run on %s; --device cpu runs them on the processor", device_name(name))
            return name
    return CPU


_deciding = RLock()
hold_during_forks(_deciding)
# A GPU that the parent uses does not start in a forked child.
at_fork(after_in_child=_best_provider.cache_clear)


def _starts(name: str) -> bool:
    """Return whether a session on the provider can be made and run; nothing is logged."""
    import onnxruntime

    # onnxruntime logs errors of drivers and libraries to the process's log, not to a session's.
    onnxruntime.set_default_logger_severity(_SILENT)
    try:
        return _runs(name)
    except Exception:  # whatever onnxruntime raises
        return False
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)


def _runs(name: str) -> bool:
    session = trial_session(name, _SILENT)
    x = np.full((2, 2), 2, np.float32)
    return name in session.get_providers() and np.array_equal(session.run(None, {"x": x})[0], x @ x)


def trial_session(name: str, severity: int) -> "onnxruntime.InferenceSession":
    """Return a session of a tiny graph on the provider, or on the CPU where onnxruntime cannot start the provider.

    Args:
        name: of the provider.
        severity: the least severity of what the session logs.

    Raises:
        SessionError: onnxruntime cannot make it.
    """
    from action_clip.models.runtime.sessions import make_session, session_options

    options = session_options(1)
    options.log_severity_level = severity
    return make_session(_PRODUCT, options, name)


@cache
def load_cuda_libraries() -> None:
    """Load CUDA and cuDNN from the packages that pip has installed, where onnxruntime does not look for them itself.

    Once a process. Where they come from the system, as before onnxruntime 1.21, this changes nothing.
    """
    import warnings

    import onnxruntime

    if not hasattr(onnxruntime, "preload_dlls"):
        return
    # It prints which libraries it cannot load; that CUDA does not start is said by whoever makes the session.
    onnxruntime.print = lambda *_: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            onnxruntime.preload_dlls()
    finally:
        del onnxruntime.print
