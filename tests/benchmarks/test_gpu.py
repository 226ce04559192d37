"""The case `gpu`: absent where there is no CUDA device, its clips, and its figures; no time is looked at."""

from pathlib import Path

import numpy as np
import pytest

from action_clip.models.runtime.devices import _available
from benchmarks import cases, gpu
from benchmarks.contestants import ON_GPU, PYTORCH_ON_GPU, STAGES, find
from benchmarks.inputs import FRAMES, Inputs
from benchmarks.measure import Raw, Sample, workers
from benchmarks.report import section, verdict

pytestmark = pytest.mark.slow


@pytest.mark.skipif("CUDAExecutionProvider" in _available(), reason="onnxruntime has CUDA")
def test_without_a_cuda_device_it_is_absent(tmp_path: Path) -> None:
    contestants = [find(STAGES["gpu"], ON_GPU.format(count)) for count in (1, 128)]
    raw = workers("gpu", contestants, tmp_path, 1)
    assert not raw.samples
    assert set(raw.absent) == {ON_GPU.format(1), ON_GPU.format(128)}
    assert all(reason.startswith("the device 'cuda' ") and ";" not in reason for reason in raw.absent.values())
    page = section("gpu", cases.CASES["gpu"], raw)
    assert f"| {ON_GPU.format(128)} | not installed (the device 'cuda' is not there: " in page
    assert "0 rounds" in page
    assert {verdict(target, raw)[2] for target in cases.CASES["gpu"].targets} == {"not measured"}


def test_without_a_cuda_device_pytorch_is_absent(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ImportError, match="PyTorch finds no CUDA device"):
        gpu.pytorch(Inputs(tmp_path), 1)


def test_the_first_clips_are_the_same_for_any_count() -> None:
    one, two = (gpu.random_clips(count) for count in (1, 2))
    assert two.shape == (2 * FRAMES, 3, 224, 224)
    np.testing.assert_array_equal(two[:FRAMES], one)
    assert np.abs(two[FRAMES:] - one).max() > 1


def test_clips_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {ON_GPU.format(1): 0.001, PYTORCH_ON_GPU.format(1): 0.003, ON_GPU.format(128): 0.04}
    raw = Raw(samples={name: [Sample(value)] * 3 for name, value in seconds.items()})
    monkeypatch.setattr(cases, "workers", lambda *_: raw)
    found = cases.CASES["gpu"].measure(Inputs(tmp_path), 1)
    assert found.notes == pytest.approx(
        {
            "clips a second, program, clips at once: 1": 1000,
            "clips a second, PyTorch fp16 eager, clips at once: 1": 1000 / 3,
            "clips a second, program, clips at once: 128": 3200,
        }
    )
    verdicts = [verdict(target, found) for target in cases.CASES["gpu"].targets]
    assert [(reach, measured) for _, reach, measured, _ in verdicts] == [
        ("≥ 2×", "3×"), ("≥ 1×", "not measured"), ("≥ 1×", "not measured"), ("≥ 1×", "not measured"),
    ]  # fmt: skip
