"""DeviceSession on the CPU, whose sessions can be bound too: outputs as by onnxruntime's own run, for all rows."""

import gc
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from small_models import random_closed_model, random_model, save_closed_model, save_model
from small_transformers import random_frames, save_transformer

from action_clip.models.runtime import device_session, pinned
from action_clip.models.runtime.device_session import DeviceSession
from action_clip.models.runtime.graph import Graph
from action_clip.models.runtime.pinned import Copier, Staging

CPU = "CPUExecutionProvider"


def plain(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=[CPU])


def rows_of(path: Path, count: int, seed: int = 1) -> NDArray[Any]:
    """Random input of a graph."""
    (declared,) = plain(path).get_inputs()
    rng = np.random.default_rng(seed)
    if "int" in declared.type:
        return rng.integers(1, 90, (count, 9)).astype(declared.type[7:-1])
    return rng.standard_normal((count, *declared.shape[1:]), np.float32)


def run(session: Any, rows: NDArray[Any]) -> list[NDArray[Any]]:
    """All outputs."""
    outputs: list[NDArray[Any]] = session.run(
        [output.name for output in session.get_outputs()], {session.get_inputs()[0].name: rows}
    )
    return outputs


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Small graphs of all roles."""
    save_closed_model(random_closed_model(3, 8), tmp_path)
    return save_model(random_model(2, 8, True), tmp_path, frames=8)


@pytest.fixture
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of at most 2 clips of the small models' image graph."""
    monkeypatch.setattr(device_session, "_MOST_NUMBERS", 2 * 8 * 3 * 32 * 32)


@pytest.mark.usefixtures("small_runs")
@pytest.mark.parametrize("count", [1, 8, 16, 17, 40, 100])
@pytest.mark.parametrize("role", ["text", "image", "fusion", "video"])
def test_outputs_are_those_of_a_plain_run(models: Path, role: str, count: int) -> None:
    path = models / f"{role}.onnx"
    rows = rows_of(path, count)
    session = DeviceSession(plain(path), device="cpu", group=8 if role == "image" else 1)
    expected = run(plain(path), rows)
    found = run(session, rows)
    assert len(found) == len(expected) == (2 if role == "video" else 1)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("small_runs")
def test_runs_are_whole_groups(models: Path) -> None:
    session = DeviceSession(plain(models / "image.onnx"), device="cpu", group=8)
    assert [len(part) for part in session._parts(rows_of(models / "image.onnx", 40))] == [16, 16, 8]
    alone = DeviceSession(plain(models / "image.onnx"), device="cpu", group=24)
    assert [len(part) for part in alone._parts(rows_of(models / "image.onnx", 40))] == [24, 16]


def test_a_declared_batch_is_one_run(tmp_path: Path) -> None:
    path = save_model(random_model(2, 8, True), tmp_path, frames=8, batch=8) / "image.onnx"
    session = DeviceSession(plain(path), device="cpu", group=8)
    assert len(session._parts(np.empty((100_000, 1), np.float32))) == 1
    np.testing.assert_allclose(run(session, rows_of(path, 8))[0], run(plain(path), rows_of(path, 8))[0], atol=1e-6)


def test_a_graph_in_float16_takes_float32(tmp_path: Path) -> None:
    path = save_model(random_model(2, 8, True), tmp_path, frames=8, floats="float16") / "image.onnx"
    session = DeviceSession(plain(path), device="cpu", group=8)
    (declared,) = session.get_inputs()
    assert (declared.name, declared.type, list(declared.shape[1:])) == ("frames", "tensor(float)", [3, 32, 32])
    rows = np.random.default_rng(1).standard_normal((8, 3, 32, 32), np.float32)
    (expected,) = run(plain(path), rows.astype(np.float16))
    np.testing.assert_array_equal(run(session, rows)[0], expected)


def test_threads_get_the_outputs_of_their_rows(models: Path) -> None:
    path = models / "image.onnx"
    session = DeviceSession(plain(path), device="cpu", group=8)
    inputs = [rows_of(path, 8 * (1 + number % 3), number) for number in range(24)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda rows: run(session, rows)[0], inputs))
    for rows, features in zip(inputs, found, strict=True):
        np.testing.assert_allclose(features, run(plain(path), rows)[0], rtol=0, atol=1e-5)


def test_outputs_stay_when_the_next_run_begins(models: Path) -> None:
    path = models / "fusion.onnx"
    session = DeviceSession(plain(path), device="cpu", group=1, captured=lambda _: plain(path))
    inputs = [rows_of(path, 1, number) for number in range(3 * device_session._CAPTURE_AFTER)]
    found = [run(session, rows)[0] for rows in inputs]
    assert session._clip is not None
    for rows, features in zip(inputs, found, strict=True):
        np.testing.assert_allclose(features, run(plain(path), rows)[0], rtol=0, atol=1e-5)


def test_an_error_of_onnxruntime_is_raised_and_the_session_goes_on(models: Path) -> None:
    path = models / "image.onnx"
    session = DeviceSession(plain(path), device="cpu", group=8)
    options = onnxruntime.RunOptions()
    options.terminate = True
    for _ in range(2 * device_session._LANES):
        with pytest.raises(Exception, match="terminate flag"):
            session.run(["features"], {"frames": rows_of(path, 8)}, options)
    assert run(session, rows_of(path, 8))[0].shape == (8, 16)


class Watched:
    """Makes sessions, counts them, and notes the threads that they run in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.made: list[dict[str, int]] = []
        self.threads: set[int] = set()

    def __call__(self, sizes: Mapping[str, int]) -> Any:
        self.made.append(dict(sizes))
        session = plain(self._path)
        run_bound = session.run_with_iobinding

        def noted(*arguments: Any) -> None:
            self.threads.add(threading.get_ident())
            run_bound(*arguments)

        session.run_with_iobinding = noted
        return session


def test_a_clip_gets_a_session_of_its_own_after_some_and_one_thread(models: Path) -> None:
    path = models / "image.onnx"
    watched = Watched(path)
    session = DeviceSession(plain(path), device="cpu", group=8, captured=watched)
    for number in range(device_session._CAPTURE_AFTER):
        run(session, rows_of(path, 8, number))
        run(session, rows_of(path, 16, number))
    assert watched.made == []
    inputs = [rows_of(path, 8, number) for number in range(20)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda rows: run(session, rows)[0], inputs))
    for rows, features in zip(inputs, found, strict=True):
        np.testing.assert_allclose(features, run(plain(path), rows)[0], rtol=0, atol=1e-5)
    assert watched.made == [{"N": 8}]
    assert len(watched.threads) == 1
    session._clip = None
    assert len(run(session, inputs[0])[0]) == 8
    assert watched.made == [{"N": 8}]


def test_only_runs_like_the_captured_one_are_replayed(models: Path) -> None:
    path = models / "video.onnx"
    session = DeviceSession(plain(path), device="cpu", group=1, captured=lambda _: plain(path))
    rows = rows_of(path, 1)
    for _ in range(2 * device_session._CAPTURE_AFTER):
        run(session, rows)
    assert session._clip is not None
    assert session._clip.fits(["logits", "features"], rows)
    assert not session._clip.fits(["logits"], rows)
    assert not session._clip.fits(["logits", "features"], rows_of(path, 2))
    (logits,) = session.run(["logits"], {"clip": rows})
    np.testing.assert_allclose(logits, run(plain(path), rows)[0], rtol=0, atol=1e-5)


def no_session(_: Mapping[str, int]) -> Any:
    raise RuntimeError("not all nodes are on the device")


@pytest.mark.parametrize("how", ["cannot be made", "gives other outputs"])
def test_a_capture_that_fails_is_tried_once(models: Path, how: str) -> None:
    path = models / "image.onnx"
    model = onnx.load(path)
    for weight in model.graph.initializer:
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight)[::-1].copy(), weight.name))
    other = path.with_name("other.onnx")
    onnx.save(model, other)
    made: list[int] = []

    def failing(sizes: Mapping[str, int]) -> Any:
        made.append(1)
        return no_session(sizes) if how == "cannot be made" else plain(other)

    session = DeviceSession(plain(path), device="cpu", group=8, captured=failing)
    for number in range(2 * device_session._CAPTURE_AFTER):
        rows = rows_of(path, 8, number)
        np.testing.assert_allclose(run(session, rows)[0], run(plain(path), rows)[0], rtol=0, atol=1e-5)
    assert made == [1]
    assert session._clip is None


def test_texts_are_never_captured(models: Path) -> None:
    path = models / "text.onnx"
    session = DeviceSession(plain(path), device="cpu", group=1, captured=no_session)
    for _ in range(2 * device_session._CAPTURE_AFTER):
        run(session, rows_of(path, 1))
    assert session._make_captured is None


def test_nothing_runs_while_a_run_is_captured() -> None:
    captures = device_session._Captures()
    order: list[str] = []
    begun, waited = threading.Event(), threading.Event()

    def other() -> None:
        with captures.away():
            begun.set()
            waited.wait(30)
            order.append("another run")

    def capture() -> None:
        with captures.alone():
            order.append("capture begins")
            assert not later.done()
            order.append("capture ends")

    def next_run() -> None:
        with captures.away():
            order.append("a later run")

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(other)
        begun.wait(30)
        captured = pool.submit(capture)
        while not captures._is_capturing:
            pass
        later = pool.submit(next_run)
        waited.set()
        for done in (first, captured, later):
            done.result(30)
    assert order == ["another run", "capture begins", "capture ends", "a later run"]


@pytest.mark.parametrize("count", [0, 1, 5, 1 << 20, (5 << 20) + 3])
@pytest.mark.parametrize("kind", ["float32", "float16", "int64"])
def test_numbers_are_copied_and_become_half(count: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned, "usable_cores", lambda: 4)
    source: NDArray[Any] = np.random.default_rng(1).standard_normal(count, np.float32) * 1000
    if kind == "int64":
        source = source.astype(np.int64)
    target = np.empty(count, kind)
    Copier().copy(source, target)
    np.testing.assert_array_equal(target, source.astype(kind))


class Runtime:
    """CUDA's runtime, as far as memory is pinned: what is, by address."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.pinned: dict[int, int] = {}
        self.flags: set[int] = set()
        self.last_error = 0

    def cudaHostRegister(self, address: Any, size: Any, flags: int) -> int:
        self.flags.add(flags)
        if not self.code:
            self.pinned[address.value] = size.value
        self.last_error = self.code
        return self.code

    def cudaGetLastError(self) -> int:
        error, self.last_error = self.last_error, 0
        return error

    def cudaHostUnregister(self, address: Any) -> int:
        del self.pinned[address.value]
        return 0


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """In place of CUDA's."""
    runtime = Runtime()
    monkeypatch.setattr(pinned, "_cuda_runtime", lambda: runtime)
    return runtime


def test_the_buffer_is_pinned_as_long_as_it_is_there(runtime: Runtime) -> None:
    staging = Staging(Copier())
    rows = np.arange(3000, dtype=np.float32).reshape(3, 1000)
    held = staging.hold(rows, np.dtype(np.float16))
    np.testing.assert_array_equal(held, rows.astype(np.float16))
    assert runtime.pinned == {held.ctypes.data: 6000}
    assert staging.hold(rows[:1], np.dtype(np.float32)).ctypes.data == held.ctypes.data
    larger = staging.hold(rows, np.dtype(np.float32))
    assert runtime.pinned == {larger.ctypes.data: 12000}
    assert runtime.flags == {1}
    del staging
    gc.collect()
    assert runtime.pinned == {}


def test_memory_that_cannot_be_pinned_is_used(runtime: Runtime, models: Path) -> None:
    runtime.code = 2  # out of memory
    path = models / "image.onnx"
    rows = rows_of(path, 8)
    session = DeviceSession(plain(path), device="cpu", group=8)
    np.testing.assert_allclose(run(session, rows)[0], run(plain(path), rows)[0], rtol=0, atol=1e-5)
    assert runtime.flags == {1}
    assert runtime.last_error == 0  # onnxruntime would find it after the next operator


def test_without_cuda_there_is_no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("", "99.0"):
        monkeypatch.setattr(onnxruntime, "cuda_version", version, raising=False)
        assert pinned._cuda_runtime.__wrapped__() is None


def test_a_graph_calls_it_like_any_session(tmp_path: Path) -> None:
    path = save_transformer(tmp_path / "fusion.onnx")
    graph = Graph(path, device="cpu")
    expected = graph(random_frames(3))
    graph._session = DeviceSession(plain(path), device="cpu", group=1)
    np.testing.assert_allclose(graph(random_frames(3)), expected, rtol=0, atol=1e-5)
    assert graph.shape == (None, 8, 32)
