"""Small checkpoints of CLIP, what the program should say with them, and what it and the exporter print."""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from random_checkpoints import Sizes, State, openai_state

import action_clip
from action_clip.commands.samples import SAMPLE_VIDEO
from action_clip.export.clip.assemble import Networks
from action_clip.models.scoring import LabelBank, score
from action_clip.tokenizer.bpe import default_tokenizer
from action_clip.tokenizer.prompts import DEFAULT_PROMPTS, fill_prompts
from action_clip.video.preprocess import clip_tensor
from action_clip.video.reader import read_clip
from action_clip.video.sampling import UNIFORM_RULES

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def first_layers(fusion: State, count: int) -> State:
    """A fusion of so many layers: exporting all six takes time."""
    layers = {name: re.search(r"(?:resblocks|layers)\.(\d+)\.", name) for name in fusion}
    return {name: fusion[name] for name, layer in layers.items() if layer is None or int(layer[1]) < count}


def unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    assert (lengths > 0).all()
    found: NDArray[np.float32] = features / lengths
    return found


@torch.no_grad()
def by_hand(networks: Networks, labels: list[str], resize: int, scale: float) -> NDArray[np.float64]:
    """The sample's probabilities, by PyTorch."""
    clip = read_clip(SAMPLE_VIDEO, partial(UNIFORM_RULES[networks.checkpoint.uniform], count=networks.frames))
    frames = clip_tensor(clip.frames, networks.image.image_size, MEAN, STD, resize)
    video = networks.fusion(networks.image(torch.from_numpy(frames))[None])[0].numpy()
    tokens = torch.from_numpy(default_tokenizer().encode(fill_prompts(DEFAULT_PROMPTS, labels)))
    bank = networks.text(tokens).numpy().reshape(len(DEFAULT_PROMPTS), len(labels), -1)
    return score(unit(video), LabelBank(tuple(labels), unit(bank), scale)).probabilities


def node_row(printed: str, kind: str) -> list[tuple[int, int]]:
    """Of text, image and fusion: how many nodes of a kind before and after."""
    line = next(line for line in printed.splitlines() if line.startswith(f"{kind} "))
    cells = [line[24 + 14 * i : 38 + 14 * i].strip() or "0 → 0" for i in range(3)]
    return [(int(before), int(after)) for before, after in (cell.split(" → ") for cell in cells)]


def difference_rows(printed: str) -> list[tuple[str, int, int | None, float, float, bool]]:
    """Role, rows, length, max |Δ|, cosine and whether that is too much."""
    pattern = r"^(text|image|fusion) +(\d+) {1,8}( *\d+)? +(nan|[\d.]+e[+-]\d+) +(nan|-?[\d.]+)(  too much)?$"
    return [
        (role, int(rows), int(length) if length else None, float(difference), float(cosine), bool(mark))
        for role, rows, length, difference, cosine, mark in re.findall(pattern, printed, re.MULTILINE)
    ]


SMALL = Sizes(layers=1, text_layers=1)
# The image size of all models of the catalog.
FULL_IMAGE = Sizes(image_size=224, patch=56, width=64, layers=1, text_layers=1)


def small(path: Path, sizes: Sizes = SMALL, **more: torch.Tensor) -> Path:
    """A checkpoint of a frozen CLIP with QuickGELU, `more` in place of its own weights."""
    state = openai_state(sizes) | {"input_resolution": torch.tensor(sizes.image_size)} | more
    torch.save(state, path)
    return path


def probabilities(answer: str) -> NDArray[np.float64]:
    """Of an answer in JSON, in the order of the labels or classes."""
    predictions = sorted(json.loads(answer)["predictions"], key=lambda line: line["index"])
    return np.array([line["probability"] for line in predictions])


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = action_clip.main(arguments)
    return code, *capsys.readouterr()
