"""A session on a GPU, called as onnxruntime's own: inputs and outputs are bound, a single clip is one CUDA graph."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from math import prod
from queue import SimpleQueue
from threading import Condition, Lock
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from action_clip.models.runtime.pinned import Copier, Staging
from action_clip.system.forks import reset_in_children

_LOG = logging.getLogger("action_clip")
_TYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
}
# Most numbers of one run: larger ones are hardly faster, and of two at once one is copied while the other computes.
_MOST_NUMBERS = 16 * 8 * 3 * 224 * 224
_LANES = 2
# Single clips after which a CUDA graph is made for them: it takes as long as a thousand clips save by it.
_CAPTURE_AFTER = 16
# Least cosine of a CUDA graph's outputs to those without one.
_SAME = 0.9999

Outputs = list[NDArray[Any]]
Capturing = Callable[[Mapping[str, int]], onnxruntime.InferenceSession]


class Declared(NamedTuple):
    """An input as a session declares it, with the names of onnxruntime.NodeArg."""

    name: str
    type: str
    shape: Sequence[int | str | None]


class DeviceSession:
    """Runs a session of a graph, which must have one input. Any thread may call it.

    Rows are copied into pinned memory, from there to the device, and outputs to the CPU. Many rows are several runs.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        *,
        device: str,
        group: int,
        captured: Capturing | None = None,
    ) -> None:
        """Choose the session.

        Args:
            session: of onnxruntime.
            device: where the session's inputs and outputs are, by onnxruntime's name: "cuda" or "cpu".
            group: how many consecutive rows have to be in the same run: those of one clip.
            captured: makes a session of the same graph, for sizes by the names that the graph declares for them, that
                captures its first run and then replays it (`enable_cuda_graph`); None: there is none.
        """
        self._session = session
        self._device = device
        self._group = group
        self._inputs = session.get_inputs()
        takes_tokens = any(declared.type.startswith("tensor(int") for declared in self._inputs)
        self._make_captured = None if takes_tokens else captured
        self._copier = Copier()
        self._idle: SimpleQueue[Staging] = SimpleQueue()
        for _ in range(_LANES):
            self._idle.put(Staging(self._copier))
        self._lanes = ThreadPoolExecutor(_LANES, thread_name_prefix="runs")
        self._singles = 0
        self._counting = Lock()
        self._clip: _Captured | None = None

    def get_inputs(self) -> list[Declared]:
        """Return the inputs as callers give them: float32 where the graph takes float16, which copying makes of it."""
        half, single = "tensor(float16)", "tensor(float)"
        return [Declared(i.name, single if i.type == half else i.type, i.shape) for i in self._inputs]

    def get_outputs(self) -> Any:
        """Return the declared outputs."""
        return self._session.get_outputs()

    def get_providers(self) -> list[str]:
        """Return the names of the providers that the session uses."""
        providers: list[str] = self._session.get_providers()
        return providers

    def run(
        self,
        names: Sequence[str],
        feeds: Mapping[str, NDArray[Any]],
        options: onnxruntime.RunOptions | None = None,
    ) -> Outputs:
        """Return the named outputs for the rows in `feeds`, (N, …) each; `options` are for all runs.

        Raises what onnxruntime raises.
        """
        (rows,) = feeds.values()
        if len(rows) == self._group and (clip := self._captured(names, rows, options)) is not None:
            with _CAPTURES.away():
                return clip.run(rows, options)
        run = partial(self._run, names, options)
        parts = self._parts(rows)
        if len(parts) == 1:
            return run(rows)
        return [np.concatenate(output) for output in zip(*self._lanes.map(run, parts), strict=True)]

    @property
    def _input(self) -> Any:
        return self._inputs[0]

    def _parts(self, rows: NDArray[Any]) -> list[NDArray[Any]]:
        """Split rows into runs of whole groups; where the graph declares a batch, they are one run."""
        if isinstance(self._input.shape[0], int):
            return [rows]
        step = max(_MOST_NUMBERS // max(prod(rows.shape[1:]), 1) // self._group, 1) * self._group
        return [rows[first : first + step] for first in range(0, max(len(rows), 1), step)]

    def _run(self, names: Sequence[str], options: onnxruntime.RunOptions | None, rows: NDArray[Any]) -> Outputs:
        staging = self._idle.get()
        try:
            with _CAPTURES.away():
                binding = self._session.io_binding()
                held = staging.hold(rows, _TYPES[self._input.type])
                binding.bind_cpu_input(self._input.name, held)  # copies it to the device
                for name in names:
                    binding.bind_output(name)
                self._session.run_with_iobinding(binding, options)
                outputs: Outputs = binding.copy_outputs_to_cpu()
            return outputs
        finally:
            self._idle.put(staging)

    def _captured(
        self, names: Sequence[str], rows: NDArray[Any], options: onnxruntime.RunOptions | None
    ) -> "_Captured | None":
        """Return the CUDA graph for a clip like this, which is made now if there have been enough; else None."""
        with self._counting:
            self._singles += 1
            make = self._make_captured
            if make is not None and self._singles > _CAPTURE_AFTER:
                self._make_captured = None  # it is tried once
                try:
                    self._clip = self._capture(make, names, rows, options)
                except Exception as error:  # whatever onnxruntime raises
                    _LOG.debug("no CUDA graph is made for single clips: %s", error)
            clip = self._clip
        return clip if clip is not None and clip.fits(names, rows) else None

    def _capture(
        self,
        make: Capturing,
        names: Sequence[str],
        rows: NDArray[Any],
        options: onnxruntime.RunOptions | None,
    ) -> "_Captured":
        expected = self._run(names, options, rows)
        outputs = dict(zip(names, expected, strict=True))
        sizes = {
            size: given for size, given in zip(self._input.shape, rows.shape, strict=True) if isinstance(size, str)
        }
        with _CAPTURES.away():
            clip = _Captured(make(sizes), self._device, self._input, rows.shape, outputs, Staging(self._copier))
        with _CAPTURES.alone():
            clip.run(np.zeros_like(rows), options)  # is captured
        with _CAPTURES.away():
            found = clip.run(rows, options)  # is replayed
        for one, other in zip(found, expected, strict=True):
            first, second = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
            if not first @ second >= _SAME * np.linalg.norm(first) * np.linalg.norm(second):
                raise ValueError("it gives other outputs")
        return clip


class _Captured:
    """A session that replays one captured run: always of the same shape, in the same memory and the same thread."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        device: str,
        declared: Any,
        shape: Sequence[int],
        outputs: Mapping[str, NDArray[Any]],
        staging: Staging,
    ) -> None:
        """Bind the session.

        Args:
            session: it has not run yet.
            device: as for DeviceSession.
            declared: the session's input.
            shape: of the rows.
            outputs: arrays like the outputs, by their names.
            staging: for this object alone.
        """
        # onnxruntime keeps a captured run for the thread that it was captured in.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="clip")
        self._staging = staging
        self._shape = tuple(shape)
        self._dtype = _TYPES[declared.type]
        self._names = list(outputs)
        empty = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self._input = empty(list(shape), self._dtype.type, device, 0)
        self._outputs = [empty(list(array.shape), array.dtype.type, device, 0) for array in outputs.values()]
        self._session = session
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(declared.name, self._input)
        for name, value in zip(self._names, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(name, value)

    def fits(self, names: Sequence[str], rows: NDArray[Any]) -> bool:
        """Return whether a run is like the one that was captured."""
        return list(names) == self._names and rows.shape == self._shape

    def run(self, rows: NDArray[Any], options: onnxruntime.RunOptions | None) -> Outputs:
        """Return the outputs for rows of the shape; raises what onnxruntime raises."""
        return self._thread.submit(self._run, rows, options).result()

    def _run(self, rows: NDArray[Any], options: onnxruntime.RunOptions | None) -> Outputs:
        self._input.update_inplace(self._staging.hold(rows, self._dtype))
        self._session.run_with_iobinding(self._binding, options)
        return [np.array(value.numpy()) for value in self._outputs]  # the next run writes into the same memory


class _Captures:
    """While a run is captured, nothing else in this process uses the device: CUDA would fail in the other threads."""

    def __init__(self) -> None:
        reset_in_children(self)
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Make a new lock in a forked child, in which nothing runs."""
        self._changed = Condition()
        self._others, self._is_capturing = 0, False

    @contextmanager
    def away(self) -> Iterator[None]:
        """Use the device while nothing is captured. A thread that does so already must not call this."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_capturing)
            self._others += 1
        try:
            yield
        finally:
            with self._changed:
                self._others -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let nothing else begin to use the device, and wait until nothing does."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_capturing)
            self._is_capturing = True
        try:
            with self._changed:
                self._changed.wait_for(lambda: not self._others)
            yield
        finally:
            with self._changed:
                self._is_capturing = False
                self._changed.notify_all()


_CAPTURES = _Captures()


@contextmanager
def using_device() -> Iterator[None]:
    """Use the device otherwise than by runs of a DeviceSession, such as for making a session."""
    with _CAPTURES.away():
        yield
