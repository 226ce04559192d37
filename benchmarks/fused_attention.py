"""Whether fused attention is worth it: `python -m benchmarks.fused_attention FOLDER`.

Times the image graph of an exported model as it is, and after onnxruntime's offline optimiser has made one node of each
attention, in turns, and prints the medians and their ratio. Needs requirements-export.txt.
"""

from collections import Counter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import onnx
import onnxruntime
from onnxruntime.transformers import optimizer

from action_clip.models.catalog.model_directory import read_model_directory
from action_clip.system.terminal import ArgumentParser

RUNS = 15
HEAD_WIDTH = 64  # CLIP's


def main() -> None:
    """Print the figures."""
    parser = ArgumentParser(prog="python -m benchmarks.fused_attention", description=__doc__)
    parser.add_argument("folder", type=Path, help="of an exported model")
    spec, graphs = read_model_directory(parser.parse_args().folder)
    frames = np.random.default_rng(0).normal(size=(spec.frames, 3, spec.image_size, spec.image_size)).astype(np.float32)
    graph = onnx.load(graphs["image"]).graph
    norm = next(node for node in graph.node if node.op_type == "LayerNormalization")
    width = next(weight.dims[0] for weight in graph.initializer if weight.name == norm.input[1])
    fused = optimizer.optimize_model(
        str(graphs["image"]), "clip", num_heads=width // HEAD_WIDTH, hidden_size=width, opt_level=0
    )
    kinds = Counter(node.op_type for node in fused.model.graph.node)
    print(f"fused: {kinds['Attention']} Attention, {kinds['SkipLayerNormalization']} SkipLayerNormalization")
    with TemporaryDirectory() as folder:
        path = Path(folder, "fused.onnx")
        fused.save_model_to_file(str(path))
        sessions = {
            name: onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
            for name, graph in (("plain", graphs["image"]), ("fused", path))
        }
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(RUNS + 1):
        for name, session in sessions.items():
            began = perf_counter()
            session.run(None, {session.get_inputs()[0].name: frames})
            seconds[name].append(perf_counter() - began)
    for name, runs in seconds.items():
        kept = sorted(runs[1:])
        print(f"{name}: {median(kept) * 1e3:.0f} ms (median of {RUNS}; {kept[0] * 1e3:.0f} to {kept[-1] * 1e3:.0f})")
    print(f"fused / plain: {median(seconds['fused'][1:]) / median(seconds['plain'][1:]):.3f}")


if __name__ == "__main__":
    main()
