"""What a user would write for many videos: `python -m benchmarks.script NAME WORK LABELS_FILE`, NAME of SCRIPTS.

Processes of a DataLoader decode and preprocess; meanwhile PyTorch encodes the labels once, then clips in batches.
"""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from PIL import Image

from action_clip.models.catalog.metadata import read_metadata
from action_clip.tokenizer.prompts import DEFAULT_PROMPTS, read_labels
from action_clip.video.sampling import uniform_indices
from benchmarks import video
from benchmarks.contestants import PEERS, SCRIPTS, find
from benchmarks.inputs import ABSENT, FRAMES, Inputs
from benchmarks.peers import Floats, PyTorch, encode_labels
from benchmarks.reference_flow import answer, preprocess, score

if TYPE_CHECKING:
    from torch.utils.data import Dataset

# Of the DataLoader. Each decodes with one thread; PyTorch has its default number of threads.
PROCESSES = 2
CLIPS_PER_BATCH = 8


class Clips:
    """A data set: the paths and clip tensors, (FRAMES, 3, S, S), of videos."""

    def __init__(self, paths: list[Path], read: video.Reader, facts: dict[str, str]) -> None:
        self._paths = paths
        self._read = read
        self._facts = facts

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[str, Floats]:
        path = self._paths[index]
        frames = self._read(path, partial(uniform_indices, count=FRAMES), 1)
        return str(path), preprocess([Image.fromarray(frame) for frame in frames], self._facts)


def answers(inputs: Inputs, read: video.Reader, peer: PyTorch, labels: list[str]) -> Iterator[str]:
    """Yield the answer for each of the clips. Raises ImportError where the reader is not installed."""
    from torch.utils.data import DataLoader

    facts = read_metadata(inputs.fp32 / "image.onnx")
    clips = Clips(sorted(inputs.clips.iterdir()), read, facts)
    data = cast("Dataset[tuple[str, Floats]]", clips)
    batches = iter(DataLoader(data, batch_size=CLIPS_PER_BATCH, num_workers=PROCESSES))
    texts = encode_labels(peer, labels)
    for paths, tensors in batches:
        for path, features in zip(paths, peer.videos(tensors), strict=True):
            probabilities = score(features, texts, len(DEFAULT_PROMPTS), float(facts["logit_scale"]))
            yield answer(path, labels, probabilities)


def main() -> None:
    """Classify the clips; the exit code is ABSENT where a package is not installed."""
    name, work, labels_file = sys.argv[1:]
    reader, peer = SCRIPTS[name]
    inputs, contestant = Inputs(Path(work)), find(PEERS, peer)
    try:
        model = contestant.load()(inputs, None, *contestant.arguments)
        for line in answers(inputs, getattr(video, reader), model, read_labels(labels_file)):
            print(line)
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(ABSENT)


if __name__ == "__main__":
    main()
