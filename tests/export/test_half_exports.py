"""Exported graphs in half precision, as CUDA runs them: what is fused in each, and that answers stay."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_once import made_once
from fake_providers import Providers
from random_checkpoints import Sizes, fusion_state, openai_state

from action_clip import ActionClip
from action_clip.export.command import main
from action_clip.models.runtime.devices import CPU
from action_clip.models.runtime.half import HalfError, attention_size, half_graph
from action_clip.models.store.home import home

pytestmark = pytest.mark.slow
LAYERS, FUSION_LAYERS = 3, 6
SIZES = Sizes(layers=LAYERS, text_layers=2)
LABELS = ["eating", "riding a bicycle", "dancing"]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model in all precisions."""

    def fill(folder: Path) -> None:
        state = {"model_state_dict": openai_state(SIZES), "fusion_model_state_dict": fusion_state("Transf", 64)}
        torch.save(state, folder / "checkpoint.pt")
        for precision in ("fp32", "fp16", "int8"):
            command = [str(folder / "checkpoint.pt"), "--out", str(folder / precision), "--precision", precision]
            assert main(command) == 0

    return made_once(tmp_path_factory, "half", fill)


def kinds(content: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(content).graph.node)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_what_is_fused(exports: Path, precision: str) -> None:
    image, fusion, text = (
        kinds(half_graph(exports / precision / f"{role}.onnx", CPU, group))
        for role, group in (("image", 8), ("fusion", 1), ("text", 1))
    )
    # Of the last block, only the state of the class token is computed: it attends to others than itself.
    assert (image["Attention"], fusion["Attention"]) == (LAYERS - 1, FUSION_LAYERS)
    assert (image["QuickGelu"], fusion["QuickGelu"], text["QuickGelu"]) == (LAYERS, FUSION_LAYERS, 2)
    assert min(image["SkipLayerNormalization"], fusion["SkipLayerNormalization"], text["SkipLayerNormalization"]) > 2


def test_the_size_of_attention_is_that_of_each_graph(exports: Path) -> None:
    sizes = [attention_size(onnx.load(exports / "fp32" / f"{role}.onnx").graph) for role in ("image", "fusion", "text")]
    assert sizes == [(SIZES.width // 64, SIZES.width), (1, SIZES.embedding), (1, SIZES.text_width)]


@pytest.mark.parametrize("role", ["image", "fusion", "text"])
def test_int8_stays_as_it_is(exports: Path, role: str) -> None:
    with pytest.raises(HalfError, match="its products are in int8"):
        half_graph(exports / "int8" / f"{role}.onnx", CPU, 1)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_answers_stay(exports: Path, precision: str, installed: Providers, caplog: pytest.LogCaptureFixture) -> None:
    installed(CUDAExecutionProvider=lambda outputs: outputs)
    frames = np.random.default_rng(1).integers(0, 256, (8, 40, 40, 3), np.uint8)
    expected = ActionClip(exports / precision, device="cpu").classify(frames, LABELS).probabilities
    for _ in range(2):
        found = ActionClip(exports / precision, device="cuda").classify(frames, LABELS).probabilities
        np.testing.assert_allclose(found, expected, atol=0.02)
    assert np.abs(found - expected).max() > 0
    assert len(list((home() / "optimised").glob("*-cuda-fp16-*"))) == 3
    assert caplog.records == []
