"""Small random models in the real contract, as ONNX folders and as plain numpy, for tests of everything around them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, parser
from PIL import Image

Floats = NDArray[np.float32]
WIDTH = 16
PATCH = 8
MEAN, STD = (0.4, 0.5, 0.6), (0.3, 0.25, 0.2)
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
        graph = parser.parse_graph(body)
        used = {name for node in graph.node for name in node.input}
        graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in values.items() if name in used)
        proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
        onnx.helper.set_model_props(proto, {**facts, "role": role})
        onnx.checker.check_model(proto, full_check=True)
        onnx.save(proto, folder / f"{role}.onnx")
    return folder


def _number(name: str) -> int:
    return int(onnx.TensorProto.DataType.Value(name.upper()))
