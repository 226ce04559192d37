"""The inputs: graphs of ViT-B/32 size with random weights, a clip, labels. Made by `python -m benchmarks.inputs WORK`.

They stay in the work folder. Heavy imports are inside the functions: the process that starts and times the others
imports this module, and must stay small.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Exit code of a peer's process whose package is not installed.
ABSENT = 3
SEED = 0
LABELS_400 = ROOT / "models" / "catalog" / "kinetics400.txt"
FRAMES = 8
WIDTH, HEIGHT, RATE, SECONDS = 640, 360, 30, 10
# Numbers of different clips, and of tiny ones.
CLIPS = 100
FEW_TINY, ALL_TINY = 50, 5000


@dataclass(frozen=True)
class Inputs:
    """The paths of the inputs in the work folder."""

    work: Path

    @property
    def checkpoint(self) -> Path:
        """The checkpoint, in the layout of the official ActionCLIP."""
        return self.work / "checkpoint.pt"

    @property
    def fp32(self) -> Path:
        """The folder with the three graphs in fp32."""
        return self.graphs("fp32")

    @property
    def int8(self) -> Path:
        """The folder with the three graphs in int8."""
        return self.graphs("int8")

    def graphs(self, precision: str) -> Path:
        """Return the folder of the graphs in a precision, "fp32" or "int8"."""
        return self.work / precision

    @property
    def transformers(self) -> Path:
        """The folder with the same weights as a CLIPModel; it does not exist where transformers is not installed."""
        return self.work / "transformers"

    @property
    def clip(self) -> Path:
        """An H.264 clip of ten seconds."""
        return self.work / "clip.mp4"

    @property
    def labels_10(self) -> Path:
        """The command's own ten labels, one a line."""
        return self.work / "labels.txt"

    @property
    def videos(self) -> Path:
        """The folder for the long videos."""
        return self.work / "videos"

    def video(self, length: str) -> Path:
        """Return the path of the long video of a length, a key of benchmarks.contestants.VIDEO_LENGTHS_S."""
        return self.videos / f"{length.replace(' ', '')}.mp4"

    @property
    def clips(self) -> Path:
        """The folder for CLIPS different clips, each like `clip`."""
        return self.work / "clips"

    @property
    def tiny(self) -> Path:
        """The folder for ALL_TINY tiny clips, FEW_TINY of which are in its folder "few"."""
        return self.work / "tiny"


def make(inputs: Inputs) -> None:
    """Make the inputs that do not exist yet. Raises SystemExit where exporting the graphs fails."""
    from action_clip.commands.samples import LABELS
    from action_clip.export.command import main as export
    from benchmarks.random_weights import write_checkpoint, write_for_transformers

    inputs.work.mkdir(parents=True, exist_ok=True)
    inputs.labels_10.write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    if not inputs.clip.exists():
        write_clip(inputs.clip)
    if not inputs.checkpoint.exists():
        write_checkpoint(inputs.checkpoint, SEED)
    for folder, precision in ((inputs.fp32, "fp32"), (inputs.int8, "int8")):
        if not folder.exists() and export([str(inputs.checkpoint), "--out", str(folder), "--precision", precision]):
            raise SystemExit(1)
    if not inputs.transformers.exists():
        write_for_transformers(inputs.checkpoint, inputs.transformers)


def make_folder(inputs: Inputs, kind: str, count: int) -> None:
    """Make a folder, as benchmarks.folders does, in another process.

    The peak of memory of the process that starts and times the others is part of those that are measured.
    """
    command = [sys.executable, "-m", "benchmarks.folders", str(inputs.work), kind, str(count)]
    subprocess.run(command, cwd=ROOT, check=True)


def write_clip(
    path: Path, seed: int = SEED, *, width: int = WIDTH, height: int = HEIGHT, frames: int = RATE * SECONDS
) -> None:
    """Write an H.264 clip of a fine, moving texture, whose frames differ and take as long to decode as filmed ones."""
    import av
    import numpy as np

    texture = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    texture = np.kron(texture, np.ones((4, 4, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            moved = np.roll(texture, (index, 2 * index), axis=(0, 1))
            light = np.linspace(0.4, 1, width) * (0.6 + 0.4 * index / frames)
            frame = av.VideoFrame.from_ndarray((moved * light[:, np.newaxis]).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


if __name__ == "__main__":
    make(Inputs(Path(sys.argv[1])))
