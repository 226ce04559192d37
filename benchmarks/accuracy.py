"""Zero-shot accuracy of a model on a folder of labelled clips: `python -m benchmarks.accuracy CLIPS --model nano`.

The folder's manifest.csv has the columns file and label; the labels of all its clips are the labels to choose from.
With --none, how well a clip whose label is among ten is told from one whose label is not: see none_of_these.py.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from action_clip import ActionClip, ActionClipError
from action_clip.system.terminal import ArgumentParser

BINS = 10


@dataclass(frozen=True)
class Accuracy:
    """Figures over all clips, each from 0 to 1.

    `calibration_error` is the expected calibration error (Guo et al., 2017, arXiv 1706.04599): the mean distance of
    confidence and accuracy over ten bins of confidence, weighted by how many clips are in each.
    """

    clips: int
    labels: int
    top1: float
    top5: float
    confidence: float
    calibration_error: float


def measure(folder: Path, model: ActionClip) -> Accuracy:
    """Classify every clip of the folder's manifest with `model`, and return the figures.

    Raises ActionClipError where a clip cannot be classified, OSError where the manifest cannot be read.
    """
    clips = read_manifest(folder)
    labels = sorted(set(clips.values()))
    probabilities = np.stack([model.classify(path, labels).probabilities for path in clips])
    return accuracy(probabilities, [labels.index(label) for label in clips.values()])


def read_manifest(folder: Path) -> dict[Path, str]:
    """Return the label of each clip in a folder. Raises OSError where its manifest cannot be read."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return {folder / row["file"]: row["label"] for row in csv.DictReader(file)}


def accuracy(probabilities: NDArray[np.float64], truth: Sequence[int]) -> Accuracy:
    """Return the figures for (clips, labels) probabilities and the index of the right label of each clip."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    right = order[:, 0] == truth
    confidence = probabilities.max(axis=1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [
        abs(confidence[bins == number].mean() - right[bins == number].mean()) * (bins == number).mean()
        for number in np.unique(bins)
    ]
    return Accuracy(
        clips=len(probabilities),
        labels=probabilities.shape[1],
        top1=float(right.mean()),
        top5=float((order[:, :5] == np.array(truth)[:, np.newaxis]).any(axis=1).mean()),
        confidence=float(confidence.mean()),
        calibration_error=float(np.sum(gaps)),
    )


def main() -> None:
    """Print the figures of the model and the folder that the arguments name."""
    parser = ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("clips", type=Path, help="folder with manifest.csv")
    parser.add_argument("--model", default="nano", help="default: %(default)s")
    parser.add_argument("--none", action="store_true", help="tell clips whose label is missing from others")
    options = parser.parse_args()
    try:
        with ActionClip(options.model) as model:
            if options.none:
                from benchmarks.none_of_these import report

                print(report(read_manifest(options.clips), model))
                return
            figures = measure(options.clips, model)
    except (ActionClipError, OSError) as error:
        parser.exit(1, f"{parser.prog}: error: {error}\n")
    print(f"{figures.clips} clips, {figures.labels} labels, {options.model}")
    print(f"top-1 {figures.top1:.1%}, top-5 {figures.top5:.1%}")
    print(f"mean confidence {figures.confidence:.3f}, expected calibration error {figures.calibration_error:.3f}")


if __name__ == "__main__":
    main()
