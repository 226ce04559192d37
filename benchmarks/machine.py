"""A description of the machine that the figures were measured on."""

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from action_clip.system.cores import usable_cores
from benchmarks.inputs import ROOT

PACKAGES = (
    "onnxruntime", "numpy", "openvino", "torch", "transformers", "open-clip-torch", "av", "opencv-python",
    "torchcodec", "decord",
)  # fmt: skip


def describe() -> dict[str, str]:
    """Return texts on the processor, memory, system and versions of packages, by heading."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "processor": f"{_processor()}, {usable_cores()} cores",
        "memory": f"{gigabytes:.0f} GB",
        "system": f"{platform.system()} {platform.release()}, {platform.libc_ver()[0]} {platform.libc_ver()[1]}",
        "Python": platform.python_version(),
        **_gpu(),
        **{package: _version(package) for package in PACKAGES},
    }


def _gpu() -> dict[str, str]:
    """Return the name of NVIDIA's GPU, where there is one."""
    if shutil.which("nvidia-smi") is None:
        return {}
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"GPU": ", ".join(done.stdout.split("\n")[:-1])} if done.returncode == 0 else {}


def commit() -> str:
    """Return the hash of the checked-out commit; "with changes" follows where files differ from it."""
    name = _git("rev-parse", "--short=12", "HEAD")
    changes = _git("diff", "--stat", "HEAD", "--", ".", ":!benchmarks/RESULTS.md")
    return f"{name} with changes" if changes else name


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    facts = dict(line.replace("\t", "").split(": ", 1) for line in lines if ": " in line)
    name = facts.get("model name", platform.processor() or platform.machine())
    widths = {"avx512_vnni": "AVX-512 VNNI", "avx512_bf16": "bf16", "amx_int8": "AMX"}
    extra = [text for flag, text in widths.items() if flag in facts.get("flags", "").split()]
    numbers = f"family {facts['cpu family']} model {facts['model']}" if "cpu family" in facts else ""
    return ", ".join(filter(None, [name, numbers, *extra]))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
