"""A checkpoint as a folder of three graphs: exported, compared with PyTorch, and only then written."""

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from action_clip import __version__
from errors import ActionClipError
from export.assemble import Networks, assemble
from export.checkpoints import read_checkpoint
from export.choices import PRECISIONS
from export.graphs import role_graph
from export.precision import to_precision
from export.storage import model_facts, save_model
from export.verify import compare, difference_table, examples, node_counts, node_table
from models.catalog import ROLES, ModelSpec
from models.folder import folder_model
from models.metadata import read_metadata
from models.store import fetch_checkpoint, folder_of, install
from tokenizer.prompts import DEFAULT_PROMPTS

_LOG = logging.getLogger("action_clip")
# Bytes that a file of protocol buffers can hold.
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Wishes:
    """What a user may say of a checkpoint, see assemble and read_checkpoint."""

    fusion: str | None = None
    frames: int | None = None
    activation: str | None = None
    licence: str = "not stated"
    trust: bool = False


def export_folder(source: Path, folder: Path, precision: str, wishes: Wishes) -> str:
    """Write text.onnx, image.onnx and fusion.onnx of a checkpoint into `folder`; returns the tables of the comparison.

    Args:
        source: a file or folder, see read_checkpoint.
        folder: made if it is not there; of what is in it only these three files are replaced.
        precision: one of PRECISIONS.
        wishes: what the checkpoint does not say itself.

    Raises:
        ActionClipError: anything wrong with the checkpoint or the folder, or a graph differs from PyTorch by more than
            its precision allows; then nothing is written.
    """
    _check_folder(folder)
    networks = _networks(source, wishes)
    facts = model_facts(networks, name=folder.resolve().name, prompts=DEFAULT_PROMPTS, licence=wishes.licence)
    with _drafted(networks, precision, facts, folder.absolute().parent) as (graphs, tables):
        _place(graphs, folder)
    return tables


def export_named(spec: ModelSpec, precision: str, folder: Path | None = None) -> str:
    """Download the checkpoint of a model of the catalog, export it and put the graphs where the program looks for them.

    Args:
        spec: a model with a checkpoint.
        precision: one of PRECISIONS.
        folder: for the graphs, in place of the model's own.

    Returns and raises as export_folder, and what downloading raises.
    """
    if folder is not None:
        _check_folder(folder)
    source = fetch_checkpoint(spec)
    networks = _networks(source, Wishes(frames=spec.frames))
    if networks.image_size != spec.image_size:
        raise ActionClipError(
            f"{source} takes images of {networks.image_size} pixels, the catalog says {spec.image_size}: "
            "delete it to download it again"
        )
    facts = model_facts(spec, name=spec.name, prompts=spec.prompts, licence=spec.licence)
    parent = folder_of(spec) if folder is None else folder.absolute().parent
    with _drafted(networks, precision, facts, parent) as (graphs, tables):
        if folder is None:
            install(spec, graphs)
        else:
            _place(graphs, folder)
    return tables


def check(folder: Path, source: Path, *, trust: bool = False) -> str:
    """Compare an exported folder with the checkpoint that it was made from; returns the table.

    Raises:
        ActionClipError: one of them cannot be read, or they differ by more than the graphs' precision allows.
    """
    spec, graphs = folder_model(folder)
    metadata = read_metadata(graphs["image"])
    precision = metadata.get("precision")
    if precision not in PRECISIONS:
        raise ActionClipError(f"{folder} does not say its precision: only what python -m export wrote can be checked")
    networks = _networks(
        source,
        Wishes(fusion=metadata.get("fusion"), frames=spec.frames, activation=metadata.get("activation"), trust=trust),
    )
    if metadata.get("checkpoint_sha256") != networks.checkpoint.sha256:
        _LOG.warning("%s was exported from another file than %s: their sha256 differ", folder, source)
    return _verified(networks, precision, graphs, examples(networks))


def _networks(source: Path, wishes: Wishes) -> Networks:
    checkpoint = read_checkpoint(source, trust=wishes.trust)
    networks = assemble(checkpoint, fusion=wishes.fusion, frames=wishes.frames, activation=wishes.activation)
    image = networks.image
    _LOG.info(
        "%s: %s, %d frames, %s, %d×%d pixels%s",
        source, checkpoint.layout, networks.frames, networks.head, image.image_size, image.image_size,
        f", {image.temporal}" if image.temporal else "",
    )  # fmt: skip
    return networks


def _check_folder(folder: Path) -> None:
    """Before the work begins, whether its result could be written."""
    parent = folder.absolute().parent
    if not parent.is_dir():
        raise ActionClipError(f"there is no folder {parent}: create it first")
    if folder.exists() and not folder.is_dir():
        raise ActionClipError(f"{folder} is a file: name a folder")
    for place in (parent, folder):
        if place.exists() and not os.access(place, os.W_OK):
            raise ActionClipError(f"{place} cannot be written: name a folder of your own")
    others = [graph.name for graph in folder.glob("*.onnx") if graph.stem not in ROLES["zero-shot"]]
    if others:
        raise ActionClipError(f"{folder} already holds {', '.join(sorted(others))}: name a folder of its own")


def _place(graphs: Mapping[str, Path], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for role, graph in graphs.items():
        os.replace(graph, folder / f"{role}.onnx")


def _check_sizes(networks: Networks, precision: str) -> None:
    """Before the work begins, whether each graph fits a file; int8 comes from the fp32 graph, which must fit too."""
    for role in ROLES:
        numbers = sum(weight.numel() for weight in networks.of(role).state_dict().values())
        size = numbers * (2 if precision == "fp16" else 4)
        if size > _LARGEST:
            cure = "only smaller models can be exported" if precision == "fp16" else "give --precision fp16"
            raise ActionClipError(f"the {role} graph has {size / 1e9:.1f} GB, an ONNX file at most 2.1: {cure}")


@contextmanager
def _drafted(
    networks: Networks, precision: str, facts: Mapping[str, str], parent: Path
) -> Iterator[tuple[dict[str, Path], str]]:
    """The three graphs, found to be right, in a folder in `parent` that is deleted in the end; and the tables."""
    own = {
        "precision": precision,
        "fusion": networks.head,
        "activation": networks.activation,
        "checkpoint": networks.checkpoint.layout,
        "checkpoint_sha256": networks.checkpoint.sha256,
        "exporter": f"action_clip {__version__}",
    }
    _check_sizes(networks, precision)
    inputs = examples(networks)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=parent) as draft:
        graphs = {}
        for role in ROLES["zero-shot"]:
            _LOG.info("exporting the %s graph", role)
            model = to_precision(role_graph(networks, role), precision, inputs[role][0])
            graphs[role] = Path(draft, f"{role}.onnx")
            save_model(model, graphs[role], {**facts, **own, "role": role})
            del model
        table = node_table({role: node_counts(graph) for role, graph in graphs.items()})
        yield graphs, f"{table}\n\n{_verified(networks, precision, graphs, inputs)}"


def _verified(
    networks: Networks, precision: str, graphs: Mapping[str, Path], inputs: Mapping[str, list[NDArray[Any]]]
) -> str:
    """The table of differences; ActionClipError, after logging it, where one is too large."""
    bound = PRECISIONS[precision]
    differences = compare(networks, graphs, inputs)
    table = difference_table(differences, bound)
    roles = sorted({item.role for item in differences if item.exceeds(bound)})
    if roles:
        _LOG.warning("%s", table)
        raise ActionClipError(
            f"the {' and the '.join(roles)} graph {'differs' if len(roles) == 1 else 'differ'} from PyTorch by more "
            f"than {precision} allows (max |Δ| below {bound.difference:g}, cosine at least {bound.cosine:g}): try "
            "another precision"
        )
    return table
