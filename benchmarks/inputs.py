"""The inputs: graphs of ViT-B/32 size with random weights, a clip, labels. Made by `python -m benchmarks.inputs WORK`.

They stay in the work folder. Heavy imports are inside the functions: the process that starts and times the others
imports this module, and must stay small.
"""

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


def write_clip(path: Path) -> None:
    """Write an H.264 clip of a fine, moving texture, whose frames differ and take as long to decode as filmed ones."""
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
