"""What is in a graph that the program has kept, for tests."""

from collections.abc import Iterable

import onnx

from action_clip.models.store.home import home


def kept_graph() -> onnx.GraphProto:
    """The only one."""
    [path] = (home() / "optimised").glob("*/graph.onnx")
    return onnx.load(path).graph


def after_choice(nodes: Iterable[onnx.NodeProto]) -> tuple[set[str], list[str]]:
    """The values that are made of rows which one of these nodes has chosen, and the products among what makes them."""
    chosen: set[str] = set()
    products = []
    for node in nodes:
        if node.op_type in ("Gather", "GatherND") or chosen.intersection(node.input):
            chosen.update(node.output)
            products += [node.op_type] if node.op_type in ("MatMul", "Gemm", "DynamicQuantizeMatMul") else []
    return chosen, products
