"""How many rows a graph gets at a time, and that it is loaded once."""

import time
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import parser
from small_models import random_model, save_model

import models.graphs
from errors import ActionClipError
from models.graphs import Graph, encode_tokens
from tokenizer.bpe import CONTEXT_LENGTH, END_OF_TEXT, START_OF_TEXT


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


def sizes_graph(path: Path) -> Path:
    """A text graph that gives every text the rows and the columns of its run."""
    graph = parser.parse_graph("""sizes (int64[N, L] tokens) => (float[N, 2] sizes) {
        shape = Shape(tokens)
        numbers = Cast<to=1>(shape)
        first = Constant<value_ints=[0]>()
        axes = Constant<value_ints=[1]>()
        column = ReduceMax<keepdims=1>(tokens, axes)
        floats = Cast<to=1>(column)
        zero = Sub(floats, floats)
        sizes = Add(zero, numbers)
    }""")
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


def texts_of(lengths: list[int]) -> NDArray[np.int64]:
    """Tokens of texts of these lengths with start and end, each with words of its own."""
    tokens = np.zeros((len(lengths), CONTEXT_LENGTH), np.int64)
    for row, length in enumerate(lengths):
        words = [1 + (row * 31 + place) % 1000 for place in range(length - 2)]
        tokens[row, :length] = [START_OF_TEXT, *words, END_OF_TEXT]
    return tokens


MIXED = [int(length) for length in np.random.default_rng(0).integers(2, CONTEXT_LENGTH + 1, 120)]


@pytest.mark.parametrize("most", [1, 40, 200, 1024, 10**9])
def test_every_text_gets_in_its_place_what_it_gets_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    model = random_model(1, 8, False)
    graph = Graph(save_model(model, tmp_path, frames=8) / "text.onnx")
    tokens = texts_of(MIXED)
    alone = np.concatenate([graph(row[np.newaxis]) for row in tokens])
    np.testing.assert_allclose(alone, model.text(tokens), rtol=0, atol=1e-5)
    monkeypatch.setattr(models.graphs, "_MAX_TOKENS", most)
    np.testing.assert_allclose(encode_tokens(graph, tokens), alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("most", [1, 40, 76, 77, 200, 1024])
def test_no_batch_has_more_tokens_than_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(models.graphs, "_MAX_TOKENS", most)
    texts, columns = encode_tokens(Graph(sizes_graph(tmp_path / "text.onnx")), texts_of(MIXED)).T
    assert ((texts * columns <= most) | (texts == 1)).all()
    assert (columns >= MIXED).all()
    assert (columns[texts == 1] == np.array(MIXED)[texts == 1]).all()


@pytest.mark.parametrize(
    ("lengths", "batches"),
    [
        ([10] * 100, [100] * 100),
        ([10] * 103, [102] * 102 + [1]),
        ([64] * 16, [16] * 16),
        ([77] * 14, [13] * 13 + [1]),
        ([77, 4, 77] + [4] * 199, [2, 200, 2] + [200] * 199),
        ([77], [1]),
    ],
)
def test_batches_are_as_large_as_may_be(tmp_path: Path, lengths: list[int], batches: list[int]) -> None:
    texts = encode_tokens(Graph(sizes_graph(tmp_path / "text.onnx")), texts_of(lengths))[:, 0]
    np.testing.assert_array_equal(texts, batches)


def test_threads_that_start_a_graph_at_once_make_one_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = onnxruntime.InferenceSession
    opened = []

    def slow(path: Path, *arguments: Any, **named: Any) -> Any:
        opened.append(path)
        time.sleep(0.05)
        return make(path, *arguments, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", slow)
    graph = Graph(counting_graph(tmp_path / "graph.onnx", "N"))
    together = Barrier(8)
    counts: list[float] = []

    def start_and_run() -> None:
        together.wait(60)
        graph.start()
        counts.append(float(graph(np.zeros((3, 1), np.float32))[0, 0]))

    threads = [Thread(target=start_and_run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [graph.path]
    assert counts == [3.0] * 8


def test_a_session_that_could_not_be_made_is_made_when_it_can_be(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    path.write_bytes(b"no graph")
    graph = Graph(path)
    for _ in range(2):
        with pytest.raises(ActionClipError, match=r"graph\.onnx cannot be loaded on 'cpu'"):
            graph.start()
    counting_graph(path, "N")
    graph.start()
    assert graph(np.zeros((2, 1), np.float32)).tolist() == [[2.0], [2.0]]
