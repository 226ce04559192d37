"""ViT-B/32 in its full size, against the network in PyTorch's own words."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from random_checkpoints import VIT_B_32, State, fusion_state, openai_state
from small_exports import MEAN, STD, node_row, probabilities
from torch.nn import functional

from action_clip.commands.samples import SAMPLE_LABELS, SAMPLE_VIDEO
from action_clip.export.command import main
from action_clip.tokenizer.bpe import default_tokenizer
from action_clip.tokenizer.prompts import DEFAULT_PROMPTS, read_labels

ROOT = Path(__file__).parents[2]


def reference_tower(state: State, prefix: str, x: torch.Tensor, heads: int, mask: torch.Tensor | None) -> torch.Tensor:
    """A transformer in OpenAI's layout by PyTorch's own attention: (N, L, W) → (N, L, W)."""
    layers = len({name.split(".")[-4] for name in state if name.startswith(prefix) and name.endswith("mlp.c_fc.bias")})
    for number in range(layers):
        own = f"{prefix}resblocks.{number}."
        p = {name.removeprefix(own): value for name, value in state.items() if name.startswith(own)}
        y = functional.layer_norm(x, x.shape[-1:], p["ln_1.weight"], p["ln_1.bias"]).transpose(0, 1)
        y, _ = functional.multi_head_attention_forward(
            y, y, y, x.shape[-1], heads, p["attn.in_proj_weight"], p["attn.in_proj_bias"], None, None, False, 0.0,
            p["attn.out_proj.weight"], p["attn.out_proj.bias"], training=False, need_weights=False, attn_mask=mask,
        )  # fmt: skip
        x = x + y.transpose(0, 1)
        y = functional.layer_norm(x, x.shape[-1:], p["ln_2.weight"], p["ln_2.bias"])
        y = functional.linear(y, p["mlp.c_fc.weight"], p["mlp.c_fc.bias"])
        x = x + functional.linear(y * torch.sigmoid(1.702 * y), p["mlp.c_proj.weight"], p["mlp.c_proj.bias"])
    return x


def reference_text(state: State, tokens: torch.Tensor) -> torch.Tensor:
    width = state["ln_final.weight"].shape[0]
    x = state["token_embedding.weight"][tokens] + state["positional_embedding"]
    mask = torch.full((77, 77), float("-inf")).triu(1)
    x = reference_tower(state, "transformer.", x, width // 64, mask)
    x = functional.layer_norm(x, (width,), state["ln_final.weight"], state["ln_final.bias"])
    return x[torch.arange(len(x)), tokens.argmax(1)] @ state["text_projection"]


def reference_image(state: State, frames: torch.Tensor) -> torch.Tensor:
    own = {name.removeprefix("visual."): value for name, value in state.items() if name.startswith("visual.")}
    weight = own["conv1.weight"]
    width, patch = weight.shape[0], weight.shape[-1]
    x = functional.conv2d(frames, weight, stride=patch).flatten(2).transpose(1, 2)
    x = torch.cat([own["class_embedding"].expand(len(x), 1, -1), x], 1) + own["positional_embedding"]
    x = functional.layer_norm(x, (width,), own["ln_pre.weight"], own["ln_pre.bias"])
    x = reference_tower(own, "transformer.", x, width // 64, None)
    return functional.layer_norm(x[:, 0], (width,), own["ln_post.weight"], own["ln_post.bias"]) @ own["proj"]


@torch.no_grad()
def reference(clip: State, fusion: State, video: Path, texts: list[str]) -> NDArray[np.float64]:
    """ActionCLIP's published evaluation, from the video file to the logits of each text: 8 frames, 224 pixels."""
    with av.open(str(video)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    offset = (len(decoded) / 8 - 1) / 2
    frames = []
    for i in range(8):
        image = Image.fromarray(decoded[int(i * len(decoded) / 8 + offset)])
        factor = 256 / min(image.size)
        image = image.resize((int(image.width * factor), int(image.height * factor)), Image.Resampling.BICUBIC)
        left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
        pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32) / 255
        frames.append(((pixels - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1))
    features = reference_image(clip, torch.from_numpy(np.stack(frames).astype(np.float32)))[None]
    placed = features + fusion["frame_position_embeddings.weight"][:8]
    mixed = reference_tower(fusion, "transformer.", placed, clip["ln_final.weight"].shape[0] // 64, None)
    of_video = functional.normalize((mixed + features).mean(1), dim=1)
    of_texts = functional.normalize(reference_text(clip, torch.from_numpy(default_tokenizer().encode(texts))), dim=1)
    logits: NDArray[np.float64] = (100 * of_texts @ of_video[0]).double().numpy()
    return logits


@pytest.mark.slow
def test_vit_b_32_in_full_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = openai_state(VIT_B_32)
    # As CLIP's weights are published, and ActionCLIP's with them.
    clip = {name: value.half() for name, value in clip.items()}
    fusion = fusion_state("Transf", VIT_B_32.embedding)
    checkpoint, folder = tmp_path / "vit-b-32.pt", tmp_path / "vit-b-32"
    torch.save({"epoch": 50, "model_state_dict": clip, "fusion_model_state_dict": fusion}, checkpoint)
    assert main([str(checkpoint), "--fusion", "Transf", "--out", str(folder)]) == 0
    printed = capsys.readouterr().out
    print(printed)
    assert node_row(printed, "QuickGelu") == [(0, 12), (0, 12), (0, 6)]
    labels = [*read_labels(SAMPLE_LABELS), "juggling a soccer ball", "someone is falling down the stairs", "läuft"]
    done = subprocess.run(
        [
            *(sys.executable, "action_clip.py", "--model", str(folder), "--video", str(SAMPLE_VIDEO)),
            *("--format", "json", "--top-k", "100"),
            *(part for label in labels for part in ("--text", label)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    shutil.rmtree(folder)
    texts = [prompt.replace("{}", label) for prompt in DEFAULT_PROMPTS for label in labels]
    floats = {name: value.float() for name, value in clip.items()}
    logits = reference(floats, fusion, SAMPLE_VIDEO, texts).reshape(len(DEFAULT_PROMPTS), len(labels))
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    expected = (exponentials / exponentials.sum(1, keepdims=True)).mean(0)
    found = probabilities(done.stdout)
    worst = np.abs(found - expected).max()
    print(f"max |Δ probability| {worst:.1e}; probabilities {np.sort(expected)[::-1].round(3)}")
    assert worst < 1e-4
    assert expected.max() > 2 / len(labels)
    assert expected.argmax() == found.argmax()
    checkpoint.unlink()
