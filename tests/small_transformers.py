"""Small transformers in CLIP's form, as ONNX graphs that onnxruntime's optimiser fuses as it does the exported ones."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, parser

FRAMES, WIDTH, HEADS, LAYERS = 8, 32, 4, 2
_LAYER = """
    n{i} = LayerNormalization<axis=-1>(x{i}, scale, shift)
    qm{i} = MatMul(n{i}, q{i}_w)
    qb{i} = Add(qm{i}, q{i}_b)
    qr{i} = Reshape(qb{i}, {split})
    q{i} = Transpose<perm=[0, 2, 1, 3]>(qr{i})
    km{i} = MatMul(n{i}, k{i}_w)
    kb{i} = Add(km{i}, k{i}_b)
    kr{i} = Reshape(kb{i}, {split})
    k{i} = Transpose<perm=[0, 2, 3, 1]>(kr{i})
    vm{i} = MatMul(n{i}, v{i}_w)
    vb{i} = Add(vm{i}, v{i}_b)
    vr{i} = Reshape(vb{i}, {split})
    v{i} = Transpose<perm=[0, 2, 1, 3]>(vr{i})
    a{i} = MatMul(q{i}, k{i})
    s{i} = Mul(a{i}, root)
    p{i} = Softmax<axis=-1>(s{i})
    h{i} = MatMul(p{i}, v{i})
    ht{i} = Transpose<perm=[0, 2, 1, 3]>(h{i})
    hr{i} = Reshape(ht{i}, joined)
    om{i} = MatMul(hr{i}, o{i}_w)
    ob{i} = Add(om{i}, o{i}_b)
    y{i} = Add(x{i}, ob{i})
    m{i} = LayerNormalization<axis=-1>(y{i}, scale, shift)
    um{i} = MatMul(m{i}, u{i}_w)
    u{i} = Add(um{i}, u{i}_b)
    t{i} = Mul(u{i}, quick)
    g{i} = Sigmoid(t{i})
    w{i} = Mul(u{i}, g{i})
    dm{i} = MatMul(w{i}, d{i}_w)
    d{i} = Add(dm{i}, d{i}_b)
    x{j} = Add(y{i}, d{i})
"""


def save_transformer(
    path: Path, *, seed: int = 0, packed: bool = False, computed_shapes: bool = False, largest: float = 1.0
) -> Path:
    """Write a graph (N, FRAMES, WIDTH) → (N, WIDTH) with random weights.

    Args:
        path: the file.
        seed: of the weights.
        packed: keep matrices in float16, unpacked by a Cast each, as exports in fp16 do.
        computed_shapes: let the shapes of attention be computed in the graph.
        largest: factor of the last matrix.
    """
    rng = np.random.default_rng(seed)
    values: dict[str, NDArray[Any]] = {
        "positions": rng.normal(size=(FRAMES, WIDTH)).astype(np.float32),
        "scale": (1 + rng.normal(size=WIDTH) / 10).astype(np.float32),
        "shift": (rng.normal(size=WIDTH) / 10).astype(np.float32),
        "root": np.array((WIDTH // HEADS) ** -0.5, np.float32),
        "quick": np.array(1.702, np.float32),
        "fixed": np.array([-1, FRAMES, HEADS, WIDTH // HEADS]),
        "joined": np.array([-1, FRAMES, WIDTH]),
        "last": (rng.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH) * largest).astype(np.float32),
        "heads": np.array([HEADS]),
        "size": np.array([WIDTH // HEADS]),
    }
    for i in range(LAYERS):
        for name, inputs, outputs in (*((name, WIDTH, WIDTH) for name in "qkvo"), ("u", WIDTH, 128), ("d", 128, WIDTH)):
            values[f"{name}{i}_w"] = (rng.normal(size=(inputs, outputs)) / np.sqrt(inputs)).astype(np.float32)
            values[f"{name}{i}_b"] = (rng.normal(size=outputs) / 10).astype(np.float32)
    casts = ""
    if packed:
        for name in [name for name, value in values.items() if value.ndim == 2 and name != "positions"]:
            values[f"{name}_half"] = values.pop(name).astype(np.float16)
            casts += f"{name} = Cast<to=1>({name}_half)\n"
    split = "computed" if computed_shapes else "fixed"
    body = "".join(_LAYER.format(i=i, j=i + 1, split=split) for i in range(LAYERS))
    if computed_shapes:
        body = "batch = Shape<end=2>(frames)\ncomputed = Concat<axis=0>(batch, heads, size)\n" + body
    graph = parser.parse_graph(f"""fusion (float[N, {FRAMES}, {WIDTH}] frames) => (float[N, {WIDTH}] features) {{
        {casts}
        x0 = Add(frames, positions)
        {body}
        axes = Constant<value_ints=[1]>()
        mean = ReduceMean<keepdims=0>(x{LAYERS}, axes)
        features = MatMul(mean, last)
    }}""")
    used = {name for node in graph.node for name in node.input}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items() if name in used)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def random_frames(count: int, seed: int = 5) -> NDArray[np.float32]:
    """Input of the graph, (count, FRAMES, WIDTH)."""
    return np.random.default_rng(seed).standard_normal((count, FRAMES, WIDTH), np.float32)
