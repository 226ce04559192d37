"""How many rows a graph gets at a time."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from models.graphs import Graph


def counting_graph(path: Path, batch: int | str) -> Path:
    """A graph that adds to every row the number of rows of its run."""
    graph = parser.parse_graph(f"""counting (float[{batch}, 1] rows) => (float[{batch}, 1] counted) {{
        count = Shape<end=1>(rows)
        number = Cast<to=1>(count)
        counted = Add(rows, number)
    }}""")
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


@pytest.mark.parametrize(
    ("batch", "group", "rows", "runs"),
    [
        ("N", 1, 600, [256, 256, 88]),
        ("N", 8, 600, [256, 256, 88]),
        ("N", 100, 600, [200, 200, 200]),
        ("N", 256, 512, [256, 256]),
        ("N", 300, 900, [300, 300, 300]),
        ("N", 8, 8, [8]),
        (4, 2, 8, [4, 4]),
        (4, 3, 9, [4, 4, 1]),
        (1, 3, 3, [1, 1, 1]),
    ],
)
def test_rows_of_a_group_stay_in_one_run(
    tmp_path: Path, batch: int | str, group: int, rows: int, runs: list[int]
) -> None:
    graph = Graph(counting_graph(tmp_path / "graph.onnx", batch), group=group)
    numbers = np.arange(rows, dtype=np.float32)[:, np.newaxis]
    counts = [batch if isinstance(batch, int) else run for run in runs for _ in range(run)]
    np.testing.assert_array_equal((graph(numbers) - numbers)[:, 0], counts)
