"""What a worker of `action-clip ray` does: a batch of videos becomes a file of the output."""

import os
import platform
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow
import ray

from action_clip.commands.models import graph_hashes
from action_clip.commands.ray.output import check_run, failures_in, part_name, write_part
from action_clip.commands.ray.storage import is_storage_address, local_copy, located
from action_clip.errors import ActionClipError
from action_clip.models.actionclip import ActionClip
from action_clip.models.loading import load
from action_clip.models.model_graphs import FoundModel, find_model
from action_clip.models.prediction import Failure, Prediction
from action_clip.models.scoring import LabelBank
from action_clip.models.store.installation import fetch
from action_clip.system.files import draft_folder
from action_clip.system.terminal import sentence

if TYPE_CHECKING:
    from action_clip.models.closed_set import ClosedSetModel

PROXY = "http_proxy"
"""The environment variable of the proxy for http."""
TRIES = 3
"""How often a batch is begun, where its workers die."""
_REPORT = pyarrow.schema({"number": pyarrow.int64(), "failed": pyarrow.int64(), "fault": pyarrow.string()})
_COPIES = 8
"""Videos at addresses that are copied at a time, before they are asked for."""

Row = dict[str, Any]
"""A row of the output; what is null in it may be missing."""


@dataclass(frozen=True)
class Work:
    """What every worker is to do.

    Attributes:
        output: path or address of the output's folder.
        run: the name of this run, of which the output knows the latest (`check_run`).
        model: the arguments of `load`.
        graphs: the hashes of the model's graphs: a worker whose files are others answers nothing.
        bank: the labels; None for a closed set.
        how: the other arguments of `classify_many`.
        environment: values of environment variables; None for one that is not set.
    """

    output: str
    run: str
    model: Mapping[str, Any]
    graphs: list[list[str]] | None
    bank: LabelBank | None
    how: Mapping[str, Any]
    environment: Mapping[str, str | None]


class Tally:
    """An actor of Ray that counts how often batches were begun, which outlives workers that die."""

    def __init__(self) -> None:
        """Begin with no batch."""
        self._counts: Counter[int] = Counter()

    def begin(self, number: int) -> int:
        """Count a batch that a worker begins, and return how often it was begun before."""
        self._counts[number] += 1
        return self._counts[number] - 1


class Classifier:
    """A worker: an actor of Ray, with one model that is loaded with its first batch."""

    def __init__(self, work: Work, tally: Any) -> None:
        """Keep what is to be done, and the handle of the Tally; an error here would make Ray start the actor again."""
        self._work = work
        self._tally = tally

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        """Do a batch, and return a row that says so.

        Args:
            batch: columns `number`, the same in every row; `path`, as in the output; `source`, what is opened; `error`,
                which is written without opening the video where it is not null.

        Returns:
            Columns `number`; `failed`, how many videos have an error, null where the batch was given up because workers
            died of it; `fault`, null, or a sentence that says why this worker can do nothing.
        """
        number, failed, fault = batch["number"][0].as_py(), None, None
        try:
            if ray.get(self._tally.begin.remote(number)) < TRIES:
                failed = self._do(batch.to_pylist())
        except ActionClipError as error:
            fault = sentence(error)
        except Exception as error:
            fault = f"a worker failed ({type(error).__name__}: {sentence(error)})"
        return pyarrow.Table.from_pylist([{"number": number, "failed": failed, "fault": fault}], schema=_REPORT)

    def _do(self, batch: list[dict[str, Any]]) -> int:
        for name, value in self._work.environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        place = located(self._work.output)
        done = failures_in(place, part_name([video["path"] for video in batch]))
        if done is not None:  # the worker died, or its answer was lost, after the file was written
            return done
        rows = self._rows(batch)
        check_run(place, self._work.run)
        write_part(place, rows)
        return sum(row.get("error") is not None for row in rows)

    def _rows(self, batch: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Return the row of each video of a batch."""
        rows = [{"path": video["path"], "error": video["error"]} for video in batch]
        numbers = [number for number, video in enumerate(batch) if video["error"] is None]
        sources = {number: os.fsdecode(batch[number]["source"]) for number in numbers}
        with draft_folder() as folder:
            for number, answer in self._answers(sources, folder):
                rows[number] = {"path": batch[number]["path"], **answer}
        return rows

    def _answers(self, sources: Mapping[int, str], folder: Path) -> Iterator[tuple[int, Row]]:
        """Yield the number of each video and the columns of its answer; `folder` is for copies."""
        readable: list[tuple[int, str, str]] = []
        unreadable: dict[int, ActionClipError] = {}

        def videos() -> Iterator[str]:
            for number, video in _copied(sources, folder):
                if isinstance(video, ActionClipError):
                    unreadable[number] = video
                else:
                    readable.append((number, sources[number], video))
                    yield video

        for place, answer in enumerate(self._classify(videos())):
            number, source, video = readable[place]
            if isinstance(answer, Prediction):
                yield number, _columns(answer)
            else:
                yield number, {"error": sentence(answer.error).replace(video, source)}
            if video != source:
                Path(video).unlink(missing_ok=True)
        yield from ((number, {"error": sentence(error)}) for number, error in unreadable.items())

    @cached_property
    def _model(self) -> "ActionClip | ClosedSetModel":
        """The model. Raises ActionClipError where its files are not here, or not those of the machine that asks."""
        work = self._work
        if graphs_of(find_model(work.model["model"]), keep=work.model["cache"]) != work.graphs:
            raise ActionClipError(
                f"the model {work.model['model']} on {platform.node()} has other graphs than the one that was asked "
                "for: give every machine the same files"
            )
        return load(**work.model)

    @cached_property
    def _classify(self) -> Callable[[Iterable[str]], Iterator[Prediction | Failure]]:
        model = self._model
        if isinstance(model, ActionClip):
            assert self._work.bank is not None
            return partial(model.classify_many, labels=self._work.bank, **self._work.how)
        return partial(model.classify_many, **self._work.how)


def graphs_of(found: FoundModel, *, keep: bool) -> list[list[str]] | None:
    """Return the hashes of the model's graphs, as `graph_hashes`, after downloading those that are not on this disk."""
    if found.paths is None:
        fetch(found.spec, keep=keep)
    return graph_hashes(found, keep=keep)


def _columns(answer: Prediction) -> Row:
    best = answer.ranked[0]
    return {
        "label": best.label,
        "probability": best.probability,
        "labels": [each.label for each in answer.ranked],
        "probabilities": [each.probability for each in answer.ranked],
        "features": answer.video_features,
        "duration_s": answer.duration_s,
    }


def _copied(sources: Mapping[int, str], folder: Path) -> Iterator[tuple[int, str | ActionClipError]]:
    """Yield the number of each video and a path or URL that the program opens, or why there is none.

    Videos at addresses of file systems are copied into `folder`, several at a time and some ahead.
    """
    waiting: deque[tuple[int, Future[str | ActionClipError]]] = deque()
    with ThreadPoolExecutor(_COPIES) as pool:
        for number, source in sources.items():
            waiting.append((number, pool.submit(_opened, source, folder)))
            if len(waiting) == _COPIES:
                number, video = waiting.popleft()
                yield number, video.result()
        for number, video in waiting:
            yield number, video.result()


def _opened(source: str, folder: Path) -> str | ActionClipError:
    if not is_storage_address(source):
        return source
    try:
        return str(local_copy(source, folder))
    except ActionClipError as error:
        return error
