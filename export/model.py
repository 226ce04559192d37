"""Exporting a checkpoint to a folder of graphs, which are compared with PyTorch before they get their final place."""

import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from action_clip import __version__
from action_clip.errors import ActionClipError
from action_clip.export.choices import PRECISIONS
from action_clip.export.clip.model import clip_model
from action_clip.export.onnx_writing import model_facts, save_model
from action_clip.export.precision import to_precision
from action_clip.export.source_model import ExportOptions, SourceModel
from action_clip.export.timesformer.checkpoints import read_timesformer
from action_clip.export.timesformer.model import timesformer_model
from action_clip.export.verify import compare, difference_table, node_counts, node_table
from action_clip.models.catalog.metadata import read_metadata
from action_clip.models.catalog.model_directory import read_model_directory
from action_clip.models.catalog.specs import ROLES, ModelSpec
from action_clip.models.store.installation import fetch_checkpoint, install
from action_clip.models.store.locations import directory_of
from action_clip.system.files import draft_folder, writing_into

_LOG = logging.getLogger("action_clip")
# Bytes: the limit of protocol buffers.
_LARGEST_FILE = 2**31 - 1


def export_folder(source: Path, folder: Path, kind: str, precision: str, options: ExportOptions) -> str:
    """Write the graphs of a checkpoint into `folder`, each as ROLE.onnx, and return the tables of the comparison.

    Args:
        source: a file or folder, see read_checkpoint and read_timesformer.
        folder: made if it does not exist; other files in it stay.
        kind: the kind of model, as in the catalog.
        precision: one of PRECISIONS.
        options: what the checkpoint does not say itself.

    Raises:
        ActionClipError: the checkpoint or the folder is not usable, or a graph differs from PyTorch by more than its
            precision allows; then nothing is written.
    """
    _check_folder(folder, kind)
    model = _model(source, kind, options)
    facts = model_facts(model.spec(folder.resolve().name, options.licence))
    with _drafted(model, precision, facts, folder.absolute().parent) as (graphs, tables):
        _place(graphs, folder)
    return tables


def export_named(spec: ModelSpec, precision: str, folder: Path | None = None, *, trust: bool = False) -> str:
    """Download the checkpoint of a model of the catalog, export it, and return the tables of the comparison.

    The graphs go where the program looks for them, or into `folder`.

    Args:
        spec: a model with a checkpoint.
        precision: one of PRECISIONS.
        folder: for the graphs, in place of the model's own.
        trust: see read_checkpoint.

    Raises:
        ActionClipError: as export_folder; or the download fails, or the checkpoint is not as the catalog says.
    """
    if folder is not None:
        _check_folder(folder, spec.kind)
    _LOG.info("fetching the checkpoint of %s", spec.name)
    source = fetch_checkpoint(spec)
    model = _model(source, spec.kind, ExportOptions(frames=spec.frames, trust=trust))
    own = model.spec(spec.name, spec.licence)
    for fact, of_checkpoint, of_catalog in (
        ("takes images of {} pixels", own.image_size, spec.image_size),
        ("tells {} classes apart", len(own.classes), len(spec.classes)),
    ):
        if of_checkpoint != of_catalog:
            raise ActionClipError(
                f"{source} {fact.format(of_checkpoint)}, the catalog says {of_catalog}: delete it to download it again"
            )
    parent = directory_of(spec) if folder is None else folder.absolute().parent
    with _drafted(model, precision, model_facts(spec), parent) as (graphs, tables):
        if folder is None:
            install(spec, graphs)
        else:
            _place(graphs, folder)
    return tables


def check(folder: Path, source: Path, *, trust: bool = False) -> str:
    """Compare an exported folder with the checkpoint that it was made from, and return the table of differences.

    Raises:
        ActionClipError: one of them cannot be read, or they differ by more than the graphs' precision allows.
    """
    spec, graphs = read_model_directory(folder)
    if spec.head:
        raise ActionClipError(f"{folder} was made by action-clip train: name the folder that was exported")
    metadata = read_metadata(graphs[ROLES[spec.kind][0]])
    precision = metadata.get("precision")
    if precision not in PRECISIONS:
        raise ActionClipError(f"{folder} does not say its precision: only what action-clip export wrote can be checked")
    options = ExportOptions(metadata.get("fusion"), spec.frames, metadata.get("activation"), trust=trust)
    model = _model(source, spec.kind, options)
    if metadata.get("checkpoint_sha256") != model.sha256:
        _LOG.warning("%s was exported from another file than %s: their sha256 differ", folder, source)
    return _verified(model, precision, graphs, model.examples())


def _model(source: Path, kind: str, options: ExportOptions) -> SourceModel:
    read = {"zero-shot": clip_model, "closed-set": timesformer_model}[kind]
    _LOG.info("reading %s%s, and building its networks", source, _size(source))
    try:
        model = read(source, options)
    except ActionClipError:
        if kind == "zero-shot" and _is_timesformer(source, options.trust):
            raise ActionClipError(
                f"{source} is of a TimeSformer, not of a CLIP: action-clip export timesformer {source} exports it"
            ) from None
        raise
    spec = model.spec("", "")
    details = ", ".join(model.details().values())
    _LOG.info(
        "%s: %s, %d frames of %d×%d pixels, %s",
        source, model.layout, spec.frames, spec.image_size, spec.image_size, details,
    )  # fmt: skip
    return model


def _size(source: Path) -> str:
    """Return ", 12.3 MB" for a file; "" for a folder, which may hold more than is read, and for a missing path."""
    with suppress(OSError):
        if source.is_file():
            return f", {source.stat().st_size / 1e6:.1f} MB"
    return ""


def _is_timesformer(source: Path, trust: bool) -> bool:
    with suppress(ActionClipError):
        read_timesformer(source, trust=trust)
        return True
    return False


def _check_folder(folder: Path, kind: str) -> None:
    """Raise ActionClipError where graphs could not be written into `folder`, or it has graphs of another kind."""
    parent = folder.absolute().parent
    if not parent.is_dir():
        raise ActionClipError(f"there is no folder {parent}: create it first")
    if folder.exists() and not folder.is_dir():
        raise ActionClipError(f"{folder} is a file: name a folder")
    for place in (parent, folder):
        if place.exists() and not os.access(place, os.W_OK):
            raise ActionClipError(f"{place} cannot be written: name a folder of your own")
    others = [graph.name for graph in folder.glob("*.onnx") if graph.stem not in ROLES[kind]]
    if others:
        raise ActionClipError(f"{folder} already holds {', '.join(sorted(others))}: name a folder of its own")


def _place(graphs: Mapping[str, Path], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for role, graph in graphs.items():
        os.replace(graph, folder / f"{role}.onnx")


def _check_sizes(model: SourceModel, precision: str) -> None:
    """Raise ActionClipError where a graph is too large for a file; int8 is made from fp32, which has to fit."""
    for role in model.networks:
        size = _count_weights(model, role) * (2 if precision == "fp16" else 4)
        if size > _LARGEST_FILE:
            cure = "only smaller models can be exported" if precision == "fp16" else "give --precision fp16"
            raise ActionClipError(f"the {role} graph has {size / 1e9:.1f} GB, an ONNX file at most 2.1: {cure}")


def _count_weights(model: SourceModel, role: str) -> int:
    return sum(weight.numel() for weight in model.networks[role].state_dict().values())


@contextmanager
def _drafted(
    model: SourceModel, precision: str, facts: Mapping[str, str], parent: Path
) -> Iterator[tuple[dict[str, Path], str]]:
    """Yield the verified graphs, in a temporary folder within `parent`, and the tables of the comparison.

    Raises ActionClipError where a graph is too large or differs too much, or `parent` cannot be written.
    """
    own = {
        "precision": precision,
        **model.details(),
        "checkpoint": model.layout,
        "checkpoint_sha256": model.sha256,
        "exporter": f"action_clip {__version__}",
    }
    _check_sizes(model, precision)
    _LOG.info("running PyTorch's networks on the sample's frames")
    inputs = model.examples()
    with writing_into(parent), draft_folder(parent, ".export-") as draft:
        graphs = {}
        for role in model.networks:
            _LOG.info("exporting the %s graph, %s weights", role, f"{_count_weights(model, role):,}")
            graph = model.graph(role)
            if precision != "fp32":
                _LOG.info("turning the %s graph, %.1f MB, into %s", role, graph.ByteSize() / 1e6, precision)
                graph = to_precision(graph, precision, inputs[role][0])
            graphs[role] = draft / f"{role}.onnx"
            _LOG.info("checking and writing the %s graph, %.1f MB", role, graph.ByteSize() / 1e6)
            save_model(graph, graphs[role], {**facts, **own, "role": role})
            del graph
        _LOG.info("counting the nodes that onnxruntime runs")
        table = node_table({role: node_counts(graph) for role, graph in graphs.items()})
        yield graphs, f"{table}\n\n{_verified(model, precision, graphs, inputs)}"


def _verified(
    model: SourceModel, precision: str, graphs: Mapping[str, Path], inputs: Mapping[str, list[NDArray[Any]]]
) -> str:
    """Return the table of differences; where one is too large, log it and raise ActionClipError."""
    bound = PRECISIONS[precision]
    differences = compare(model.networks, graphs, inputs)
    table = difference_table(differences, bound)
    roles = sorted({item.role for item in differences if item.exceeds(bound)})
    if roles:
        _LOG.warning(table)
        allowed = f"cosine at least {bound.cosine:g}"
        if math.isfinite(bound.difference):
            allowed = f"max |Δ| below {bound.difference:g}, {allowed}"
        raise ActionClipError(
            f"the {' and the '.join(roles)} graph {'differs' if len(roles) == 1 else 'differ'} from PyTorch by more "
            f"than {precision} allows ({allowed}): try another precision"
        )
    return table
