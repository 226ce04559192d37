"""One contestant of a stage in a warm process: `python -m benchmarks.worker WORK STAGE NAME`, which benchmarks.measure
starts. It gets ready, says so, and then works once for each line on its standard input.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from action_clip.models.actionclip import ActionClip
from action_clip.models.cache.feature_memory import MEMORY
from action_clip.models.scoring import score
from action_clip.tokenizer.bpe import default_tokenizer
from action_clip.tokenizer.prompts import DEFAULT_PROMPTS, fill_prompts, read_labels
from benchmarks.inputs import FRAMES, LABELS_400, SEED, VIDEO_LENGTHS, VIDEO_READERS, Inputs
from benchmarks.measure import THREADS
from benchmarks.peers import PEERS

Work = Callable[[], NDArray[Any] | None]
Make = Callable[[Inputs], Work]
Graphs = Callable[[Inputs], Path]
Product = tuple[int, int, int, int]
Shapes = Callable[[Inputs], list[Product]]
# Of the answer, what is sent to be compared.
MOST_NUMBERS = 4096
MANY_LABELS = 10_000


def random_clip() -> NDArray[np.float32]:
    """A preprocessed clip of ViT-B/32."""
    return np.random.default_rng(SEED).normal(size=(FRAMES, 3, 224, 224)).astype(np.float32)


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """To length 1."""
    scaled: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return scaled


def program_clip(graphs: Graphs, inputs: Inputs) -> Work:
    """Image graph and fusion as the program runs them."""
    model, clip = ActionClip(graphs(inputs), threads=THREADS), random_clip()
    return lambda: model.encode_clip(clip).features


def plain_clip(graphs: Graphs, inputs: Inputs) -> Work:
    """The same graphs in plain sessions of onnxruntime."""
    image, fusion = (_session(graphs(inputs) / f"{role}.onnx") for role in ("image", "fusion"))
    clip = random_clip()
    return lambda: unit(fusion(image(clip)[np.newaxis])[0])


def peer_clip(name: str, inputs: Inputs) -> Work:
    """The same of a peer."""
    peer, clip = PEERS[name](inputs, THREADS), random_clip()
    return lambda: unit(peer.video(clip))


def program_text(graphs: Graphs, inputs: Inputs) -> Work:
    """Ten labels in 16 prompts, tokens and features, as the program does it."""
    model, labels = ActionClip(graphs(inputs), threads=THREADS, cache=False), read_labels(inputs.labels_10)
    return lambda: _as_in_a_new_process(model, labels)


def plain_text(inputs: Inputs) -> Work:
    """The text graph at 77 tokens in a plain session."""
    text = _session(inputs.fp32 / "text.onnx")
    return lambda: unit(text(_tokens(inputs)))


def peer_text(name: str, inputs: Inputs) -> Work:
    """The same of a peer."""
    peer = PEERS[name](inputs, THREADS)
    return lambda: unit(peer.text(_tokens(inputs)))


def products(inputs: Inputs) -> list[Product]:
    """(times, rows, inner, columns) of every MatMul, Gemm and Conv that a clip passes in the fp32 graphs."""
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
                # A matrix of weights takes all rows at once.
                batch = int(np.prod(left[:-2])) if len(right) > 2 else 1
                found.append((batch, int(np.prod(left[:-1])) // batch, left[-1], right[-1]))
    return found


def flops(inputs: Inputs) -> int:
    """Of those products: two for each number that is multiplied."""
    return sum(2 * times * rows * inner * columns for times, rows, inner, columns in products(inputs))


def numpy_products(shapes: Shapes, inputs: Inputs) -> Work:
    """Products of matrices in numpy, which is OpenBLAS."""
    factors = _factors(shapes(inputs))

    def work() -> None:
        for left, right, product in factors:
            np.matmul(left, right, out=product)

    return work


def torch_products(shapes: Shapes, inputs: Inputs) -> Work:
    """The same in PyTorch, which is MKL or oneDNN."""
    import torch

    torch.set_num_threads(THREADS)
    factors = [tuple(map(torch.from_numpy, matrices)) for matrices in _factors(shapes(inputs))]

    def work() -> None:
        for left, right, product in factors:
            torch.matmul(left, right, out=product)

    return work


def square(inputs: Inputs) -> list[Product]:
    """As many FLOPs in one product with a matrix of 2048 × 2048."""
    return [(1, flops(inputs) // (2 * 2048 * 2048), 2048, 2048)]


def read_video(length: str, reader: str, inputs: Inputs) -> Work:
    """The eight uniform frames of a video."""
    from action_clip.video.sampling import uniform_indices
    from benchmarks.video import LENGTHS_S, RATE, READERS, make_videos

    path, indices = make_videos(inputs.videos)[length], uniform_indices(LENGTHS_S[length] * RATE, FRAMES)
    read = READERS[reader]
    # Enough of them to tell frames apart.
    return lambda: read(path, indices, THREADS)[:, ::128, ::128]


def many_labels(prompts: int, inputs: Inputs) -> Work:
    """Scores of a bank of random features."""
    generator = np.random.default_rng(SEED)
    bank = unit(generator.standard_normal((prompts, MANY_LABELS, 512), np.float32))
    video = unit(generator.standard_normal(512, np.float32))
    return lambda: score(video, bank, 100.0)


def known_labels(inputs: Inputs) -> Work:
    """Kinetics' 400 labels out of the label bank, which has them after one run."""
    os.environ["ACTION_CLIP_HOME"] = str(inputs.work / "home-worker")
    model, labels = ActionClip(inputs.fp32, threads=THREADS), read_labels(LABELS_400)
    return lambda: _as_in_a_new_process(model, labels)


def preprocess(inputs: Inputs) -> Work:
    """Eight frames of 1080p to a clip tensor."""
    from action_clip.video.preprocess import clip_tensor

    frames = np.random.default_rng(SEED).integers(0, 256, (FRAMES, 1080, 1920, 3), np.uint8)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    return lambda: clip_tensor(frames, 224, mean, std)


def _as_in_a_new_process(model: ActionClip, labels: list[str]) -> NDArray[np.float32]:
    MEMORY.clear()
    return model.encode_labels(labels)


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
    """Left, right and product of each."""
    generator = np.random.default_rng(SEED)
    factors: list[tuple[NDArray[np.float32], ...]] = []
    for times, rows, inner, columns in shapes:
        sides = ((times, rows, inner), (times, inner, columns), (times, rows, columns))
        left, right, product = (generator.standard_normal(side, np.float32) for side in sides)
        factors.append((left, right, product) if times > 1 else (left[0], right[0], product[0]))
    return factors


def _fp32(inputs: Inputs) -> Path:
    return inputs.fp32


def _int8(inputs: Inputs) -> Path:
    return inputs.int8


STAGES: dict[str, dict[str, Make]] = {
    "clip": {
        "program, fp32": partial(program_clip, _fp32),
        "program, int8": partial(program_clip, _int8),
        "plain onnxruntime, fp32": partial(plain_clip, _fp32),
        "plain onnxruntime, int8": partial(plain_clip, _int8),
        **{name: partial(peer_clip, name) for name in PEERS},
        "sgemm of numpy, the graphs' products": partial(numpy_products, products),
        "sgemm of PyTorch, the graphs' products": partial(torch_products, products),
        "sgemm of numpy, 2048 wide": partial(numpy_products, square),
        "sgemm of PyTorch, 2048 wide": partial(torch_products, square),
    },
    "text": {
        "program, fp32": partial(program_text, _fp32),
        "program, int8": partial(program_text, _int8),
        "yardstick": plain_text,
        **{name: partial(peer_text, name) for name in PEERS},
    },
    **{
        f"video of {length}": {name: partial(read_video, length, name) for name in VIDEO_READERS}
        for length in VIDEO_LENGTHS
    },
    "small": {
        "score 10,000 labels × 16 prompts": partial(many_labels, len(DEFAULT_PROMPTS)),
        "score 10,000 labels, --average embeddings": partial(many_labels, 1),
        "400 labels × 16 prompts out of the label bank": known_labels,
        "eight 1080p frames to a clip tensor": preprocess,
    },
}


def main() -> None:
    """Get ready, then work when told to."""
    work_folder, stage, name = sys.argv[1:]
    # Libraries may print; the runner reads nothing but the messages.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(**message: object) -> None:
        print(json.dumps(message), file=channel)

    try:
        work = STAGES[stage][name](Inputs(Path(work_folder)))
        answer = work()
    except ImportError as error:
        say(absent=str(error))
        return
    work()
    numbers = [] if answer is None else np.asarray(answer, np.float64).ravel()[:MOST_NUMBERS].tolist()
    say(answer=numbers)
    for _ in sys.stdin:
        began = perf_counter()
        work()
        say(seconds=perf_counter() - began)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
