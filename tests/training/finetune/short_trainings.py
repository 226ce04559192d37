"""Trainings of a few steps, through the command."""

import json
import struct
from pathlib import Path
from typing import Any

import torch
from moving_shapes import MOTIONS, write_clips
from tensorboardX.proto.event_pb2 import Event

TWO = (MOTIONS[0], MOTIONS[5])
"""Of another colour and another direction."""


def write_data(folder: Path, train: int = 6, val: int = 3) -> Path:
    """A data set of two classes with so many clips each, in folders."""
    write_clips(folder / "train", TWO, train, seed=0)
    if val:
        write_clips(folder / "val", TWO, val, seed=1)
    return folder


def arguments(data: Path, out: Path, *more: str, batch_size: int = 4) -> list[str]:
    """Of a training in steps of some clips, from scratch and without graphs at the end."""
    words = ["train", "--fine-tune", "--data", str(data), "--out", str(out), "--batch-size", str(batch_size)]
    return [*words, "--no-export", *more, *([] if "--checkpoint" in more else ["--scratch", "tiny"])]


def log_of(out: Path) -> list[dict[str, Any]]:
    """What log.jsonl has on each epoch."""
    return [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]


def step_losses(out: Path) -> list[float]:
    """The losses of all steps, as TensorBoard would show them: what was written from a dropped step on is left out."""
    losses: dict[int, float] = {}
    for file in sorted(out.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        for event in events_in(file):
            if event.HasField("session_log"):
                losses = {step: loss for step, loss in losses.items() if step < event.step}
            for value in event.summary.value:
                if value.tag == "loss":
                    losses[event.step] = value.simple_value
    assert sorted(losses) == list(range(len(losses)))
    return [losses[step] for step in sorted(losses)]


def events_in(file: Path) -> list[Event]:
    """The complete records of a file: length, its checksum, that many bytes, their checksum."""
    content, events, at = file.read_bytes(), [], 0
    while at + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        if at + 16 + length > len(content):
            break
        events.append(Event.FromString(content[at + 12 : at + 12 + length]))
        at += 16 + length
    return events


def weights_in(checkpoint: Path) -> dict[str, torch.Tensor]:
    """All weights of a checkpoint."""
    content = torch.load(checkpoint, weights_only=True)
    fusion = {f"fusion.{name}": value for name, value in content["fusion_model_state_dict"].items()}
    weights: dict[str, torch.Tensor] = {**content["model_state_dict"], **fusion}
    return weights
