"""Devices and the providers that they mean; of "auto", the best provider that starts, decided once and quietly."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from fake_providers import CPU, Providers
from small_models import random_model, save_model

from action_clip.errors import ActionClipError
from action_clip.models.runtime import devices
from action_clip.models.runtime.devices import check_device, device_name, provider
from action_clip.models.runtime.graph import Graph
from action_clip.models.store.home import home

ROOT = Path(__file__).parents[3]
CUDA, DIRECTML = "CUDAExecutionProvider", "DmlExecutionProvider"


def right(outputs: list[Any]) -> list[Any]:
    return outputs


def wrong(outputs: list[Any]) -> list[Any]:
    return [np.zeros_like(output) for output in outputs]


def failing(_: list[Any]) -> list[Any]:
    raise RuntimeError("CUDA failure 35: the driver is too old")


def no_session(*_: object) -> list[Any]:
    raise AssertionError("not to be called")


def test_a_remote_host_is_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    providers = ["AzureExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    with pytest.raises(ActionClipError, match=r"the device 'azure' is not there: this onnxruntime has cpu;"):
        provider("azure")


def test_devices_are_named_as_users_know_them(installed: Providers) -> None:
    installed(**{CUDA: right})
    assert provider("cpu") == provider("CPU") == CPU
    assert provider("cuda") == provider("Cuda") == CUDA
    assert device_name(CUDA) == "cuda"


def test_auto_makes_no_session_where_only_the_cpu_is_there(
    opened: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider", CPU])
    assert provider("auto") == provider("AUTO") == CPU
    assert opened == []
    assert caplog.records == []


@pytest.mark.parametrize("device", ["auto", "cpu", "CPU"])
def test_checking_what_is_always_there_does_not_import_onnxruntime(device: str) -> None:
    program = f"""
import sys
from action_clip.models.runtime.devices import check_device
check_device({device!r})
print("onnxruntime" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_checking_a_device_does_not_start_it(installed: Providers) -> None:
    tried = installed(**{CUDA: right})
    check_device("cuda")
    with pytest.raises(ActionClipError, match=r"the device 'abacus' is not there: this onnxruntime has cpu, cuda;"):
        check_device("abacus")
    with pytest.raises(ActionClipError, match="device is None: give its name, such as 'auto' or 'cpu'"):
        check_device(None)  # type: ignore[arg-type]
    assert tried == []


@pytest.mark.parametrize(("device", "package"), [("CUDA", "onnxruntime-gpu"), ("openvino", "onnxruntime-openvino")])
def test_a_package_that_another_one_was_installed_over_is_to_be_installed_again(
    installed: Providers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, package: str
) -> None:
    installed()
    extra = "cuda" if device == "CUDA" else device
    with pytest.raises(ActionClipError) as caught:
        provider(device)
    assert str(caught.value) == (
        f"the device '{device}' is not there: this onnxruntime has cpu; choose one of them, or pip install "
        f"'action-clip[{extra}]' (in a clone '.[{extra}]') and then pip install --no-deps --force-reinstall {package}"
    )
    information = tmp_path / f"{package.replace('-', '_')}-1.27.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.27.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    advice = f"{package} is installed, but .*: pip install --no-deps --force-reinstall {package}$"
    with pytest.raises(ActionClipError, match=f"'{device}' is not there: this onnxruntime has cpu; {advice}"):
        provider(device)


@pytest.mark.parametrize(
    ("cuda", "directml", "expected"),
    [(right, right, CUDA), (None, right, DIRECTML), (failing, right, DIRECTML), (wrong, right, DIRECTML)],
)
def test_auto_is_the_first_provider_that_starts(
    installed: Providers, caplog: pytest.LogCaptureFixture, cuda: Any, directml: Any, expected: str
) -> None:
    # In onnxruntime's order, which is not ours.
    tried = installed(**{DIRECTML: directml, CUDA: cuda, "TensorrtExecutionProvider": no_session})
    assert [provider("auto") for _ in range(3)] == [expected] * 3
    assert tried == ([CUDA] if expected == CUDA else [CUDA, DIRECTML])
    assert [record.message for record in caplog.records] == [
        f"graphs run on {device_name(expected)}; --device cpu runs them on the processor"
    ]


@pytest.mark.parametrize("cuda", [None, failing, wrong])
def test_auto_is_the_cpu_where_nothing_else_starts(
    installed: Providers, caplog: pytest.LogCaptureFixture, cuda: Any
) -> None:
    tried = installed(**{CUDA: cuda})
    assert [provider("auto") for _ in range(3)] == [CPU] * 3
    assert tried == [CUDA]
    assert caplog.records == []


def test_threads_decide_once(installed: Providers, caplog: pytest.LogCaptureFixture) -> None:
    tried = installed(**{CUDA: right})
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(provider, ["auto"] * 32)) == [CUDA] * 32
    assert tried == [CUDA]
    assert len(caplog.records) == 1


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return save_model(random_model(1, 8, True), tmp_path / "model", frames=8) / "fusion.onnx"


ROWS = np.random.default_rng(1).normal(size=(1, 8, 16)).astype(np.float32)


def test_a_graph_runs_on_auto_unless_another_device_is_named(installed: Providers, graph: Path) -> None:
    installed(**{CUDA: lambda outputs: [output + 1 if output.shape == (1, 16) else output for output in outputs]})
    on_cpu = Graph(graph, device="cpu")(ROWS)
    np.testing.assert_array_equal(Graph(graph)(ROWS), on_cpu + 1)
    np.testing.assert_array_equal(Graph(graph, keep=True)(ROWS), on_cpu + 1)
    assert os.listdir(home() / "optimised") == []  # it has no form for this device
    assert Graph(graph).identity() == Graph(graph, device="cuda").identity() != Graph(graph, device="cpu").identity()


def test_a_graph_for_which_auto_is_the_cpu_uses_the_session_cache(installed: Providers, graph: Path) -> None:
    installed(**{CUDA: None})
    np.testing.assert_array_equal(Graph(graph, keep=True)(ROWS), Graph(graph, device="cpu")(ROWS))
    assert len(list((home() / "optimised").glob("*/graph.onnx"))) == 1
    assert Graph(graph).identity() == Graph(graph, device="cpu").identity()


def test_what_goes_wrong_on_auto_names_the_device(installed: Providers, graph: Path) -> None:
    def out_of_memory(outputs: list[Any]) -> list[Any]:
        if outputs[0].shape == (1, 16):
            raise RuntimeError("out of its memory")
        return outputs

    installed(**{CUDA: out_of_memory})
    with pytest.raises(ActionClipError, match=r"fusion\.onnx failed on 'cuda' \(out of its memory\)"):
        Graph(graph)(ROWS)
    graph.write_bytes(b"no graph")
    with pytest.raises(ActionClipError, match=r"fusion\.onnx cannot be loaded on 'cuda' .*, or try --device cpu"):
        Graph(graph).start()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_decides_anew(graph: Path) -> None:
    """As CUDA does not start in a child of a process that has used it."""
    program = f"""
import os
from pathlib import Path
import numpy as np
from action_clip.models.runtime import devices
from action_clip.models.runtime.graph import Graph
parent = os.getpid()
devices._available = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
devices._starts = lambda name: os.getpid() == parent
graph = Graph(Path({str(graph)!r}))
assert devices.provider("auto") == "CUDAExecutionProvider"
graph.identity()
child = os.fork()
if child == 0:
    assert graph(np.zeros((1, 8, 16), np.float32)).shape == (1, 16)
    os._exit(7 if devices.provider("auto") == "CPUExecutionProvider" else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), devices.provider("auto"))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == (f"7 {CUDA}\n", 0), done.stderr


def test_this_onnxruntime_is_tried_quietly() -> None:
    """Whatever it is: one with CUDA and without a driver, for which it would log two errors, says nothing either."""
    program = """
import onnxruntime
from action_clip.models.runtime import devices
devices._PREFERRED = tuple(name for name in onnxruntime.get_available_providers() if name != devices.CPU)
best = devices.provider("auto")
print(best)
assert devices._starts(best)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    best = done.stdout.strip()
    note = "" if best == CPU else f"graphs run on {device_name(best)}; --device cpu runs them on the processor\n"
    assert (done.returncode, done.stderr) == (0, note)
    assert best in onnxruntime.get_available_providers()


def test_the_graph_that_is_tried_is_a_whole_one() -> None:
    onnx.checker.check_model(onnx.load_from_string(devices._PRODUCT), full_check=True)
    assert devices._starts(CPU)
