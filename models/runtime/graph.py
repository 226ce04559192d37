"""onnxruntime sessions, fed in the shapes that they declare."""

from math import prod
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.store.home import warn_once
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
_SUFFIX = "ExecutionProvider"
# Rows of one run where the graph leaves the number open and they need not stay together: bounds the memory, costs no
# speed.
_MAX_BATCH = 256
# The same for texts, in tokens: about what fits the processor's caches.
_MAX_TOKENS = 1024
# What rows are filled up to where a graph fixes its sizes: far more than any model asks for.
_LARGEST_SIZE, _MOST_NUMBERS = 1 << 16, 1 << 28


def provider(device: str) -> str:
    """The onnxruntime execution provider that `device` means: "cuda" → "CUDAExecutionProvider".

    Raises:
        ActionClipError: this installation of onnxruntime does not have it; the message names those it has.
    """
    import onnxruntime

    # Azure's runs graphs on a remote host: not a device.
    available = {
        name.removesuffix(_SUFFIX).lower(): name
        for name in onnxruntime.get_available_providers()
        if name != "AzureExecutionProvider"
    }
    try:
        return str(available[device.lower()])
    except KeyError:
        raise ActionClipError(
            f"the device '{device}' is not there: this onnxruntime has {', '.join(sorted(available))}; "
            "choose one of them or install the onnxruntime package for your device"
        ) from None


class Graph:
    """One ONNX graph with one input; its session is made at the first call."""

    def __init__(
        self,
        path: Path,
        *,
        device: str = "cpu",
        threads: int | None = None,
        group: int = 1,
        keep: bool = False,
        spins: bool = True,
        cure: str = "download or export it again",
    ) -> None:
        """Choose the graph and how it runs.

        Args:
            path: of the ONNX file.
            device: as `provider` takes it.
            threads: of one operator; None: `cores.graph_threads()`.
            group: rows that belong together: runs are split only between groups, unless the graph's declared batch
                asks for something else.
            keep: keep the graph on disk as it is optimised for this processor, and use what is kept.
            spins: whether a thread that has no work keeps its core until there is some: the fastest where nothing else
                runs.
            cure: what helps where the file is damaged.
        """
        self.path = path
        self._device = device
        self._threads = threads
        self._group = group
        self._keep = keep
        self._spins = spins
        self._cure = cure
        self._made: onnxruntime.InferenceSession | None = None
        self._making = Lock()
        self._identity: str | None = None
        self.name = uuid4().hex
        """Of this object and its session, in this process and others."""
        reset_in_children(self)

    def identity(self) -> str:
        """Names all that its outputs depend on, for keeping what was computed with it.

        Raises:
            ActionClipError: the graph cannot be read, or is none that should be run.
        """
        if self._identity is None:
            self._identity = self._identify()
        return self._identity

    def _identify(self) -> str:
        from action_clip.models.cache.session_cache import form
        from action_clip.models.store.hashes import graph_identity

        try:
            graph = graph_identity(self.path)
        except ValueError as error:
            raise self._unusable(error) from error
        # Weights, in whichever files they are; what computes; and how: the kind of processor, onnxruntime's version and
        # the layout of what is kept decide which operators and which of their kernels are run.
        return " ".join((graph, provider(self._device), form()))

    def reset_after_fork(self) -> None:
        """In a forked child: the session is the parent's."""
        never_destroy(self._made)
        self._made, self._making = None, Lock()

    def start(self) -> None:
        """Make the session now, where there is none yet; any thread may.

        Raises:
            ActionClipError: the graph cannot be loaded, or is not the one that `identity` has named, or the device
                cannot be started.
        """
        with self._making:
            if self._made is None:
                made = interruptible(self._new_session)
                if self._identity is not None and self._identity != self._identify():
                    raise ActionClipError(f"the graph {self.path} was replaced while it was in use: start again")
                self._made = made

    @property
    def _session(self) -> "onnxruntime.InferenceSession":
        self.start()
        assert self._made is not None
        return self._made

    def _new_session(self) -> "onnxruntime.InferenceSession":
        from action_clip.models.runtime.sessions import SessionError

        wanted = provider(self._device)
        session, problem = None, None
        if self._keep and wanted == "CPUExecutionProvider":
            try:
                session = self._kept_session()
            except (OSError, EOFError, ValueError, ActionClipError, SessionError) as error:
                problem = error  # of the disk, the graph or onnxruntime: what is kept only saves time
        if session is None:
            session = self._session_of(self.path, wanted)
        if problem is not None:
            # Once, as what is wrong with the disk is so for every graph.
            text = "%s cannot be kept ready for this machine, so runs start slower: %s"
            warn_once("kept ready", text, self.path, _first_line(problem))
        # A provider whose libraries are missing gives way to the CPU without an error.
        if wanted not in session.get_providers():
            raise ActionClipError(
                f"the device '{self._device}' could not be started, only "
                f"{', '.join(session.get_providers())} could: install what its provider needs or use --device cpu"
            )
        inputs = session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _INPUT_TYPES or len(inputs[0].shape) < 2:
            described = ", ".join(f"{i.name}: {i.type}" for i in inputs)
            raise ActionClipError(f"the graph {self.path} takes ({described}), not one tensor: {self._cure}")
        sizes = [size for size in inputs[0].shape if isinstance(size, int) and size > 0]
        if max(sizes, default=1) > _LARGEST_SIZE or prod(sizes) > _MOST_NUMBERS:
            raise ActionClipError(f"the graph {self.path} takes {inputs[0].shape}, which is too much: {self._cure}")
        return session

    def _kept_session(self) -> "onnxruntime.InferenceSession | None":
        from action_clip.models.cache.session_cache import discard, optimised

        kept = optimised(self.path)
        if kept is None:
            return None
        try:
            return self._session_of(kept, "CPUExecutionProvider", is_optimised=True)
        except ActionClipError:
            discard(kept)
            raise ValueError("what was kept cannot be loaded, and has been removed") from None

    def _session_of(self, path: Path, wanted: str, *, is_optimised: bool = False) -> "onnxruntime.InferenceSession":
        import onnxruntime

        from action_clip.models.catalog.structure import check_graph
        from action_clip.models.runtime.sessions import SessionError, make_session, session_options

        try:
            if not is_optimised:
                check_graph(path)
        except OSError as error:
            raise self._unusable(error.strerror or error) from error
        except ValueError as error:
            raise self._unusable(error) from error
        options = session_options(self._threads)
        # What goes wrong on the CPU is raised; of another device, only the log says why it does not start.
        options.log_severity_level = 4 if wanted == "CPUExecutionProvider" else 3
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(self._spins)))
        # When a run has ended, others have better use for the core.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if is_optimised:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return make_session(path, options, wanted)
        except SessionError as error:
            raise self._unusable(error) from error

    def _unusable(self, reason: object) -> ActionClipError:
        other = "" if self._device == "cpu" else ", or try --device cpu"
        return ActionClipError(
            f"the graph {self.path} cannot be loaded on '{self._device}' ({_first_line(reason)}): {self._cure}{other}"
        )

    @property
    def shape(self) -> tuple[int | None, ...]:
        """What the graph declares for its input; None where any size will do."""
        declared = self._session.get_inputs()[0].shape
        return tuple(size if isinstance(size, int) and size > 0 else None for size in declared)

    def __call__(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """The first of `outputs`, which must be features, (N, D).

        Raises:
            ActionClipError: it has another shape, or as `outputs`.
        """
        features = self.outputs(rows, 1)[0]
        if features.ndim != 2 or len(features) != len(rows):
            raise ActionClipError(
                f"the graph {self.path.name} gives {_written(features.shape)} for {len(rows)} rows, not as many of "
                f"features: {self._cure}"
            )
        return features

    def outputs(self, rows: NDArray[Any], count: int) -> list[NDArray[np.float32]]:
        """Run all `rows` (N, …) → the first `count` outputs, (N, …) float32 each.

        It takes as many runs as the graph's declared batch asks for.

        Raises:
            ActionClipError: the rows do not have the shape that the graph declares, or the run fails.
        """
        batch, *rest = self.shape
        if len(rest) != rows.ndim - 1 or any(
            size not in (None, given) for size, given in zip(rest, rows.shape[1:], strict=True)
        ):
            raise ActionClipError(
                f"the graph {self.path.name} takes {_written((batch, *rest))}, not {_written(rows.shape)}: "
                "check that the model's metadata belongs to its graphs"
            )
        rows = np.ascontiguousarray(rows, dtype=_INPUT_TYPES[self._session.get_inputs()[0].type])
        step = batch or max(_MAX_BATCH // self._group, 1) * self._group
        names = [output.name for output in self._session.get_outputs()]
        if len(names) < count:
            raise ActionClipError(f"the graph {self.path.name} has {len(names)} outputs, not {count}: {self._cure}")
        parts = [self._run(rows[i : i + step], batch, names[:count]) for i in range(0, len(rows), step)]
        return [np.concatenate(output) for output in zip(*parts, strict=True)]

    def _run(self, rows: NDArray[Any], batch: int | None, names: list[str]) -> list[NDArray[np.float32]]:
        count = len(rows)
        if batch is not None and count < batch:
            rows = np.concatenate([rows, np.repeat(rows[-1:], batch - count, axis=0)])
        try:
            answer = self._run_session(names, rows)
        except Exception as error:
            raise ActionClipError(
                f"the graph {self.path.name} failed on '{self._device}' ({_first_line(error)}): "
                "use fewer frames or labels, or another --device"
            ) from error
        if not all(isinstance(output, np.ndarray) and output.ndim and output.dtype.kind in "fiub" for output in answer):
            raise ActionClipError(f"the graph {self.path.name} gives something else than numbers: {self._cure}")
        return [np.asarray(output[:count], dtype=np.float32) for output in answer]

    def _run_session(self, names: list[str], rows: NDArray[Any]) -> list[Any]:
        import onnxruntime

        session, options = self._session, onnxruntime.RunOptions()
        try:
            answer: list[Any] = interruptible(lambda: session.run(names, {session.get_inputs()[0].name: rows}, options))
        except KeyboardInterrupt:
            options.terminate = True  # else the run would go on, for nobody
            raise
        return answer


def encode_tokens(graph: Graph, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
    """Run a text graph on (N, 77) zero-padded CLIP tokens → (N, D) features.

    Text towers are causal up to the end-of-text token, the largest id: columns behind it change nothing. So where the
    graph leaves the length open, texts are sorted by length and each batch is cut to its longest.

    Raises:
        ActionClipError: a text is longer than the fixed length that the graph declares.
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
    parts = _batches(lengths[order])
    sorted_features = np.concatenate([graph(tokens[order[part], : lengths[order[part]].max()]) for part in parts])
    features = np.empty_like(sorted_features)
    features[order] = sorted_features
    return features


def _batches(lengths: NDArray[np.intp]) -> list[slice]:
    """Cut texts, sorted by length, into batches of at most _MAX_TOKENS tokens, or of one text."""
    batches = []
    first = 0
    while first < len(lengths):
        # How many tokens a batch has from its first text up to each of the others, cut to the longest.
        tokens = np.arange(1, len(lengths) - first + 1) * lengths[first:]
        last = first + max(int(np.searchsorted(tokens, _MAX_TOKENS, side="right")), 1)
        batches.append(slice(first, last))
        first = last
    return batches


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0]


def _written(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
