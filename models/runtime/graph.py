"""An ONNX graph that runs in onnxruntime, fed in the shapes that it declares."""

from math import prod
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.runtime.devices import AUTO, CUDA, device_name, provider
from action_clip.system.forks import never_destroy, reset_in_children
from action_clip.system.interrupts import interruptible

if TYPE_CHECKING:
    import onnxruntime

_INPUT_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
# Most rows of one run, and most numbers in them, where the graph leaves the batch open: larger runs are no faster.
_MAX_ROWS, _MAX_NUMBERS = 256, 256 * 3 * 224 * 224
# How many times as much a GPU takes at once: 128 clips of eight frames.
_GPU_TIMES = 4
# Most tokens of one run of texts: about as many as fit into the processor's caches.
_MAX_TOKENS = 1024
# The largest size, and number of numbers, that a graph may fix for its input: far more than any model needs.
_MAX_FIXED_SIZE, _MAX_FIXED_NUMBERS = 1 << 16, 1 << 28


class Graph:
    """One ONNX graph with one input. Its session is made at the first call, or by `start`."""

    def __init__(
        self,
        path: Path,
        *,
        device: str = AUTO,
        threads: int | None = None,
        group: int = 1,
        keep: bool = False,
        spins: bool = True,
        prepack: bool = True,
        cure: str = "download or export it again",
    ) -> None:
        """Choose the graph and how it runs.

        Args:
            path: the ONNX file.
            device: as for `provider`.
            threads: number of threads for one operator; None: `cores.graph_threads()`.
            group: how many consecutive rows have to be in the same run, unless the graph declares another batch.
            keep: whether to use the session cache.
            spins: whether a thread without work keeps its core busy while it waits, which is fastest where nothing else
                runs.
            prepack: whether weights are packed for the processor's matrix products when the session is made, or in each
                run: outputs differ by rounding alone.
            cure: what the user can do where the file is damaged, for error messages.
        """
        self.path = path
        self._device = device
        self._threads = threads
        self._group = group
        self._keep = keep
        self._spins = spins
        self._prepack = prepack
        self._cure = cure
        self._session: onnxruntime.InferenceSession | None = None
        self._starting = Lock()
        self._content: str | None = None
        self.name = uuid4().hex
        """Identifies this object, in this process and others."""
        reset_in_children(self)

    def identity(self) -> str:
        """Return a text of all that the outputs depend on but for rounding, as a key for caching them.

        It names the graph with its weights, the provider, the kind of processor, onnxruntime's version, half precision
        where graphs run in it, and the layout of the session cache.

        Raises:
            ActionClipError: the graph cannot be read, or `check_graph` refuses it.
        """
        from action_clip.models.cache.session_cache import environment_key
        from action_clip.models.runtime.half import FORM, runs_in_half

        if self._content is None:
            self._content = self._read_content()
        name = provider(self._device)
        return f"{self._content} {name} {environment_key(FORM if runs_in_half(name) else '')}"

    def _read_content(self) -> str:
        from action_clip.models.store.hashes import graph_identity

        try:
            return graph_identity(self.path)
        except ValueError as error:
            raise self._unusable(error) from error

    def reset_after_fork(self) -> None:
        """Called in a forked child: give up the session, which is the parent's, without destroying it."""
        never_destroy(self._session)
        self._session, self._starting = None, Lock()

    def start(self) -> "onnxruntime.InferenceSession":
        """Return the session, which is made now if there is none yet. Any thread may call this.

        Raises:
            ActionClipError: the graph cannot be loaded, its file has changed since `identity` was called, or the device
                cannot be started.
        """
        with self._starting:
            if self._session is None:
                session = interruptible(self._new_session)
                # Where outputs are kept, `identity` names what this session is made of, also if it is called later.
                content = self._read_content() if self._keep or self._content is not None else None
                if self._content not in (None, content):
                    raise ActionClipError(f"the graph {self.path} was replaced while it was in use: start again")
                self._content, self._session = content, session
            return self._session

    def _new_session(self) -> "onnxruntime.InferenceSession":
        from action_clip.models.runtime.opening import open_session
        from action_clip.models.runtime.sessions import SessionError

        name = provider(self._device)
        try:
            session = open_session(
                self.path,
                name,
                threads=self._threads,
                spins=self._spins,
                prepack=self._prepack,
                cache=self._keep,
                group=self._group,
            )
        except SessionError as error:
            raise self._unusable(error) from error
        self._check_input(session)
        return session

    def _check_input(self, session: "onnxruntime.InferenceSession") -> None:
        inputs = session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _INPUT_TYPES or len(inputs[0].shape) < 2:
            described = ", ".join(f"{i.name}: {i.type}" for i in inputs)
            raise ActionClipError(f"the graph {self.path} takes ({described}), not one tensor: {self._cure}")
        fixed = [size for size in _sizes(session) if size is not None]
        if max(fixed, default=1) > _MAX_FIXED_SIZE or prod(fixed) > _MAX_FIXED_NUMBERS:
            raise ActionClipError(f"the graph {self.path} takes {inputs[0].shape}, which is too much: {self._cure}")

    def _unusable(self, error: Exception) -> ActionClipError:
        device = device_name(provider(self._device))
        other = "" if device == "cpu" else ", or try --device cpu"
        return ActionClipError(f"the graph {self.path} cannot be loaded on '{device}' ({error}): {self._cure}{other}")

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The shape that the graph declares for its input; None where it takes any size."""
        return _sizes(self.start())

    def __call__(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Run the graph on `rows`, (N, …), and return its first output, features: (N, D) float32.

        Raises:
            ActionClipError: the output has another shape; or as `outputs`.
        """
        features = self.outputs(rows, 1)[0]
        if features.ndim != 2 or len(features) != len(rows):
            raise ActionClipError(
                f"the graph {self.path.name} gives {_shape_text(features.shape)} for {len(rows)} rows, not as many of "
                f"features: {self._cure}"
            )
        return features

    @property
    def batch(self) -> int | None:
        """The number of rows of each run, where the graph declares one. Raises ActionClipError as `start` does."""
        return _sizes(self.start())[0]

    def outputs(self, rows: NDArray[Any], count: int) -> list[NDArray[np.float32]]:
        """Run the graph on `rows`, (N, …), and return its first `count` outputs, each (N, …) float32.

        Rows are split into runs of the batch that the graph declares, the last one padded; where it declares none, into
        runs of whole groups.

        Raises:
            ActionClipError: the rows have another shape than the graph declares, it has fewer outputs, or a run fails.
        """
        session = self.start()
        batch, *rest = _sizes(session)
        if len(rest) != rows.ndim - 1 or any(
            size not in (None, actual) for size, actual in zip(rest, rows.shape[1:], strict=True)
        ):
            raise ActionClipError(
                f"the graph {self.path.name} takes {_shape_text((batch, *rest))}, not {_shape_text(rows.shape)}: "
                "check that the model's metadata belongs to its graphs"
            )
        names = [output.name for output in session.get_outputs()]
        if len(names) < count:
            raise ActionClipError(f"the graph {self.path.name} has {len(names)} outputs, not {count}: {self._cure}")
        rows = np.ascontiguousarray(rows, dtype=_INPUT_TYPES[session.get_inputs()[0].type])
        step = batch or self._rows_per_run(prod(rows.shape[1:]))
        runs = [self._run(rows[first : first + step], batch, names[:count]) for first in range(0, len(rows), step)]
        return [np.concatenate(output) for output in zip(*runs, strict=True)]

    def _rows_per_run(self, numbers: int) -> int:
        """Return how many rows of so many numbers each go into one run: whole groups, and at least one group."""
        most = min(_MAX_ROWS, _MAX_NUMBERS // max(numbers, 1)) * (_GPU_TIMES if provider(self._device) == CUDA else 1)
        return max(most // self._group, 1) * self._group

    def _run(self, rows: NDArray[Any], batch: int | None, names: list[str]) -> list[NDArray[np.float32]]:
        import onnxruntime

        count = len(rows)
        if batch is not None and count < batch:
            rows = np.concatenate([rows, np.repeat(rows[-1:], batch - count, axis=0)])
        session, options = self.start(), onnxruntime.RunOptions()
        feeds = {session.get_inputs()[0].name: rows}
        try:
            outputs: list[Any] = interruptible(lambda: session.run(names, feeds, options))
        except KeyboardInterrupt:
            options.terminate = True  # else the run would go on in its thread
            raise
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise ActionClipError(
                f"the graph {self.path.name} failed on '{device_name(provider(self._device))}' ({reason}): "
                "use fewer frames or labels, or another --device"
            ) from error
        if not all(
            isinstance(output, np.ndarray) and output.ndim and output.dtype.kind in "fiub" for output in outputs
        ):
            raise ActionClipError(f"the graph {self.path.name} gives something else than numbers: {self._cure}")
        return [np.asarray(output[:count], dtype=np.float32) for output in outputs]


def encode_tokens(graph: Graph, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
    """Run a text graph on (N, 77) zero-padded CLIP tokens, and return features, (N, D) float32.

    Text towers are causal up to the end-of-text token, which has the largest id: later columns change nothing. So
    where the graph leaves the length open, texts are sorted by length and each batch is cut to its longest.

    Raises:
        ActionClipError: a text is longer than the fixed length that the graph declares; or as `Graph.outputs`.
    """
    lengths = tokens.argmax(axis=1) + 1
    fixed = graph.shape[1]
    if fixed is not None:
        if lengths.max() > fixed:
            raise ActionClipError(
                f"the graph {graph.path.name} takes {fixed} tokens, a label has {lengths.max()}: shorten it"
            )
        return graph(np.pad(tokens, ((0, 0), (0, max(0, fixed - tokens.shape[1]))))[:, :fixed])
    order = np.argsort(lengths, kind="stable")
    lengths, tokens = lengths[order], tokens[order]
    sorted_features = np.concatenate([graph(tokens[batch, : lengths[batch][-1]]) for batch in _batches(lengths)])
    features = np.empty_like(sorted_features)
    features[order] = sorted_features
    return features


def _batches(lengths: NDArray[np.intp]) -> list[slice]:
    """Split texts, sorted by length, into batches of at most _MAX_TOKENS tokens with padding, or of one text."""
    batches = []
    first = 0
    while first < len(lengths):
        # Tokens of a batch from the first text up to each of the others, padded to the longest.
        tokens = np.arange(1, len(lengths) - first + 1) * lengths[first:]
        last = first + max(int(np.searchsorted(tokens, _MAX_TOKENS, side="right")), 1)
        batches.append(slice(first, last))
        first = last
    return batches


def _sizes(session: "onnxruntime.InferenceSession") -> tuple[int | None, ...]:
    """Return the shape that a session declares for its first input; None where it takes any size."""
    return tuple(size if isinstance(size, int) and size > 0 else None for size in session.get_inputs()[0].shape)


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
