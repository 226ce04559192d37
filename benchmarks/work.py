"""The work of the contestants at each stage: a function prepares it and returns a function, which is then timed.

benchmarks.contestants names these functions. They raise ImportError where a package that they need is not installed.
"""

import os
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from action_clip.models.actionclip import ActionClip
from action_clip.models.cache.feature_memory import MEMORY
from action_clip.models.scoring import LabelBank, score
from action_clip.tokenizer.bpe import default_tokenizer
from action_clip.tokenizer.prompts import DEFAULT_PROMPTS, fill_prompts, read_labels
from action_clip.video.sampling import uniform_indices
from benchmarks.contestants import FILM_FRAMES, FILM_WINDOWS, PEERS, THREADS, find
from benchmarks.inputs import FRAMES, LABELS_400, SEED, Inputs

if TYPE_CHECKING:
    from benchmarks.peers import Peer

Work = Callable[[], NDArray[Any] | None]
Product = tuple[int, int, int, int]
"""Products of matrices: how many, rows of the left one, columns of the left one, columns of the right one."""
MANY_LABELS = 10_000
UNIFORM = partial(uniform_indices, count=FRAMES)


def random_clip() -> NDArray[np.float32]:
    """Return a random clip tensor for ViT-B/32, (FRAMES, 3, 224, 224)."""
    return np.random.default_rng(SEED).normal(size=(FRAMES, 3, 224, 224)).astype(np.float32)


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows, (…, D), scaled to length 1."""
    scaled: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return scaled


def program_clip(inputs: Inputs, precision: str, threads: int = THREADS) -> Work:
    """Return the work of running the image and fusion graph with the program: features, (D,)."""
    model, clip = ActionClip(inputs.graphs(precision), threads=threads), random_clip()
    return lambda: model.encode_clips(clip[np.newaxis]).features[0]


def plain_clip(inputs: Inputs, precision: str) -> Work:
    """Return the work of running the image and fusion graph in plain sessions of onnxruntime: features, (D,)."""
    image, fusion = (_session(inputs.graphs(precision) / f"{role}.onnx") for role in ("image", "fusion"))
    clip = random_clip()
    return lambda: unit(fusion(image(clip)[np.newaxis])[0])


def peer_clip(inputs: Inputs, name: str) -> Work:
    """Return the work of running a peer's image tower and fusion: features, (D,)."""
    peer, clip = _peer(inputs, name), random_clip()
    return lambda: unit(peer.video(clip))


def program_text(inputs: Inputs, precision: str) -> Work:
    """Return the work of encoding ten labels in 16 prompts with the program: features, (16, 10, D)."""
    model, labels = ActionClip(inputs.graphs(precision), threads=THREADS, cache=False), read_labels(inputs.labels_10)
    return lambda: _as_in_a_new_process(model, labels)


def plain_text(inputs: Inputs) -> Work:
    """Return the work of encoding the same texts with the text graph at 77 tokens in a plain session: (160, D)."""
    text = _session(inputs.fp32 / "text.onnx")
    return lambda: unit(text(_tokens(inputs)))


def peer_text(inputs: Inputs, name: str) -> Work:
    """Return the work of encoding the same texts with a peer's text tower: (160, D)."""
    peer = _peer(inputs, name)
    return lambda: unit(peer.text(_tokens(inputs)))


def products(inputs: Inputs) -> list[Product]:
    """Return the sizes of every MatMul, Gemm and Conv that a clip passes in the fp32 graphs."""
    import onnx

    found = []
    for role, shape in (("image", (FRAMES, 3, 224, 224)), ("fusion", (1, FRAMES, 512))):
        model = onnx.load(inputs.fp32 / f"{role}.onnx")
        for dimension, size in zip(model.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
            dimension.dim_value = size
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        values = [*graph.value_info, *graph.output]
        shapes = {value.name: [side.dim_value for side in value.type.tensor_type.shape.dim] for value in values}
        shapes |= {weight.name: list(weight.dims) for weight in graph.initializer}
        for node in graph.node:
            if node.op_type == "Conv":
                outputs, *patch = shapes[node.input[1]]
                count, _, height, width = shapes[node.output[0]]
                found.append((1, count * height * width, int(np.prod(patch)), outputs))
            elif node.op_type in ("MatMul", "Gemm"):
                left, right = (shapes[name] for name in node.input[:2])
                # With a matrix of weights, all rows are one product.
                batch = int(np.prod(left[:-2])) if len(right) > 2 else 1
                found.append((batch, int(np.prod(left[:-1])) // batch, left[-1], right[-1]))
    return found


def flops(inputs: Inputs) -> int:
    """Return the number of floating-point operations of `products`, two for each multiplication."""
    return sum(2 * times * rows * inner * columns for times, rows, inner, columns in products(inputs))


def numpy_products(inputs: Inputs, is_square: bool = False) -> Work:
    """Return the work of computing `products`, or that of `square`, in numpy (OpenBLAS)."""
    factors = _factors(square(inputs) if is_square else products(inputs))

    def work() -> None:
        for left, right, product in factors:
            np.matmul(left, right, out=product)

    return work


def torch_products(inputs: Inputs, is_square: bool = False) -> Work:
    """Return the work of computing `products`, or that of `square`, in PyTorch (MKL or oneDNN)."""
    import torch

    torch.set_num_threads(THREADS)
    shapes = square(inputs) if is_square else products(inputs)
    factors = [tuple(map(torch.from_numpy, matrices)) for matrices in _factors(shapes)]

    def work() -> None:
        for left, right, product in factors:
            torch.matmul(left, right, out=product)

    return work


def square(inputs: Inputs) -> list[Product]:
    """Return one product with a matrix of 2048 × 2048 that has as many FLOPs as `products`."""
    return [(1, flops(inputs) // (2 * 2048 * 2048), 2048, 2048)]


def read_video(inputs: Inputs, length: str, reader: str) -> Work:
    """Return the work of reading the eight uniform frames of a video; `reader` names a function of benchmarks.video."""
    from benchmarks import video

    path = video.make_videos(inputs)[length]
    read: video.Reader = getattr(video, reader)
    # A sample of the pixels, enough to tell frames apart.
    return lambda: read(path, UNIFORM, THREADS)[:, ::128, ::128]


def decode_clips(inputs: Inputs) -> Work:
    """Return the work of reading the eight uniform frames of the next one of many clips with one thread."""
    from benchmarks.video import exact_frames

    paths = cycle(sorted(inputs.clips.iterdir()))
    return lambda: exact_frames(next(paths), UNIFORM, 1)


def decode_film(inputs: Inputs) -> Work:
    """Return the work of decoding, with one thread, the frames that the windows of ten seconds look at."""
    from action_clip.video.reader import VideoReader
    from benchmarks.grid import decode

    reader = VideoReader(inputs.video("10 s"), threads=1)
    return lambda: np.array(decode(reader, 1))


def film_graphs(inputs: Inputs) -> Work:
    """Return the work of running, with one thread, the graphs on ten seconds: 20 frames, five windows: (5, D)."""
    from action_clip.models.model_graphs import ModelGraphs
    from action_clip.models.steps import frame_features, fused

    graphs = ModelGraphs(inputs.fp32, "zero-shot", device="cpu", threads=1, cache=True, prepack=True)
    frames = np.concatenate([random_clip()] * 3)[:FILM_FRAMES]
    windows = np.arange(FILM_WINDOWS)[:, np.newaxis] + np.arange(FRAMES)
    return lambda: fused(graphs, frame_features(graphs, frames)[windows]).features


def many_labels(inputs: Inputs, prompts: int) -> Work:
    """Return the work of scoring a video against MANY_LABELS labels with random features in `prompts` prompts."""
    generator = np.random.default_rng(SEED)
    embeddings = unit(generator.standard_normal((prompts, MANY_LABELS, 512), np.float32))
    bank = LabelBank(tuple(map(str, range(MANY_LABELS))), embeddings, 100.0)
    video = unit(generator.standard_normal(512, np.float32))
    return lambda: score(video, bank).probabilities


def known_labels(inputs: Inputs) -> Work:
    """Return the work of reading the features of Kinetics' 400 labels from the label bank, filled by the first call."""
    os.environ["ACTION_CLIP_HOME"] = str(inputs.work / "home-worker")
    model, labels = ActionClip(inputs.fp32, threads=THREADS), read_labels(LABELS_400)
    return lambda: _as_in_a_new_process(model, labels)


def preprocess(inputs: Inputs, width: int, height: int, count: int = FRAMES) -> Work:
    """Return the work of preprocessing `count` frames: a clip tensor, (count, 3, 224, 224)."""
    from action_clip.video.preprocess import clip_tensor

    frames = np.random.default_rng(SEED).integers(0, 256, (count, height, width, 3), np.uint8)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    return lambda: clip_tensor(frames, 224, mean, std)


def _as_in_a_new_process(model: ActionClip, labels: list[str]) -> NDArray[np.float32]:
    MEMORY.clear()
    return model.labels(labels).embeddings


def _session(path: Path) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return lambda rows: np.asarray(session.run(None, {given.name: rows})[0])


def _tokens(inputs: Inputs) -> NDArray[np.int64]:
    return default_tokenizer().encode(fill_prompts(DEFAULT_PROMPTS, read_labels(inputs.labels_10)))


def _factors(shapes: list[Product]) -> list[tuple[NDArray[np.float32], ...]]:
    """Return the left matrix, the right matrix and an array for the product, for each of the shapes."""
    generator = np.random.default_rng(SEED)
    factors: list[tuple[NDArray[np.float32], ...]] = []
    for times, rows, inner, columns in shapes:
        sides = ((times, rows, inner), (times, inner, columns), (times, rows, columns))
        left, right, product = (generator.standard_normal(side, np.float32) for side in sides)
        factors.append((left, right, product) if times > 1 else (left[0], right[0], product[0]))
    return factors


def _peer(inputs: Inputs, name: str) -> "Peer":
    contestant = find(PEERS, name)
    peer: Peer = contestant.load()(inputs, THREADS, *contestant.arguments)
    return peer
