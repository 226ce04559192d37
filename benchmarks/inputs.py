"""What is measured on: graphs of ViT-B/32 size with random weights, a clip, labels. `python -m benchmarks.inputs WORK`.

Made once and kept in the work folder. Heavy imports are within the functions: the process that starts and times others
imports this, and must stay small.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    State = dict[str, Tensor]

ROOT = Path(__file__).parents[1]
# Exit code of a process whose package is not installed.
ABSENT = 3
SEED = 0
LABELS_400 = ROOT / "models" / "kinetics400.txt"
FRAMES = 8
# As benchmarks.video has them.
VIDEO_LENGTHS = ("10 s", "10 min", "2 h")
VIDEO_READERS = ("action_clip", "torchcodec", "decord", "keyframes")
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
        return self.work / "fp32"

    @property
    def int8(self) -> Path:
        """The same, quantised."""
        return self.work / "int8"

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

    inputs.work.mkdir(parents=True, exist_ok=True)
    inputs.labels_10.write_text("\n".join(LABELS) + "\n", encoding="utf-8")
    if not inputs.clip.exists():
        write_clip(inputs.clip)
    if not inputs.checkpoint.exists():
        _write_checkpoint(inputs.checkpoint)
    for folder, precision in ((inputs.fp32, "fp32"), (inputs.int8, "int8")):
        if not folder.exists() and export([str(inputs.checkpoint), "--out", str(folder), "--precision", precision]):
            raise SystemExit(1)
    if not inputs.transformers.exists():
        from benchmarks.peers import save_for_transformers

        save_for_transformers(inputs.checkpoint, inputs.transformers)


def _write_checkpoint(path: Path) -> None:
    """ViT-B/32 and the head Transf with random weights, as large as in trained networks."""
    import torch

    generator = torch.Generator().manual_seed(SEED)

    def normal(*shape: int, std: float) -> "Tensor":
        return torch.randn(*shape, generator=generator) * std

    def norm(name: str, width: int) -> "State":
        return {f"{name}.weight": 1 + normal(width, std=0.1), f"{name}.bias": normal(width, std=0.1)}

    def linear(name: str, outputs: int, inputs: int) -> "State":
        return {f"{name}weight": normal(outputs, inputs, std=inputs**-0.5), f"{name}bias": normal(outputs, std=0.1)}

    def blocks(name: str, layers: int, width: int) -> "State":
        state: State = {}
        for block in (f"{name}.resblocks.{layer}" for layer in range(layers)):
            state |= norm(f"{block}.ln_1", width) | norm(f"{block}.ln_2", width)
            state |= linear(f"{block}.attn.in_proj_", 3 * width, width)
            state |= linear(f"{block}.attn.out_proj.", width, width)
            state |= linear(f"{block}.mlp.c_fc.", 4 * width, width) | linear(f"{block}.mlp.c_proj.", width, 4 * width)
        return state

    clip = {
        "positional_embedding": normal(77, 512, std=0.3),
        "text_projection": normal(512, 512, std=512**-0.5),
        "logit_scale": torch.tensor(4.5),
        "visual.class_embedding": normal(768, std=0.5),
        "visual.positional_embedding": normal(50, 768, std=0.5),
        "visual.proj": normal(768, 512, std=768**-0.5),
        "visual.conv1.weight": normal(768, 3, 32, 32, std=1 / 32),
        **norm("visual.ln_pre", 768),
        **blocks("visual.transformer", 12, 768),
        **norm("visual.ln_post", 768),
        **blocks("transformer", 12, 512),
        "token_embedding.weight": normal(49408, 512, std=0.5),
        **norm("ln_final", 512),
    }
    head = {"frame_position_embeddings.weight": normal(77, 512, std=0.3), **blocks("transformer", 6, 512)}
    torch.save({"model_state_dict": clip, "fusion_model_state_dict": head}, path)


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
