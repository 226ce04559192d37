"""Whether graphs say what PyTorch says: both run on the same real frames and texts."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from errors import ActionClipError
from export.assemble import Networks
from export.choices import Bound
from export.networks import ClassTokenHead
from export.precision import cosines
from models.catalog import ROLES
from tokenizer.bpe import CONTEXT_LENGTH, default_tokenizer
from tokenizer.prompts import DEFAULT_PROMPTS, fill
from video.preprocess import clip_tensor
from video.reader import read_clip
from video.sampling import uniform_indices

SAMPLE = Path(__file__).parents[1] / "samples" / "sample.gif"
LABELS = ("eating", "playing the piano", "riding a bike", "a person falls down in the street")


@dataclass(frozen=True)
class Difference:
    """Between a graph and its network on one input, features L2-normalised."""

    role: str
    rows: int
    """Texts, frames or videos at once."""
    length: int | None
    """Tokens, or frames of a video."""
    largest: float
    """max |Δ| over all numbers."""
    cosine: float
    """The least of all rows."""

    def exceeds(self, bound: Bound) -> bool:
        """Whether it is too large; a difference that is no number is."""
        return not (self.largest < bound.difference and self.cosine >= bound.cosine)


def examples(networks: Networks) -> dict[str, list[NDArray[Any]]]:
    """Inputs of each role's graph, real frames and prompts in several batch sizes and lengths.

    The first of each is for measuring what int8 costs: not many rows, as different as there are.
    """
    clip = read_clip(SAMPLE, partial(uniform_indices, count=networks.frames))
    frames = clip_tensor(clip.frames, networks.image.image_size, networks.mean, networks.std, networks.resize)
    mirrored = np.ascontiguousarray(frames[..., ::-1])
    images = [frames, np.concatenate([frames, mirrored])]
    if networks.image.temporal is None:
        images = [frames[:3], *images, frames[:1]]
    with torch.no_grad():
        seen, turned = (networks.image(torch.from_numpy(part)).numpy() for part in (frames, mirrored))
    clips = np.stack([seen, turned, seen[::-1]])
    fusions = [clips[:1], clips]
    if not isinstance(networks.fusion, ClassTokenHead):
        fusions.append(clips[:2, :3])
    prompts = fill(DEFAULT_PROMPTS, LABELS)
    return {
        "text": [_tokens(prompts), _tokens([LABELS[0]]), _tokens(prompts[:3], CONTEXT_LENGTH)],
        "image": images,
        "fusion": fusions,
    }


def _tokens(texts: list[str], length: int = 0) -> NDArray[np.int64]:
    """(N, L), L the longest text's length but at least `length`."""
    tokens = default_tokenizer().encode(texts)
    return tokens[:, : max(length, int(tokens.argmax(axis=1).max()) + 1)]


def compare(
    networks: Networks, graphs: Mapping[str, Path], inputs: Mapping[str, list[NDArray[Any]]]
) -> list[Difference]:
    """Run the ONNX file of each role and its network on the inputs of that role.

    Raises ActionClipError when a graph cannot be loaded, or does not take what the network takes.
    """
    differences = []
    for role in ROLES["zero-shot"]:
        founds = _answers(graphs[role], inputs[role])
        for value, found in zip(inputs[role], founds, strict=True):
            with torch.no_grad():
                wanted = networks.of(role)(torch.from_numpy(value)).numpy()
            length = None if role == "image" else value.shape[1]
            differences.append(_difference(role, len(value), length, wanted, found))
    return differences


def _answers(graph: Path, values: list[NDArray[Any]]) -> list[NDArray[np.float32]]:
    try:
        session = _session(graph)
        return [np.asarray(session.run(None, {session.get_inputs()[0].name: value})[0]) for value in values]
    except Exception as error:  # onnxruntime's exceptions have no base class of their own
        reason = " ".join(str(error).split())
        raise ActionClipError(
            f"the graph {graph} cannot be run on what the checkpoint takes ({reason}): check that they belong together"
        ) from error


def _difference(
    role: str, rows: int, length: int | None, wanted: NDArray[np.float32], found: NDArray[np.float32]
) -> Difference:
    if wanted.shape != found.shape or not np.isfinite(found).all():
        return Difference(role, rows, length, float("nan"), float("nan"))
    with np.errstate(invalid="ignore"):  # features that are all zero have no direction, and exceed every bound
        unit = [features / np.linalg.norm(features, axis=1, keepdims=True) for features in (wanted, found)]
    return Difference(role, rows, length, float(np.abs(unit[0] - unit[1]).max()), float(cosines(*unit).min()))


def difference_table(differences: Iterable[Difference], bound: Bound) -> str:
    """The differences as lines of text, those that exceed the bound marked."""
    lines = [f"{'graph':<8}{'rows':>6}{'length':>8}{'max |Δ|':>11}{'cosine':>11}"]
    for item in differences:
        length = "" if item.length is None else item.length
        mark = "  too much" if item.exceeds(bound) else ""
        lines.append(f"{item.role:<8}{item.rows:>6}{length:>8}{item.largest:>11.1e}{item.cosine:>11.7f}{mark}")
    return "\n".join(lines)


def node_counts(graph: Path) -> tuple[Counter[str], Counter[str]]:
    """How many nodes of each kind an ONNX file has, and how many onnxruntime runs after its fusions."""
    with TemporaryDirectory() as folder:
        optimised = Path(folder, "optimised.onnx")
        _session(graph, optimised)
        return _counts(graph), _counts(optimised)


def node_table(counts: Mapping[str, tuple[Counter[str], Counter[str]]]) -> str:
    """The node counts of each role as lines of text: exported → as onnxruntime runs it."""
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


def _session(graph: Path, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    """A session on the CPU; `optimised`: where to write the graph as it is run, its weights in a file beside it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
