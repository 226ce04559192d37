"""Memory that a GPU copies from directly, and bringing the inputs of graphs into it.

CUDA copies from page-locked memory several times as fast as from other memory, which it has to copy into such memory
first (CUDA C++ Best Practices Guide, "Pinned Memory").
"""

import ctypes
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from mmap import mmap
from typing import Any
from weakref import finalize

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from action_clip.models.runtime.devices import CPU
from action_clip.models.runtime.sessions import make_session, session_options
from action_clip.system.cores import usable_cores
from action_clip.system.forks import cached_property

_LOG = logging.getLogger("action_clip")
# cudaHostRegisterPortable of the CUDA runtime: the memory is pinned for all contexts.
_PORTABLE = 1
# Least numbers that are worth a thread: about those of a clip of eight frames.
_SHARE = 1 << 20
_MOST_THREADS = 8
# An ONNX graph: y = x as float16, float32 [N].
_TO_HALF = (
    b"\x08\x08:B\n\x19\n\x01x\x12\x01y\x22\x04Cast*\t\n\x02to\x18\n\xa0\x01\x02:\x00\x12\x01c"
    b"Z\x10\n\x01x\x12\x0b\n\t\x08\x01\x12\x05\n\x03\x12\x01N"
    b"b\x10\n\x01y\x12\x0b\n\t\x08\n\x12\x05\n\x03\x12\x01NB\x04\n\x00\x10\x12"
)


class Copier:
    """Copies numbers between arrays, in several threads, float32 to float16 too. Any thread may call it."""

    def copy(self, source: NDArray[Any], target: NDArray[Any]) -> None:
        """Write `source`, (N,), into `target`, (N,), which may have another type. Both are contiguous."""
        count = max(1, min(self._most, source.size // _SHARE))
        edges = [source.size * number // count for number in range(count + 1)]
        shares = [slice(first, last) for first, last in pairwise(edges)]
        if count == 1:
            self._copy(source, target)
            return
        for done in [self._threads.submit(self._copy, source[share], target[share]) for share in shares]:
            done.result()

    @cached_property
    def _most(self) -> int:
        return min(_MOST_THREADS, usable_cores())

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._most, thread_name_prefix="staging")

    @cached_property
    def _to_half(self) -> onnxruntime.InferenceSession:
        """A session that turns float32 into float16, twenty times as fast as numpy."""
        return make_session(_TO_HALF, session_options(1), CPU)

    def _copy(self, source: NDArray[Any], target: NDArray[Any]) -> None:
        if source.dtype != np.float32 or target.dtype != np.float16 or not source.size:
            np.copyto(target, source, casting="same_kind")
            return
        binding = self._to_half.io_binding()
        binding.bind_cpu_input("x", source)
        binding.bind_output("y", "cpu", 0, np.float16, target.shape, target.ctypes.data)
        self._to_half.run_with_iobinding(binding)


class Staging:
    """A buffer for the inputs of one run: of pinned memory where CUDA's runtime is there, else of ordinary memory."""

    def __init__(self, copier: Copier) -> None:
        self._copier = copier
        self._memory: mmap | None = None
        self._unpin: Any = None

    def hold(self, rows: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return a copy of `rows` in the buffer, as numbers of a type; the next call overwrites it."""
        size = rows.size * dtype.itemsize
        if self._memory is None or len(self._memory) < size:
            self.release()
            self._memory = mmap(-1, max(size, 1))  # it begins at a page
            self._unpin = _pin(self, np.frombuffer(self._memory, np.uint8))
        held = np.frombuffer(self._memory, dtype, rows.size)
        self._copier.copy(rows.reshape(-1), held)
        return held.reshape(rows.shape)

    def release(self) -> None:
        """Give the memory back."""
        if self._unpin is not None:
            self._unpin()
        self._memory = self._unpin = None


def _pin(owner: Staging, memory: NDArray[np.uint8]) -> Any:
    """Pin the memory, and return what unpins it, at the latest when `owner` is collected; None where it is not."""
    runtime, address = _cuda_runtime(), memory.ctypes.data
    if runtime is None:
        return None
    if code := runtime.cudaHostRegister(ctypes.c_void_p(address), ctypes.c_size_t(memory.size), _PORTABLE):
        runtime.cudaGetLastError()  # else onnxruntime, in this thread, takes it for an error of its next operator
        _LOG.debug("CUDA does not pin %d bytes of memory: error %d", memory.size, code)
        return None
    unpin = finalize(owner, runtime.cudaHostUnregister, ctypes.c_void_p(address))
    unpin.atexit = False  # CUDA may be gone by then, and in a forked child it cannot be used
    return unpin


@cache
def _cuda_runtime() -> Any:
    """Return CUDA's runtime library, which onnxruntime's provider has loaded; None where there is none."""
    major = str(getattr(onnxruntime, "cuda_version", "")).partition(".")[0]
    if not major.isdigit():
        return None
    try:
        return ctypes.CDLL(f"cudart64_{major}.dll" if sys.platform == "win32" else f"libcudart.so.{major}")
    except OSError:
        return None
