"""What is measured on: graphs of ViT-B/32 size with random weights, a clip, labels. `python -m benchmarks.inputs WORK`.

Made once and kept in the work folder. Heavy imports are within the functions: the process that starts and times others
imports this, and must stay small.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Exit code of a process whose package is not installed.
ABSENT = 3
SEED = 0
LABELS_400 = ROOT / "models" / "catalog" / "kinetics400.txt"
FRAMES = 8
WIDTH, HEIGHT, RATE, SECONDS = 640, 360, 30, 10


@dataclass(frozen=True)
class Inputs:
    """Where everything is in the work folder."""

    work: Path

    @property
    def checkpoint(self) -> Path:
        """In the official ActionCLIP's layout."""
        return self.work / "checkpoint.pt"

    @property
    def fp32(self) -> Path:
        """Folder with the three graphs."""
        return self.graphs("fp32")

    @property
    def int8(self) -> Path:
        """The same, quantised."""
        return self.graphs("int8")

    def graphs(self, precision: str) -> Path:
        """One of the two, "fp32" or "int8"."""
        return self.work / precision

    @property
    def transformers(self) -> Path:
        """Folder with the same weights as a CLIPModel; not there where transformers is not installed."""
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
        """Folder for the long videos."""
        return self.work / "videos"


def make(inputs: Inputs) -> None:
    """Make what is not there yet."""
    from action_clip.commands.samples import LABELS
    from action_clip.export.command import main as export
    from benchmarks.random_weights import write_checkpoint, write_for_transformers

    inputs.work.mkdir(parents=True, exist_ok=True)
    inputs.labels_10.write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    if not inputs.clip.exists():
        write_clip(inputs.clip)
    if not inputs.checkpoint.exists():
        write_checkpoint(inputs.checkpoint)
    for folder, precision in ((inputs.fp32, "fp32"), (inputs.int8, "int8")):
        if not folder.exists() and export([str(inputs.checkpoint), "--out", str(folder), "--precision", precision]):
            raise SystemExit(1)
    if not inputs.transformers.exists():
        write_for_transformers(inputs.checkpoint, inputs.transformers)


def write_clip(path: Path) -> None:
    """Fine texture that moves, so that frames differ and cost what filmed ones do."""
    import av
    import numpy as np

    texture = np.random.default_rng(SEED).integers(0, 256, (HEIGHT // 4, WIDTH // 4, 3), np.uint8)
    texture = np.kron(texture, np.ones((4, 4, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(RATE * SECONDS):
            moved = np.roll(texture, (index, 2 * index), axis=(0, 1))
            light = np.linspace(0.4, 1, WIDTH) * (0.6 + 0.4 * index / (RATE * SECONDS))
            frame = av.VideoFrame.from_ndarray((moved * light[:, np.newaxis]).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


if __name__ == "__main__":
    make(Inputs(Path(sys.argv[1])))
