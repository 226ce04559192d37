"""The work of the case `gpu`: frames in the CPU's memory, float32, to their features there, by the image graph.

Where there is no CUDA device, these functions raise ImportError, as for a package that is not installed.
"""

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.models.runtime.graph import Graph
from benchmarks.inputs import FRAMES, SEED, Inputs

Work = Callable[[], NDArray[np.float32]]


def random_clips(count: int) -> NDArray[np.float32]:
    """Return the frames of random clips, (count · FRAMES, 3, 224, 224); the first ones are the same for any count."""
    return np.random.default_rng(SEED).standard_normal((count * FRAMES, 3, 224, 224), np.float32)


def program(inputs: Inputs, count: int) -> Work:
    """Return the work of the program's image graph for so many clips: features of frames, (count · FRAMES, D)."""
    os.environ["ACTION_CLIP_HOME"] = str(inputs.work / "home-worker")
    graph = Graph(inputs.fp32 / "image.onnx", device="cuda", group=FRAMES, keep=True)
    try:
        graph.start()
    except ActionClipError as error:
        raise ImportError(str(error).partition(";")[0]) from error
    frames = random_clips(count)
    for _ in range(32 // count):  # until single clips are a CUDA graph
        graph(frames)
    return lambda: graph(frames)


def pytorch(inputs: Inputs, count: int) -> Work:
    """Return the same work for transformers' CLIPModel in fp16, eager, with frames copied from pinned memory."""
    import torch
    from transformers import CLIPModel

    if not torch.cuda.is_available():
        raise ImportError("PyTorch finds no CUDA device")
    model = CLIPModel.from_pretrained(inputs.transformers).eval().half().to("cuda")
    frames = torch.from_numpy(random_clips(count))
    pinned = torch.empty(frames.shape, dtype=torch.float16, pin_memory=True)

    def work() -> NDArray[np.float32]:
        with torch.inference_mode():
            pinned.copy_(frames)
            output = model.get_image_features(pinned.to("cuda", non_blocking=True))
            # Version 5 wraps what version 4 returned.
            features: NDArray[np.float32] = getattr(output, "pooler_output", output).float().cpu().numpy()
            return features

    return work
