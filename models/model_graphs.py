"""The graphs of one model: finding them, and making their sessions when they are first needed."""

import logging
import os
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from action_clip.errors import ActionClipError
from action_clip.models.catalog.specs import HEAD, ModelSpec, catalog, find
from action_clip.models.runtime.devices import check_device
from action_clip.system.cores import usable_cores
from action_clip.system.forks import reset_in_children

if TYPE_CHECKING:
    from action_clip.models.runtime.graph import Graph

_LOG = logging.getLogger("action_clip")
_CLIPS_PER_RUN = 32
"""Most clips of one run on a GPU."""


class FoundModel(NamedTuple):
    """A model of the catalog or of a folder, as `find_model` returns it."""

    spec: ModelSpec
    paths: dict[str, Path] | None
    """The graphs of a folder by role; None for a model of the catalog."""
    name: str
    """The name, alias or folder as it was given."""


ModelName = str | os.PathLike[str] | FoundModel


def find_model(model: ModelName) -> FoundModel:
    """Return the model of that name, alias or folder.

    Raises:
        ActionClipError: there is no such model, or the folder has none.
    """
    if isinstance(model, FoundModel):
        return model
    if not isinstance(model, str | os.PathLike):
        raise ActionClipError(f"the model is a {type(model).__name__}: give its name or its folder")
    name = os.fspath(model)
    spec = find(name)
    if spec is not None:
        return FoundModel(spec, None, name)
    # Unlike Path.is_dir, this raises nothing for a name that cannot be a path.
    if os.path.isdir(name):
        from action_clip.models.catalog.model_directory import read_model_directory

        return FoundModel(*read_model_directory(Path(name)), name)
    raise ActionClipError(
        f"there is no model or folder '{name}': the models are {', '.join(known.name for known in catalog())}"
    )


class ModelGraphs:
    """The graphs of one model by role, with the device and threads that they run on.

    The constructor is cheap: graphs are downloaded, and sessions made, when they are first needed.
    """

    def __init__(
        self, model: ModelName, kind: str, *, device: str, threads: int | None, cache: bool, prepack: bool
    ) -> None:
        """Find the model.

        Args:
            model: a name of the catalog, a folder, or what `find_model` has returned.
            kind: the expected kind of model, "zero-shot" or "closed-set".
            device: as for `Graph`.
            threads: CPU threads, at most one a core; None: one a core.
            cache: keep sessions and text features on disk.
            prepack: as for ActionClip.

        Raises:
            ActionClipError: there is no such model of that kind, no such device, or `threads` is below 1.
        """
        self.spec, self._paths, name = find_model(model)
        if self.spec.kind != kind:
            raise ActionClipError(f"{self.spec.name} is a {self.spec.kind} model, not {kind}: use action_clip.load")
        check_device(device)
        if threads is not None and not hasattr(threads, "__index__"):
            raise ActionClipError(f"threads is {threads!r}: give a whole number above 0")
        if threads is not None and threads < 1:
            raise ActionClipError(f"threads is {threads}: give a number above 0")
        self.name = name if self._paths is None else os.path.abspath(name)
        self.device = device
        self.threads = None if threads is None else _at_most_one_a_core(threads)
        self.cache = cache
        self.prepack = prepack
        self._graphs: dict[str, Graph] = {}
        self._lock = Lock()
        reset_in_children(self)

    def reset_after_fork(self) -> None:
        """Make a new lock in a forked child: another thread of the parent may have held the old one."""
        self._lock = Lock()

    def __getitem__(self, role: str) -> "Graph":
        """Return the graph of that role. Raises ActionClipError as `paths` does."""
        with self._lock:  # threads that work at the same time share the graphs
            if not self._graphs:
                self._graphs = self._make()
            return self._graphs[role]

    def _make(self) -> dict[str, "Graph"]:
        from action_clip.models.runtime.graph import Graph
        from action_clip.models.store.locations import repair_hint

        cure = repair_hint(self.spec)
        return {
            role: Graph(
                path,
                # A head is a product of small matrices: a GPU would round it, and be no faster.
                device="cpu" if role == HEAD else self.device,
                threads=self.threads,
                # An image graph may let the frames of a clip attend to each other.
                group=self.spec.frames if role == "image" else 1,
                keep=self.cache,
                spins=role != "text",  # texts are encoded while the video is decoded
                prepack=self.prepack or role == "text",  # many labels have many prompts
                cure=cure,
            )
            for role, path in self.paths().items()
        }

    def paths(self) -> dict[str, Path]:
        """Return the graphs' files by role; missing ones are downloaded. Raises ActionClipError as `fetch` does."""
        if self._paths is None:
            from action_clip.models.store.installation import fetch

            self._paths = fetch(self.spec, keep=self.cache)
        return self._paths

    def start(self) -> None:
        """Make the sessions of the graphs for videos now. Raises ActionClipError as `Graph.start` does."""
        for role in self.spec.video_roles:
            self[role].start()

    def with_one_thread(self) -> "ModelGraphs":
        """Return the same graphs with sessions of their own, whose runs use one thread each: for runs side by side."""
        name = FoundModel(self.spec, self._paths, self.name)
        return ModelGraphs(name, self.spec.kind, device=self.device, threads=1, cache=self.cache, prepack=True)

    def close(self) -> None:
        """Release the sessions. Runs in progress end as usual; the next one makes new sessions."""
        with self._lock:
            self._graphs = {}

    @property
    def is_on_disk(self) -> bool:
        """Whether all graphs are on this disk, so that none is to be downloaded or exported."""
        from action_clip.models.store.locations import locate

        return self._paths is not None or locate(self.spec) is not None

    @property
    def thread_count(self) -> int:
        """Number of threads for decoding and preprocessing."""
        return self.threads or usable_cores()

    @property
    def clips_per_run(self) -> int:
        """Most clips of one run. A core runs one at a time: more of them are no faster there."""
        from action_clip.models.runtime.devices import CPU, provider

        return 1 if provider(self.device) == CPU else _CLIPS_PER_RUN

    @property
    def works_in_background(self) -> bool:
        """Whether sessions and label banks are made while the video is decoded.

        They are not where there is one thread only, nor where a download, which may fail, comes first.
        """
        return self.thread_count != 1 and self.is_on_disk


def _at_most_one_a_core(threads: int) -> int:
    """Clamp the number of threads: more of them than cores wait for each other, for minutes."""
    cores = usable_cores()
    if threads > cores:
        _LOG.warning("%d threads are asked for, and there are cores for %d: that many are used", threads, cores)
    return min(threads, cores)
