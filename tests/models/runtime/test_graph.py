"""Graphs: how many rows are in a run, one session for all threads, errors of onnxruntime, and Ctrl-C."""

import os
import signal
import subprocess
import sys
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

import action_clip.models.runtime.graph
from action_clip.errors import ActionClipError
from action_clip.models.runtime.graph import Graph, encode_tokens
from action_clip.tokenizer.bpe import CONTEXT_LENGTH, END_OF_TEXT, START_OF_TEXT

ROOT = Path(__file__).parents[3]


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


@pytest.mark.parametrize(
    ("numbers", "group", "runs"),
    [(30, 1, [30, 30, 4]), (30, 8, [24, 24, 16]), (7, 8, [8] * 8), (1, 1, [1] * 64), (1 << 20, 1, [64])],
)
def test_the_numbers_of_one_run_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: int, group: int, runs: list[int]
) -> None:
    monkeypatch.setattr(action_clip.models.runtime.graph, "_MAX_NUMBERS", numbers * 12 + 5)
    parsed = parser.parse_graph("""counting (float[N, 3, 4] rows) => (float[N, 1] counted) {
        axes = Constant<value_ints=[1, 2]>()
        most = ReduceMax<keepdims=0>(rows, axes)
        column = Constant<value_ints=[-1, 1]>()
        firsts = Reshape(most, column)
        count = Shape<end=1>(rows)
        number = Cast<to=1>(count)
        counted = Add(firsts, number)
    }""")
    opset = onnx.helper.make_opsetid("", 18)
    path = tmp_path / "graph.onnx"
    onnx.save(onnx.helper.make_model(parsed, opset_imports=[opset], ir_version=9), path)
    counts = Graph(path, group=group)(np.zeros((64, 3, 4), np.float32))[:, 0]
    np.testing.assert_array_equal(counts, [run for run in runs for _ in range(run)])


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
def test_texts_in_batches_get_the_features_that_they_get_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    model = random_model(1, 8, False)
    graph = Graph(save_model(model, tmp_path, frames=8) / "text.onnx")
    tokens = texts_of(MIXED)
    alone = np.concatenate([graph(row[np.newaxis]) for row in tokens])
    np.testing.assert_allclose(alone, model.text(tokens), rtol=0, atol=1e-5)
    monkeypatch.setattr(action_clip.models.runtime.graph, "_MAX_TOKENS", most)
    np.testing.assert_allclose(encode_tokens(graph, tokens), alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("most", [1, 40, 76, 77, 200, 1024])
def test_the_tokens_of_one_batch_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(action_clip.models.runtime.graph, "_MAX_TOKENS", most)
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


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_provider_that_fails_is_said_once_and_not_on_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], device: str
) -> None:
    """onnxruntime would print four lines on stdout and take another provider."""
    path, name = counting_graph(tmp_path / "graph.onnx", "N"), f"{device.upper()}ExecutionProvider"
    create = onnxruntime.InferenceSession._create_inference_session

    def fail(session: Any, providers: Any, *arguments: Any, **named: Any) -> None:
        session._fallback_providers = ["CPUExecutionProvider"]
        if providers == [name]:
            raise RuntimeError("CUDA failure 35: the driver is too old\nmore of it")
        create(session, providers, *arguments, **named)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [name, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime.InferenceSession, "_create_inference_session", fail)
    with pytest.raises(ActionClipError) as caught:
        Graph(path, device=device, cure="do this").start()
    message = str(caught.value)
    why = f"the graph {path} cannot be loaded on '{device}' (CUDA failure 35: the driver is too old): do this"
    if device == "cpu":
        assert message == why
    elif tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 23):
        assert message.startswith(
            "the device 'cuda' could not be started (the driver is too old): check NVIDIA's driver"
        )
    else:
        assert message.startswith("the device 'cuda' could not be started, only CPUExecutionProvider could")
    assert capfd.readouterr().out == ""


def test_a_run_that_fails_is_not_said_on_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = Graph(counting_graph(tmp_path / "graph.onnx", "N"))
    graph.start()

    class Failing:
        """A session within the session, that is out of its device's memory."""

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def run(self, *_: Any) -> None:
            raise onnxruntime.capi.onnxruntime_pybind11_state.EPFail("out of its memory")

    session: Any = graph._session
    real = session._sess
    monkeypatch.setattr(session, "_sess", Failing())
    with pytest.raises(ActionClipError, match=r"graph\.onnx failed on 'cpu' \(out of its memory\)"):
        graph(np.zeros((2, 1), np.float32))
    assert capfd.readouterr().out == ""


@pytest.mark.skipif(os.name == "nt", reason="a signal cannot be sent to a process there")
@pytest.mark.parametrize("phase", ["making a session", "a run"])
def test_ctrl_c_does_not_wait_for_onnxruntime(tmp_path: Path, phase: str) -> None:
    """A graph that would run for ever, which only a test can load; and what would be made for ever."""
    body = parser.parse_graph("""body (int64 i, bool going, float x) => (bool goes, float y) {
        goes = Identity(going)
        y = Identity(x)
    }""")
    graph = parser.parse_graph("""endless (float[N, 1] rows) => (float[N, 1] out) {
        a = Constant<value_int=1>()
        b = Cast<to=9>(a)
    }""")
    graph.node.append(onnx.helper.make_node("Loop", ["", "b", "one"], ["never"], body=body))
    graph.node.append(onnx.helper.make_node("Add", ["rows", "never"], ["out"]))
    graph.initializer.append(onnx.helper.make_tensor("one", onnx.TensorProto.FLOAT, (), [1.0]))
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), tmp_path / "graph.onnx")
    program = f"""
import signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
import numpy as np, onnxruntime
import action_clip.models.catalog.structure
from action_clip.models.runtime.graph import Graph
action_clip.models.catalog.structure.check_graph = lambda path: False
graph = Graph(Path({str(tmp_path / "graph.onnx")!r}))
if {phase == "a run"}:
    graph.start()
    run = onnxruntime.InferenceSession.run
    onnxruntime.InferenceSession.run = lambda *arguments: (print("begun", flush=True), run(*arguments))[1]
else:
    make = onnxruntime.InferenceSession
    onnxruntime.InferenceSession = lambda *arguments, **named: (
        print("begun", flush=True), make(*arguments, **named).run(None, {{"rows": np.zeros((1, 1), np.float32)}})
    )
try:
    graph(np.zeros((1, 1), np.float32))
except KeyboardInterrupt:
    print("interrupted", flush=True)
import os
os._exit(0)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=60)[0] == "interrupted\n"
        finally:
            process.kill()


def test_packed_weights_change_nothing_but_rounding(tmp_path: Path) -> None:
    path = save_model(random_model(seed=1, frames=8, transformer=True), tmp_path, frames=8) / "image.onnx"
    packed, unpacked = Graph(path), Graph(path, prepack=False)
    size = packed.shape[2] or 0
    rows = np.random.default_rng(3).normal(size=(8, 3, size, size)).astype(np.float32)
    np.testing.assert_allclose(unpacked(rows), packed(rows), rtol=0, atol=1e-5)
    settings = [graph.start().get_session_options() for graph in (packed, unpacked)]
    assert [each.get_session_config_entry("session.disable_prepacking") for each in settings] == ["0", "1"]
