"""How far what other programs do with the same weights is from ours, on real clips: the numbers in docs/export.md."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from random_timesformer import TimeSformerSizes, original_state
from torch import Tensor

from action_clip import ActionClip
from action_clip.export.timesformer.checkpoints import assemble_timesformer, read_timesformer
from action_clip.export.timesformer.networks import DIVIDED, SPACE_ONLY, TimeSformer
from action_clip.video.preprocess import clip_tensor
from action_clip.video.reader import read_clip
from action_clip.video.sampling import make_sampler, midpoint_indices, uniform_indices

CLIPS = os.environ.get("ACTION_CLIP_CLIPS")
pytestmark = pytest.mark.skipif(not CLIPS, reason="ACTION_CLIP_CLIPS names no folder of labelled clips")
FULL = TimeSformerSizes(image_size=224, frames=8, width=768, layers=12, hidden=3072, classes=400)
MEAN, STD = (0.45,) * 3, (0.225,) * 3


def rows() -> list[dict[str, str]]:
    with Path(CLIPS or "", "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def frames_of(name: str, uniform: str) -> np.ndarray:
    return read_clip(Path(CLIPS or "", name), make_sampler("uniform", 8, 0, uniform)).frames


def test_the_frames_that_mmaction2_looks_at() -> None:
    others = []
    for row in rows():
        total = int(row["frames"])
        pairs = zip(uniform_indices(total, 8), midpoint_indices(total, 8), strict=True)
        others += [midpoint - official for official, midpoint in pairs]
    print(f"midpoints: {np.count_nonzero(others)} of {len(others)} frames are other ones, by {max(others)} at most")
    assert set(others) == {0, 1}
    assert 0.4 < np.mean(others) < 0.5


@pytest.mark.slow
def test_the_answers_of_mmaction2s_frames() -> None:
    model = ActionClip("nano")
    labels = sorted({row["label"] for row in rows()})
    answers = [
        [model.classify(frames_of(row["file"], rule), labels) for rule in ("segments", "midpoints")] for row in rows()
    ]
    same = sum(first.ranked[0].label == second.ranked[0].label for first, second in answers)
    near = min(float(first.video_features @ second.video_features) for first, second in answers)
    print(f"midpoints: the first answer is the same for {same} of {len(answers)} clips; least cosine {near:.4f}")
    assert same >= 0.9 * len(answers)
    assert near > 0.9


def network(folder: Path, attention: str) -> TimeSformer:
    torch.save({"model_state": original_state(attention, FULL)}, folder / "full.pyth")
    return assemble_timesformer(read_timesformer(folder / "full.pyth"))


def cosine(first: Tensor, second: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(first.double(), second.double(), dim=-1).min())


def by_processor(frames: np.ndarray) -> np.ndarray:
    """As transformers' VideoMAEImageProcessor with Pillow: bilinear, and the crop's corner rounded down."""
    pictures = []
    for frame in frames:
        height, width = frame.shape[:2]
        short = min(height, width)
        size = (224 * width // short, 224 * height // short)
        picture = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR), np.float32) / 255
        top, left = (size[1] - 224) // 2, (size[0] - 224) // 2
        pictures.append((picture[top : top + 224, left : left + 224] - MEAN) / STD)
    return np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32)


@pytest.mark.slow
@torch.no_grad()
def test_the_resize_of_transformers_processor(tmp_path: Path) -> None:
    whole = network(tmp_path, DIVIDED)
    levels, far, near, same = [], [], [], []
    for row in rows()[::7]:
        frames = frames_of(row["file"], "linspace")
        mine, theirs = clip_tensor(frames, 224, MEAN, STD, 224), by_processor(frames)
        levels.append(float(np.abs(mine - theirs).mean() * STD[0] * 255))
        logits = [whole(torch.from_numpy(clip[None]))[0] for clip in (mine, theirs)]
        far.append(float((logits[0] - logits[1]).abs().max()))
        near.append(cosine(*logits))
        same.append(bool(logits[0].argmax() == logits[1].argmax()))
    print(
        f"bilinear: {np.mean(levels):.2f} grey levels on average, {max(levels):.2f} in the worst clip; logits differ "
        f"by {max(far):.3f} at most, cosine {min(near):.5f} at least; the first class is the same for {sum(same)} of "
        f"{len(same)}"
    )
    assert max(levels) < 10
    assert min(near) > 0.999


@pytest.mark.slow
@torch.no_grad()
def test_the_logits_of_single_frames_as_transformers_gives_them(tmp_path: Path) -> None:
    spatial = network(tmp_path, SPACE_ONLY)
    far, near, same = [], [], []
    for row in rows()[::7]:
        clip = torch.from_numpy(clip_tensor(frames_of(row["file"], "linspace"), 224, MEAN, STD, 224))
        seen: list[Tensor] = []
        hook = spatial.resblocks[-1].register_forward_hook(
            lambda module, inputs, output, seen=seen: seen.append(output)
        )
        logits, _ = spatial(clip[None])
        hook.remove()
        mean = spatial.head(spatial.norm(seen[0][:, 0])).mean(0, keepdim=True)
        far.append(float((logits - mean).abs().max()))
        near.append(cosine(logits, mean))
        same.append(bool(logits.argmax() == mean.argmax()))
    print(
        f"space_only: from the mean of the frames' logits {max(far):.3f} at most, cosine {min(near):.5f} at least; the "
        f"first class is the same for {sum(same)} of {len(same)}"
    )
    assert min(near) > 0.999
