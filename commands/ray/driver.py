"""Running `action-clip ray`: videos in batches through a pool of workers of Ray Data."""

import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

import pyarrow
import ray
import ray.data
import ray.exceptions

from action_clip.commands.progress import Progress, progress
from action_clip.commands.ray.worker import PROXY, TRIES, Classifier, Tally, Work
from action_clip.errors import ActionClipError
from action_clip.system.cores import usable_cores

_DIED = f"each of the {TRIES} workers that looked at it died: the file may be damaged, or need too much memory"
_MOST_LOST = 10
"""Batches that are given up, with none done, until it is clear that single videos are not why."""
_BATCHES_A_WORKER = 4
"""Least batches for each worker, so that all of them have work until the end."""
CPUS_A_WORKER = 4
"""CPUs of a worker, where nothing else is asked for: a model, of hundreds of MB, serves so many cores."""
_OBJECT_STORE = 256 << 20
"""Bytes of the store of a Ray of this machine. Paths and labels go through it, and no frames."""
_STARTS = 3
_ANSWER_S = 10.0
"""Seconds to connect to a cluster."""
_SCHEMA = pyarrow.schema(
    {"number": pyarrow.int64(), "path": pyarrow.string(), "source": pyarrow.binary(), "error": pyarrow.string()}
)

Batch = Sequence[tuple[str, str, str | None]]
"""Path, source and error of each video."""


@dataclass(frozen=True)
class Pool:
    """The workers: how many there are, and the CPUs and GPUs of each."""

    workers: int
    cpus: int
    gpus: float


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Use the cluster at the address during the block; for None, a Ray of this machine, which ends with the block.

    That one has no dashboard and listens on this machine alone (`command.py` sets what has to be set before Ray is
    imported).

    Raises ActionClipError where there is no cluster.
    """
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        if address is None:
            _start_here()
        else:
            _check_reachable(address)
            _init(address=address)
    except Exception as error:  # Ray raises bare Exception too
        where = "a Ray of this machine" if address is None else f"the Ray cluster at {address}"
        raise ActionClipError(
            f"{where} cannot be used ({_first_line(error)}): check that it runs, with the same versions of Ray and "
            "Python, and whether it asks for a token (RAY_AUTH_MODE=token)"
        ) from error
    with open(os.devnull, "w") as null, redirect_stdout(null):  # Ray prints there that a worker died
        try:
            yield
        finally:
            ray.shutdown()


def _start_here() -> None:
    """Start a Ray of this machine; again where that took longer than Ray waits, half a minute, on a busy machine."""
    local = {"num_cpus": usable_cores(), "object_store_memory": _OBJECT_STORE, "include_dashboard": False}
    for left in reversed(range(_STARTS)):
        try:
            with _no_requests():
                _init(address="local", **local)
            return
        except Exception:
            ray.shutdown()
            if not left:
                raise


@contextmanager
def _no_requests() -> Iterator[None]:
    """Let http requests of the processes that the block starts go nowhere; workers undo it (`Work.environment`).

    One of Ray's asks at metadata addresses of clouds which one it is in, also where usage statistics are off.
    """
    before = os.environ.get(PROXY)
    os.environ[PROXY] = "http://127.0.0.1:9"
    try:
        yield
    finally:
        del os.environ[PROXY]
        if before is not None:
            os.environ[PROXY] = before


def _check_reachable(address: str) -> None:
    """Raise OSError where nothing answers at an address with a port: Ray itself tries for minutes."""
    if match := re.fullmatch(r"\[?([^\[\]]+)\]?:(\d+)", address):
        socket.create_connection((match[1], int(match[2])), _ANSWER_S).close()


def _init(**options: Any) -> None:
    with _no_stderr():
        ray.init(**options, log_to_driver=False, logging_level=logging.CRITICAL)


@contextmanager
def _no_stderr() -> Iterator[None]:
    """Drop what is written to the process's stderr: Ray reports there that it was told to report nothing."""
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def pool_of(workers: int | None, cpus: int | None, gpus: float, *, grows: bool) -> Pool:
    """Return the pool of workers for the connected cluster.

    Args:
        workers: None: as many as there are CPUs and GPUs for.
        cpus, gpus: of each worker; None: CPUS_A_WORKER, or as many as the largest machine has.
        grows: whether the cluster may get machines when workers wait for them.

    Raises ActionClipError where no machine has so many CPUs or GPUs.
    """
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = cpus or max(1, min(CPUS_A_WORKER, int(max(machine.get("CPU", 0) for machine in machines))))
    places = sum(_places(machine, cpus, gpus) for machine in machines)
    if not places and not (grows and workers):
        raise ActionClipError(
            f"no machine of the cluster has {cpus} CPUs{f' and {gpus:g} GPUs' if gpus else ''} for a worker: give "
            "lower --cpus or --gpus, or --workers where the cluster gets machines on demand"
        )
    return Pool(workers or places, cpus, gpus)


def _places(machine: Mapping[str, float], cpus: int, gpus: float) -> int:
    """Return how many workers a machine has room for."""
    places = machine.get("CPU", 0) // cpus
    return int(min(places, machine.get("GPU", 0) // gpus) if gpus else places)


def classify_all(videos: Mapping[str, str], work: Work, pool: Pool, per_file: int, *, done: int) -> int:
    """Let the workers do the videos, and return how many of them have an error.

    A batch whose workers died each of TRIES times is divided into its videos, and a video whose workers did gets an
    error. So one video that ends its worker, as with a fault of a decoder or for want of memory, stops no others.

    Args:
        videos: what is opened for each, by its path in the output.
        work: what the workers do.
        pool: the workers.
        per_file: most videos of a batch, which becomes a file of the output.
        done: how many videos were done before, for the progress bar.

    Raises:
        ActionClipError: workers cannot work at all, or the cluster fails.
    """
    size = max(1, min(per_file, -(-len(videos) // (_BATCHES_A_WORKER * pool.workers))))
    todo = [(path, source, None) for path, source in videos.items()]
    with progress(len(videos) + done, done, beside_answers=False) as bar:
        rounds = _Rounds(work, pool, bar)
        lost = rounds.run([todo[start : start + size] for start in range(0, len(todo), size)])
        lost = rounds.run([[video] for batch in lost for video in batch])
        errors = [(path, source, _DIED) for batch in lost for path, source, _ in batch]
        rounds.run([errors[start : start + size] for start in range(0, len(errors), size)])
    return rounds.failed


class _Rounds:
    """Batches through the pool; `failed` counts the videos with errors so far."""

    def __init__(self, work: Work, pool: Pool, bar: Progress) -> None:
        self._work = work
        self._pool = pool
        self._bar = bar
        self.failed = 0

    def run(self, batches: Sequence[Batch]) -> list[Batch]:
        """Do the batches and return those whose workers died. Raises ActionClipError as `classify_all` does."""
        lost = []
        done = 0
        try:
            for report in self._reports(batches):
                batch = batches[report["number"]]
                if report["fault"] is not None:
                    raise ActionClipError(report["fault"])
                if report["failed"] is None:
                    lost.append(batch)
                    if not done and len(lost) == min(_MOST_LOST, max(2, len(batches))):
                        raise ActionClipError(
                            "every worker died: see whether the machines have enough memory, and the logs of Ray"
                        )
                    continue
                done += 1
                self.failed += report["failed"]
                self._bar.count(self.failed, len(batch))
        except ray.exceptions.RayError as error:
            raise ActionClipError(
                f"Ray has ended the run ({_first_line(error)}): see its logs; what is finished is kept, and the same "
                "command goes on with the rest"
            ) from error
        return lost

    def _reports(self, batches: Sequence[Batch]) -> Iterator[dict[str, Any]]:
        """Yield what the workers return for each batch, as they finish."""
        if not batches:
            return
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        tally = ray.remote(Tally).options(num_cpus=0).remote()
        reports = ray.data.from_arrow([_table(number, batch) for number, batch in enumerate(batches)]).map_batches(
            Classifier,
            fn_constructor_args=[self._work, tally],
            batch_size=len(batches[0]),  # each block is a batch; the last one may be smaller
            batch_format="pyarrow",
            # One task at a time: none waits behind another while other workers have nothing to do. By default, actors
            # that die are started again, and their tasks are done again, without an end: hence the Tally.
            compute=ray.data.ActorPoolStrategy(size=self._pool.workers, max_tasks_in_flight_per_actor=1),
            num_cpus=self._pool.cpus,
            num_gpus=self._pool.gpus or None,
        )
        for table in reports.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from table.to_pylist()


def _table(number: int, batch: Batch) -> pyarrow.Table:
    rows = [
        {"number": number, "path": path, "source": os.fsencode(source), "error": error} for path, source, error in batch
    ]
    return pyarrow.Table.from_pylist(rows, schema=_SCHEMA)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
