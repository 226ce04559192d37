"""Comparison of graphs with PyTorch: both run on the same inputs, which are real frames and texts."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from action_clip.errors import ActionClipError
from action_clip.export.choices import Bound
from action_clip.export.precision import cosines, cpu_session
from action_clip.system.files import draft_folder

_LOG = logging.getLogger("action_clip")


@dataclass(frozen=True)
class Difference:
    """The difference of a graph and its network on one input, after L2-normalising each row of the output."""

    role: str
    output: str
    """The role, with the name of the output where there are several."""
    rows: int
    """Number of texts, frames or videos in the input."""
    length: int | None
    """Number of tokens in a text, or of frames in a video; None for single images."""
    largest: float
    """max |Δ| of all rows."""
    cosine: float
    """The least cosine of all rows."""

    def exceeds(self, bound: Bound) -> bool:
        """Return whether the difference is too large; NaN is."""
        return not (self.largest < bound.difference and self.cosine >= bound.cosine)


def compare(
    networks: Mapping[str, nn.Module], graphs: Mapping[str, Path], inputs: Mapping[str, list[NDArray[Any]]]
) -> list[Difference]:
    """Run the ONNX file of each role and its network on the inputs of that role, and return their differences.

    Raises ActionClipError when a graph cannot be loaded, or does not take what the network takes.
    """
    differences = []
    for role, network in networks.items():
        _LOG.info("comparing the %s graph with PyTorch", role)
        names, results = _run(graphs[role], inputs[role])
        for value, outputs in zip(inputs[role], results, strict=True):
            with torch.no_grad():
                result = network(torch.from_numpy(value))
            references = result if isinstance(result, tuple) else (result,)
            # The second axis of everything but single images is a length.
            length = None if role == "image" else value.shape[1]
            for name, reference, output in zip(names, references, outputs, strict=True):
                label = role if len(names) == 1 else f"{role} {name}"
                differences.append(_difference(role, label, len(value), length, reference.numpy(), output))
    return differences


def _run(graph: Path, values: list[NDArray[Any]]) -> tuple[list[str], list[list[NDArray[np.float32]]]]:
    """Return the names of the graph's outputs, and the outputs for each value. Raises as `compare` does."""
    try:
        session = cpu_session(graph)
        name = session.get_inputs()[0].name
        results = [[np.asarray(output) for output in session.run(None, {name: value})] for value in values]
        return [output.name for output in session.get_outputs()], results
    except Exception as error:  # onnxruntime's exceptions have no base class of their own
        reason = " ".join(str(error).split())
        raise ActionClipError(
            f"the graph {graph} cannot be run on what the checkpoint takes ({reason}): check that they belong together"
        ) from error


def _difference(
    role: str, label: str, rows: int, length: int | None, reference: NDArray[np.float32], output: NDArray[np.float32]
) -> Difference:
    if reference.shape != output.shape or not np.isfinite(output).all():
        return Difference(role, label, rows, length, float("nan"), float("nan"))
    with np.errstate(invalid="ignore"):  # features that are all zero give NaN, which exceeds every bound
        unit = [features / np.linalg.norm(features, axis=1, keepdims=True) for features in (reference, output)]
    return Difference(role, label, rows, length, float(np.abs(unit[0] - unit[1]).max()), float(cosines(*unit).min()))


def difference_table(differences: Iterable[Difference], bound: Bound) -> str:
    """Return the differences as lines of text, with a mark on those that exceed the bound."""
    lines = [f"{'graph':<16}{'rows':>6}{'length':>8}{'max |Δ|':>11}{'cosine':>11}"]
    for item in differences:
        length = "" if item.length is None else item.length
        mark = "  too much" if item.exceeds(bound) else ""
        lines.append(f"{item.output:<16}{item.rows:>6}{length:>8}{item.largest:>11.1e}{item.cosine:>11.7f}{mark}")
    return "\n".join(lines)


def node_counts(graph: Path) -> tuple[Counter[str], Counter[str]]:
    """Return the number of nodes of each kind in an ONNX file, and after onnxruntime's optimisation of it."""
    with draft_folder() as folder:
        optimised = folder / "optimised.onnx"
        cpu_session(graph, optimised)
        return _counts(graph), _counts(optimised)


def node_table(counts: Mapping[str, tuple[Counter[str], Counter[str]]]) -> str:
    """Return the node counts of each role as lines of text: exported → optimised by onnxruntime."""
    kinds = sorted({kind for pair in counts.values() for counter in pair for kind in counter})
    lines = [f"{'nodes':<24}" + "".join(f"{role:>14}" for role in counts)]
    for kind in [*kinds, "all"]:
        cells = []
        for before, after in counts.values():
            pair = (before.total(), after.total()) if kind == "all" else (before[kind], after[kind])
            cells.append(f"{pair[0]} → {pair[1]}" if any(pair) else "")
        lines.append(f"{kind:<24}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


def _counts(graph: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(graph, load_external_data=False).graph.node)
