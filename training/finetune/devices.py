"""The devices that train, through Lightning Fabric: it starts a process for each and lets them exchange gradients."""

import argparse
import logging
import warnings
from collections.abc import Callable

import torch
from lightning_fabric import Fabric

from action_clip.errors import ActionClipError
from action_clip.system.cores import usable_cores

_PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def fabric_of(options: argparse.Namespace) -> Fabric:
    """Return the devices and the precision that options name; their processes are started by `launch`.

    Raises ActionClipError where there are no such devices.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    device = _best_device() if options.device == "auto" else options.device
    present = {"cpu": usable_cores(), "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if not present[device]:
        raise ActionClipError(f"PyTorch finds no {device} here: give --device cpu, or install PyTorch for that device")
    devices = options.devices or (present[device] if device == "cuda" else 1)
    if device != "cpu" and devices > present[device]:
        raise ActionClipError(f"there are not {devices} devices, but {present[device]}: give fewer with --devices")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # advice on clusters
        return Fabric(
            accelerator=device,
            devices=devices,
            strategy="ddp" if devices > 1 else "auto",
            precision=_precision(options.precision, device),  # type: ignore[arg-type]
        )


def workers_of(options: argparse.Namespace, fabric: Fabric) -> int:
    """Return how many processes decode clips for each device: none where the processor is busy computing."""
    if options.workers is not None:
        return int(options.workers)
    return 0 if fabric.device.type == "cpu" else max(1, usable_cores() // fabric.world_size)


def on_first(fabric: Fabric, work: Callable[[], object]) -> None:
    """Do what only one of the processes does; the others wait. An ActionClipError is raised in all of them."""
    if fabric.world_size == 1:
        work()
        return
    problem = ""
    if fabric.is_global_zero:
        try:
            work()
        except ActionClipError as error:
            problem = str(error)
    problem = fabric.broadcast(problem)
    if problem:
        raise ActionClipError(problem)


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _precision(name: str, device: str) -> str:
    if name == "auto":
        name = "32" if device != "cuda" else "bf16" if torch.cuda.is_bf16_supported() else "16"
    if name == "16" and device == "cpu":
        raise ActionClipError("--precision 16 is for GPUs: give bf16 or 32")
    return _PRECISIONS[name]
