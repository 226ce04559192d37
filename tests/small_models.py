"""Small random models in the real contract, as ONNX folders and as plain numpy, for tests of everything around them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, parser
from PIL import Image

Floats = NDArray[np.float32]
WIDTH = 16
PATCH = 8
MEAN, STD = (0.4, 0.5, 0.6), (0.3, 0.25, 0.2)
CLASSES = ("abseiling", "dancing", "drinking", "eating", "läuft", "reading", "zumba")
_TABLE = 97  # token embeddings; tokens count modulo this


@dataclass(frozen=True)
class SmallModel:
    """Weights of the three graphs; the methods say in numpy what the graphs must return."""

    words: Floats
    text_out: Floats
    patches: Floats
    positions: Floats | None
    attention: Floats
    size: int
    """Side of the frames in pixels; their short side before the crop is a quarter more."""

    def text(self, tokens: NDArray[np.int64]) -> Floats:
        """Mean of the embeddings up to the end-of-text token, through a matrix."""
        rows = [self.words[row[: row.argmax() + 1] % _TABLE].mean(axis=0) for row in tokens]
        features: Floats = np.stack(rows) @ self.text_out
        return features

    def image(self, tensor: Floats) -> Floats:
        """Patch means, through a matrix."""
        side = self.size // PATCH
        means = tensor.reshape(len(tensor), 3, side, PATCH, side, PATCH).mean(axis=(3, 5))
        features: Floats = means.reshape(len(tensor), -1) @ self.patches
        return features

    def fusion(self, features: Floats) -> Floats:
        """Mean over the frames; with a transformer head, of the frames plus their attention to each other."""
        if self.positions is None:
            return np.asarray(features.mean(axis=0))
        x = features + self.positions
        scores = x @ self.attention @ x.T / np.sqrt(WIDTH)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray((features + weights / weights.sum(axis=1, keepdims=True) @ x).mean(axis=0))

    def probabilities(
        self, frames: NDArray[np.uint8], tokens: NDArray[np.int64], prompts: int, scale: float
    ) -> NDArray[np.float64]:
        """The whole way by hand, for frames that are all looked at; tokens prompt-major."""
        video = self.fusion(self.image(preprocessed(frames, self.size))).astype(np.float64)
        text = self.text(tokens).astype(np.float64)
        cosines = text @ video / np.linalg.norm(text, axis=1) / np.linalg.norm(video)
        exponentials = np.exp(scale * cosines.reshape(prompts, -1))
        shares: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
        return np.asarray(shares.mean(axis=0))


def preprocessed(frames: NDArray[np.uint8], size: int = 32) -> Floats:
    """The official preprocessing, word for word: whole-image resize, crop, normalise."""
    tensors = []
    for frame in frames:
        image = Image.fromarray(frame)
        factor = resize(size) / min(image.size)
        image = image.resize((int(image.width * factor), int(image.height * factor)), Image.Resampling.BICUBIC)
        left, top = round((image.width - size) / 2), round((image.height - size) / 2)
        pixels = np.asarray(image.crop((left, top, left + size, top + size)), dtype=np.float32) / 255
        tensors.append(((pixels - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1))
    return np.stack(tensors).astype(np.float32)


def decoded(path: Path) -> NDArray[np.uint8]:
    """All frames of a video, (N, H, W, 3) RGB."""
    with av.open(str(path)) as video:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])


def resize(size: int) -> int:
    """The short side that frames are brought to before the crop of `size`."""
    return size * 5 // 4


def random_model(seed: int, frames: int, transformer: bool, size: int = 32) -> SmallModel:
    """A model with random weights."""
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> Floats:
        return rng.normal(size=shape).astype(np.float32)

    return SmallModel(
        words=weights(_TABLE, WIDTH),
        text_out=weights(WIDTH, WIDTH),
        patches=weights(3 * (size // PATCH) ** 2, WIDTH),
        positions=weights(frames, WIDTH) if transformer else None,
        attention=weights(WIDTH, WIDTH),
        size=size,
    )


def save_model(
    model: SmallModel,
    folder: Path,
    *,
    frames: int,
    scale: float = 10.0,
    prompts: Sequence[str] | None = None,
    batch: int | str = "N",
    length: int | str = "L",
    tokens: str = "int64",
    floats: str = "float",
) -> Path:
    """Write the three graphs with their metadata; `batch` and `length` may be fixed, the types chosen."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "model": "small",
        "frames": json.dumps(frames),
        "image_size": json.dumps(model.size),
        "resize": json.dumps(resize(model.size)),
        "mean": json.dumps(MEAN),
        "std": json.dumps(STD),
        "logit_scale": json.dumps(scale),
        "licence": "none",
    }
    if prompts is not None:
        facts["prompts"] = json.dumps(list(prompts))
    text = f"""text ({tokens}[{batch}, {length}] tokens) => ({floats}[{batch}, {model.text_out.shape[1]}] features) {{
        end = ArgMax<axis=1, keepdims=1>(tokens)
        shape = Shape<start=1, end=2>(tokens)
        zero = Constant<value_int=0>()
        one = Constant<value_int=1>()
        scalar = Squeeze(shape)
        places = Range(zero, scalar, one)
        beyond = Greater(places, end)
        before = Not(beyond)
        within = Cast<to={_number(floats)}>(before)
        axes = Constant<value_ints=[1]>()
        last = Constant<value_ints=[2]>()
        count = ReduceSum(within, axes)
        modulus = Cast<to={_number(tokens)}>(table)
        indices = Mod(tokens, modulus)
        embedded = Gather<axis=0>(words, indices)
        column = Unsqueeze(within, last)
        kept = Mul(embedded, column)
        sum = ReduceSum<keepdims=0>(kept, axes)
        mean = Div(sum, count)
        features = MatMul(mean, text_out)
    }}"""
    side = model.size
    image = f"""image ({floats}[{batch}, 3, {side}, {side}] frames) => ({floats}[{batch}, {WIDTH}] features) {{
        means = AveragePool<kernel_shape=[{PATCH}, {PATCH}], strides=[{PATCH}, {PATCH}]>(frames)
        flat = Flatten(means)
        features = MatMul(flat, patches)
    }}"""
    if model.positions is None:
        head = "mixed = Identity(frames)"
    else:
        head = """placed = Add(frames, positions)
        asked = MatMul(placed, attention)
        turned = Transpose<perm=[0, 2, 1]>(placed)
        products = MatMul(asked, turned)
        scores = Div(products, root)
        weights = Softmax<axis=2>(scores)
        attended = MatMul(weights, placed)
        mixed = Add(frames, attended)"""
    fusion = f"""fusion ({floats}[B, {frames}, {WIDTH}] frames) => ({floats}[B, {WIDTH}] features) {{
        {head}
        axes = Constant<value_ints=[1]>()
        features = ReduceMean<keepdims=0>(mixed, axes)
    }}"""
    dtype = {"float": np.float32, "float16": np.float16}[floats]
    values = {
        "words": model.words.astype(dtype),
        "text_out": model.text_out.astype(dtype),
        "table": np.array(_TABLE),
        "patches": model.patches.astype(dtype),
        "attention": model.attention.astype(dtype),
        "root": np.array(np.sqrt(WIDTH), dtype),
    }
    if model.positions is not None:
        values["positions"] = model.positions.astype(dtype)
    for role, body in (("text", text), ("image", image), ("fusion", fusion)):
        _save_graph(body, values, facts, role, folder)
    return folder


@dataclass(frozen=True)
class SmallClosedModel:
    """Weights of the one graph of a closed-set model; every frame has weights of its own, so their order counts."""

    patches: Floats
    head: Floats
    frames: int
    size: int

    def features(self, tensor: Floats) -> Floats:
        """Patch means of all frames, (T, 3, S, S), through a matrix, to length 1."""
        side = self.size // PATCH
        means = tensor.reshape(self.frames, 3, side, PATCH, side, PATCH).mean(axis=(3, 5))
        features = means.reshape(-1) @ self.patches
        return np.asarray(features / np.linalg.norm(features))

    def probabilities(self, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The whole way by hand, for frames that are all looked at."""
        return self.scores(preprocessed(frames, self.size))

    def scores(self, tensor: Floats) -> NDArray[np.float64]:
        """Probabilities for a preprocessed clip."""
        exponentials = np.exp((self.features(tensor) @ self.head).astype(np.float64))
        return np.asarray(exponentials / exponentials.sum())


def random_closed_model(seed: int, frames: int, classes: int = len(CLASSES), size: int = 32) -> SmallClosedModel:
    """A closed-set model with random weights."""
    rng = np.random.default_rng(seed)
    inputs = frames * 3 * (size // PATCH) ** 2
    return SmallClosedModel(
        patches=rng.normal(size=(inputs, WIDTH)).astype(np.float32),
        head=rng.normal(size=(WIDTH, classes)).astype(np.float32) * 2,
        frames=frames,
        size=size,
    )


def save_closed_model(
    model: SmallClosedModel,
    folder: Path,
    *,
    channels_first: bool = False,
    classes: Sequence[str] = CLASSES,
    uniform: str = "linspace",
    batch: int | str = "N",
) -> Path:
    """Write the graph with its metadata, its input declared (N, T, 3, S, S) or (N, 3, T, S, S)."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "model": "small-closed",
        "frames": json.dumps(model.frames),
        "image_size": json.dumps(model.size),
        "resize": json.dumps(resize(model.size)),
        "mean": json.dumps(MEAN),
        "std": json.dumps(STD),
        "uniform": uniform,
        "classes": json.dumps(list(classes)),
        "licence": "none",
    }
    axes = f"3, {model.frames}" if channels_first else f"{model.frames}, 3"
    count = model.head.shape[1]
    video = f"""video (float[{batch}, {axes}, {model.size}, {model.size}] clip)
        => (float[{batch}, {count}] logits, float[{batch}, {WIDTH}] features) {{
        frames = Transpose<perm={[0, 2, 1, 3, 4] if channels_first else [0, 1, 2, 3, 4]}>(clip)
        images = Reshape(frames, image)
        means = AveragePool<kernel_shape=[{PATCH}, {PATCH}], strides=[{PATCH}, {PATCH}]>(images)
        flat = Reshape(means, row)
        raw = MatMul(flat, patches)
        length = ReduceL2(raw, last)
        direction = Div(raw, length)
        logits = MatMul(direction, head)
        features = Mul(raw, two)
    }}"""
    values = {
        "image": np.array([-1, 3, model.size, model.size]),
        "row": np.array([-1, len(model.patches)]),
        "patches": model.patches,
        "last": np.array([-1]),
        "head": model.head,
        "two": np.array(2, np.float32),
    }
    _save_graph(video, values, facts, "video", folder)
    return folder


def _save_graph(body: str, values: Mapping[str, NDArray[Any]], facts: dict[str, str], role: str, folder: Path) -> None:
    """Write a graph from its text, with those of the values that it uses as weights."""
    graph = parser.parse_graph(body)
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in values.items() if name in used)
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.helper.set_model_props(proto, {**facts, "role": role})
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, folder / f"{role}.onnx")


def _number(name: str) -> int:
    return int(onnx.TensorProto.DataType.Value(name.upper()))
