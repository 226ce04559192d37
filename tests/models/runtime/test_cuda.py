"""Graphs on CUDA, played by the CPU's provider: in half precision, kept, and as they are where that is not possible."""

import logging
import os
import shutil
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from fake_providers import Providers
from numpy.typing import NDArray
from small_models import random_closed_model, random_model, save_closed_model, save_model
from small_transformers import random_frames, save_transformer

from action_clip import ActionClip, ActionClipError
from action_clip.models.runtime import cuda, devices, half
from action_clip.models.runtime.device_session import DeviceSession
from action_clip.models.runtime.graph import Graph
from action_clip.models.store.home import home

ROOT = Path(__file__).parents[3]
CUDA = "CUDAExecutionProvider"
FRAMES = random_frames(3)
needs_sympy = pytest.mark.skipif(find_spec("sympy") is None, reason="sympy is not installed")


def right(outputs: list[Any]) -> list[Any]:
    return outputs


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return save_transformer(tmp_path / "fusion.onnx")


def on_cuda(path: Path, keep: bool = False) -> NDArray[np.float32]:
    return Graph(path, device="cuda", keep=keep)(FRAMES)


def on_cpu(path: Path) -> NDArray[np.float32]:
    return Graph(path, device="cpu")(FRAMES)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert all(record.levelno <= logging.WARNING for record in caplog.records)
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def entries() -> list[Path]:
    root = home() / "optimised"
    return sorted(root.iterdir()) if root.exists() else []


def assert_half(found: NDArray[np.float32], path: Path) -> None:
    """Assert that these are the features of FRAMES in half precision."""
    expected = on_cpu(path)
    assert found.dtype == np.float32
    assert (half._cosines(found, expected) > 0.9999).all()
    assert np.abs(found - expected).max() > 1e-5


@needs_sympy
def test_the_form_in_half_precision_is_kept(
    installed: Providers, graph: Path, opened: list[Path], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    installed(**{CUDA: right})
    assert_half(on_cuda(graph, keep=True), graph)
    [entry] = entries()
    assert entry.name.split("-")[2:] == [*onnxruntime.__version__.split("-"), "cuda", "fp16", entry.name.split("-")[-1]]
    assert sorted(os.listdir(entry)) == ["graph.onnx", "kept-by-action_clip.txt", "seal.txt"]

    opened.clear()
    elsewhere = Path(shutil.copy(graph, tmp_path / "the same.onnx"))
    assert_half(on_cuda(elsewhere, keep=True), graph)
    assert [path for path in opened if isinstance(path, Path)] == [entry / "graph.onnx", graph]
    # What is kept for the processor is another entry.
    Graph(graph, device="cpu", keep=True)(FRAMES)
    assert len(entries()) == 2
    assert messages(caplog) == []


@needs_sympy
def test_a_damaged_form_is_made_anew(installed: Providers, graph: Path, caplog: pytest.LogCaptureFixture) -> None:
    installed(**{CUDA: right})
    on_cuda(graph, keep=True)
    [entry] = entries()
    whole = (entry / "graph.onnx").read_bytes()
    (entry / "graph.onnx").write_bytes(whole[:-7] + b"garbage")
    assert_half(on_cuda(graph, keep=True), graph)
    assert (entry / "graph.onnx").read_bytes() == whole
    assert messages(caplog) == [f"what was kept of {graph} for this machine was damaged, and is made anew"]


@needs_sympy
def test_without_the_cache_it_is_made_in_memory(installed: Providers, graph: Path, opened: list[Path]) -> None:
    installed(**{CUDA: right})
    assert_half(on_cuda(graph), graph)
    assert entries() == []
    assert [type(made) for made in opened[-2:]] == [bytes, type(graph)]  # the last one is that of `assert_half`


@needs_sympy
def test_a_disk_that_is_full_costs_a_warning(
    installed: Providers, graph: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    installed(**{CUDA: right})
    monkeypatch.setattr(Path, "write_bytes", full)
    assert_half(on_cuda(graph, keep=True), graph)
    assert messages(caplog) == [
        f"{graph} cannot be kept ready for this machine, so runs start slower: no space left",
    ]
    assert entries() == []


def test_without_the_optimiser_graphs_run_as_they_are(
    installed: Providers, graph: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed(**{CUDA: right})
    monkeypatch.setattr(half, "_PACKAGES", ("no_such_package",))
    other = save_transformer(tmp_path / "other.onnx", seed=7)
    for path in (graph, other, graph):
        np.testing.assert_allclose(on_cuda(path, keep=True), on_cpu(path), rtol=0, atol=1e-5)
    assert entries() == []
    assert messages(caplog) == [
        f"{graph} runs on the GPU as it is, not in half precision: pip install no_such_package makes it several times "
        "as fast"
    ]


def test_a_graph_without_such_a_form_runs_as_it_is(
    installed: Providers, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(**{CUDA: right})
    monkeypatch.setattr(half, "_PACKAGES", ("onnx",))  # sympy is not needed to see it
    path = save_model(random_model(1, 8, True), tmp_path, frames=8) / "image.onnx"
    rows = np.random.default_rng(2).standard_normal((16, 3, 32, 32), np.float32)
    found = Graph(path, device="cuda", keep=True)(rows)
    np.testing.assert_allclose(found, Graph(path, device="cpu")(rows), rtol=0, atol=1e-5)
    assert entries() == []
    assert messages(caplog) == [
        f"{path} runs on the GPU as it is, not in half precision: it has no attention that could be fused"
    ]


@needs_sympy
def test_a_gpu_that_computes_otherwise_runs_the_graph_as_it_is(
    installed: Providers, graph: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def reversed_in_half(outputs: list[Any]) -> list[Any]:
        return [output[:, ::-1].copy() if output.shape == (2, 32) else output for output in outputs]

    installed(**{CUDA: reversed_in_half})
    np.testing.assert_allclose(on_cuda(graph, keep=True), on_cpu(graph), rtol=0, atol=1e-5)
    assert entries() == []
    [message] = messages(caplog)
    assert "its outputs would differ, with a cosine of" in message


def test_keys_of_features_tell_half_precision(
    installed: Providers, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(**{CUDA: right})
    found = set()
    for packages in (("onnx",), ("no_such_package",)):
        monkeypatch.setattr(half, "_PACKAGES", packages)
        found.add(Graph(graph, device="cuda").identity())
    found.add(Graph(graph, device="cpu").identity())
    assert len(found) == 3
    assert len([identity for identity in found if "fp16" in identity]) == 1


def test_labels_in_half_precision_have_a_label_bank_of_their_own(
    installed: Providers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the keys of features are the same only for the same device and precision."""
    installed(**{CUDA: right})
    folder = save_model(random_model(1, 8, True), tmp_path, frames=8)
    runs = []
    for packages in (("onnx",), ("no_such_package",)):
        monkeypatch.setattr(half, "_PACKAGES", packages)
        for _ in range(2):
            model = ActionClip(folder, device="cuda")
            model.labels(["eating", "running"])
            runs.append(model._graphs["text"]._session is not None)
    assert runs == [True, False, True, False]


@needs_sympy
def test_the_session_for_a_clip_has_fixed_sizes_and_captures(
    installed: Providers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(**{CUDA: right})
    settings: list[Any] = []
    make = onnxruntime.InferenceSession

    def noted(*arguments: Any, provider_options: Any = None, **named: Any) -> Any:
        settings.append((named["providers"], provider_options))
        return make(*arguments, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", noted)
    path = save_transformer(tmp_path / "fusion.onnx", computed_shapes=True)
    options = onnxruntime.SessionOptions
    session = cuda._captured_session(cuda._graph(path, cache=False, group=1), options, {"N": 1})
    assert settings[-1] == ([CUDA], [{"cudnn_conv_algo_search": "HEURISTIC", "enable_cuda_graph": "1"}])
    assert session.get_inputs()[0].shape == [1, 8, 32]
    bound = DeviceSession(session, device="cpu", group=1)
    (found,) = bound.run(["features"], {"frames": FRAMES[:1]})
    assert (half._cosines(found, on_cpu(path)[:1]) > 0.9999).all()


def test_a_large_batch_is_one_call(installed: Providers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(**{CUDA: right})
    monkeypatch.setattr(half, "_PACKAGES", ("no_such_package",))
    path = save_model(random_model(1, 8, True), tmp_path, frames=8) / "image.onnx"
    counts: list[int] = []
    run = DeviceSession.run

    def noted(self: DeviceSession, names: Any, feeds: Any, options: Any) -> Any:
        counts.append(len(feeds["frames"]))
        return run(self, names, feeds, options)

    monkeypatch.setattr(DeviceSession, "run", noted)
    rows = np.zeros((1032, 3, 32, 32), np.float32)
    assert len(Graph(path, device="cuda", group=8)(rows)) == 1032
    assert counts == [1024, 8]  # 128 clips, and one more


def test_a_gpu_without_libraries_is_said_before_any_work(
    installed: Providers, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> bytes:
        raise AssertionError

    installed(**{CUDA: None})
    monkeypatch.setattr(cuda, "half_graph", never)
    missing = r"the device 'cuda' could not be started \(libcublasLt\.so\.12: cannot .*\): check NVIDIA"
    with pytest.raises(ActionClipError, match=missing):
        on_cuda(graph, keep=True)
    assert entries() == []


def test_a_driver_that_is_missing_or_too_old_is_said(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(*_: object, **__: object) -> None:
        raise RuntimeError(
            "/src/cuda_call.cc:122 CudaCall() [with ERRTYPE = cudaError] CUDA failure 35: CUDA driver version is "
            "insufficient for CUDA runtime version ; GPU=-1 ; hostname=x ; expr=cudaSetDevice(info_.device_id);"
        )

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", no_driver)
    with pytest.raises(ActionClipError) as caught:
        on_cuda(graph)
    assert str(caught.value) == (
        "the device 'cuda' could not be started (CUDA driver version is insufficient for CUDA runtime version): check "
        "NVIDIA's driver, CUDA and cuDNN, and that the GPU has free memory, or use --device cpu"
    )


def test_an_output_that_is_not_finite_is_different(installed: Providers, tmp_path: Path) -> None:
    def second_is_not_finite(outputs: list[Any]) -> list[Any]:
        return [outputs[0], *(np.full_like(output, np.nan) for output in outputs[1:])]

    installed(**{CUDA: second_is_not_finite})
    path = save_closed_model(random_closed_model(3, 8), tmp_path) / "video.onnx"
    assert np.isnan(half._least_cosine(path, path.read_bytes(), CUDA, 1))


def test_a_graph_with_two_inputs_is_refused_as_on_the_processor(
    installed: Providers, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(**{CUDA: right})
    monkeypatch.setattr(half, "_PACKAGES", ("no_such_package",))
    model = onnx.load(graph)
    model.graph.input.add().CopyFrom(model.graph.input[0])
    model.graph.input[1].name = "more"
    onnx.save(model, graph)
    for device in ("cpu", "cuda"):
        with pytest.raises(ActionClipError, match=r"takes \(frames: tensor\(float\), more: .*\), not one tensor"):
            Graph(graph, device=device).start()


@needs_sympy
def test_the_form_of_a_graph_with_weights_in_another_file_is_kept(
    installed: Providers, graph: Path, opened: list[Path]
) -> None:
    installed(**{CUDA: right})
    onnx.save(onnx.load(graph), graph, save_as_external_data=True, location="weights.data", size_threshold=1000)
    for _ in range(2):
        assert_half(on_cuda(graph, keep=True), graph)
    [entry] = entries()
    assert opened.count(entry / "graph.onnx") == 2


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDA")
def test_it_is_said_what_cuda_needs(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where onnxruntime has CUDA, and CUDA itself is missing, it takes the CPU."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    with pytest.raises(ActionClipError) as caught:
        on_cuda(graph)
    assert str(caught.value) == (
        "the device 'cuda' could not be started, only CPUExecutionProvider could: install what its provider needs "
        "(CUDA and cuDNN: pip install 'onnxruntime-gpu[cuda,cudnn]') or use --device cpu"
    )


def test_a_graph_that_cannot_be_read_is_named(installed: Providers, graph: Path) -> None:
    installed(**{CUDA: right})
    graph.write_bytes(b"no graph")
    with pytest.raises(ActionClipError, match=r"fusion\.onnx cannot be loaded on 'cuda' .*, or try --device cpu"):
        on_cuda(graph, keep=True)


def test_libraries_are_loaded_once_and_quietly(
    installed: Providers, graph: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """onnxruntime prints what it cannot load on stdout, and warns."""
    calls: list[int] = []

    def preload_dlls() -> None:
        calls.append(1)
        vars(onnxruntime).get("print", print)("Failed to load libcublas.so.13")
        warnings.warn("Failed to register", stacklevel=1)

    installed(**{CUDA: right})
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload_dlls, raising=False)
    monkeypatch.setattr(half, "_PACKAGES", ("no_such_package",))
    devices.load_cuda_libraries.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Graph(graph, device="cpu").start()
        assert calls == []
        for _ in range(2):
            on_cuda(graph)
    assert calls == [1]
    assert capfd.readouterr() == ("", "")
    assert "print" not in vars(onnxruntime)


def test_an_onnxruntime_that_loads_no_libraries_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(onnxruntime, "preload_dlls", raising=False)
    devices.load_cuda_libraries.cache_clear()
    devices.load_cuda_libraries()


def test_the_processor_needs_none_of_it(graph: Path) -> None:
    """What is for GPUs is not even imported for the CPU."""
    program = f"""
import sys
from pathlib import Path
from action_clip.models.runtime.graph import Graph
graph = Graph(Path({str(graph)!r}), device="cpu", keep=True)
graph.identity()
graph.start()
print([name for name in ("onnx", "sympy", "action_clip.models.runtime.device_session") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_makes_a_session_of_its_own(graph: Path) -> None:
    program = f"""
import os, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import numpy as np, pytest
from pathlib import Path
from fake_providers import install
from small_transformers import random_frames
from action_clip.models.runtime import device_session, half
from action_clip.models.runtime.graph import Graph
install(pytest.MonkeyPatch(), {{"CUDAExecutionProvider": lambda outputs: outputs}})
half._PACKAGES = ("no_such_package",)
device_session._MOST_NUMBERS = 600  # several runs, in threads
graph, frames = Graph(Path({str(graph)!r}), device="cuda"), random_frames(9)
features = graph(frames)
if child := os.fork():
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), np.allclose(graph(frames), features, atol=1e-5))
else:
    sys.exit(7 if np.allclose(graph(frames), features, atol=1e-5) else 1)
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]  # of forks in processes with threads
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "7 True\n", done.stderr


@needs_sympy
def test_exports_with_weights_in_float16_stay_readable(installed: Providers, tmp_path: Path) -> None:
    installed(**{CUDA: right})
    path = save_transformer(tmp_path / "fusion.onnx", packed=True)
    assert_half(on_cuda(path, keep=True), path)
    assert np.isfinite(on_cpu(path)).all()
    assert {node.op_type for node in onnx.load(path).graph.node} >= {"Cast", "Softmax"}
