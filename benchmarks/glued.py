"""How right windows are on long videos whose cuts are known: `python -m benchmarks.glued CLIPS --model nano`.

The clips of the folder's manifest.csv, with the columns file and label, are glued together in a random order; each
second of the whole has the label of its clip. The table compares the segments of windows of several lengths, strides
and switching costs with the same clips classified as a whole.
"""

import csv
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from action_clip import ActionClip, ActionClipError, LabelBank, VideoReader, segments
from action_clip.system.terminal import ArgumentParser

RATE = 25
SIZE = 360
WINDOWS_S = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
# Of a window.
STRIDES = (0.5, 0.25)
COSTS_S = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 4.0)


@dataclass(frozen=True)
class Span:
    """A part of a video, in seconds, with the index of its label."""

    start_s: float
    end_s: float
    label: int


@dataclass(frozen=True)
class Rightness:
    """How right the spans of one video, or of several, are.

    Attributes:
        right_s, all_s: seconds with the right label, and all seconds.
        errors_s: for each change of the label, how far the nearest change of the spans' label is.
        spans: number of spans.
    """

    right_s: float
    all_s: float
    errors_s: tuple[float, ...]
    spans: int

    def __add__(self, other: "Rightness") -> "Rightness":
        """Return the figures of both together."""
        return Rightness(
            self.right_s + other.right_s,
            self.all_s + other.all_s,
            self.errors_s + other.errors_s,
            self.spans + other.spans,
        )


def glue(clips: Sequence[tuple[Path, int]], target: Path) -> list[Span]:
    """Write the clips one after the other into one video, RATE frames a second, and return where each is.

    Pictures are the middle square of the clips' own, SIZE pixels wide: models look at no more of them.
    """
    spans, count = [], 0
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "16"})
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for path, label in clips:
            first = count
            for picture in _pictures(path):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = count, Fraction(1, RATE)
                container.mux(stream.encode(frame))
                count += 1
            spans.append(Span(first / RATE, count / RATE, label))
        container.mux(stream.encode(None))
    return spans


def _pictures(path: Path) -> Iterator[NDArray[np.uint8]]:
    with VideoReader(path) as video:
        for frame in video.frames_between(0, video.duration_s, RATE):
            yield np.asarray(ImageOps.fit(Image.fromarray(frame.image), (SIZE, SIZE), Image.Resampling.BICUBIC))


def rightness(found: Sequence[Span], truth: Sequence[Span]) -> Rightness:
    """Compare the spans that were found with the true ones."""
    right_s = sum(
        max(min(a.end_s, b.end_s) - max(a.start_s, b.start_s), 0.0) for a in found for b in truth if a.label == b.label
    )
    changes = np.array([span.start_s for span in found[1:]] or [np.inf])
    cuts = [after.start_s for before, after in pairwise(truth) if before.label != after.label]
    errors_s = tuple(float(np.abs(changes - cut).min()) for cut in cuts)
    return Rightness(right_s, truth[-1].end_s, errors_s, len(found))


def compare(
    model: ActionClip, bank: LabelBank, video: Path, truth: Sequence[Span]
) -> dict[tuple[float, float, float], Rightness]:
    """Return how right the model is by window, stride and switching cost, in seconds."""
    results = {}
    for window_s in WINDOWS_S:
        for part in STRIDES:
            windows = list(model.timeline(video, bank, window=window_s, stride=window_s * part))
            for cost_s in COSTS_S:
                found = [
                    Span(each.start_s, each.end_s, each.index) for each in segments(windows, switching_cost=cost_s)
                ]
                results[window_s, window_s * part, cost_s] = rightness(found, truth)
    return results


def measure(folder: Path, model: ActionClip, least_s: float, seeds: int) -> Iterator[str]:
    """Yield the lines of the table for the clips of at least `least_s` seconds, in `seeds` orders."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row["label"] for row in rows})
    bank = model.labels(labels)
    clips = [(folder / row["file"], labels.index(row["label"])) for row in rows]
    clips = [(path, label) for path, label in clips if _duration_s(path) >= least_s]
    whole = {path: model.classify(path, bank, top_k=1).ranked[0].index == label for path, label in clips}
    totals: dict[tuple[float, float, float], Rightness] = {}
    right_s = all_s = 0.0
    with tempfile.TemporaryDirectory() as temporary:
        for seed in range(seeds):
            order = [clips[place] for place in np.random.default_rng(seed).permutation(len(clips))]
            video = Path(temporary, f"{seed}.mp4")
            truth = glue(order, video)
            for span, (path, _) in zip(truth, order, strict=True):
                right_s += (span.end_s - span.start_s) * whole[path]
                all_s += span.end_s - span.start_s
            for key, result in compare(model, bank, video, truth).items():
                totals[key] = totals[key] + result if key in totals else result
    yield f"{len(clips)} clips of at least {least_s:g} s, {len(labels)} labels, {seeds} orders, {all_s:.0f} s"
    yield f"clips as a whole: {right_s / all_s:.1%} of all seconds right"
    yield "window  stride    cost   right  error of a boundary (stride)  segments a clip"
    for (window_s, stride_s, cost_s), result in totals.items():
        error_s = float(np.median(result.errors_s))
        yield (
            f"{window_s:4g} s  {stride_s:4g} s  {cost_s:4g} s  {result.right_s / result.all_s:6.1%}  "
            f"{error_s:12.2f} s ({error_s / stride_s:4.2f})  {result.spans / seeds / len(clips):15.2f}"
        )


def _duration_s(path: Path) -> float:
    with VideoReader(path) as video:
        return video.duration_s


def main() -> None:
    """Print the table for the model and the folder that the arguments name."""
    parser = ArgumentParser(prog="python -m benchmarks.glued", description=__doc__)
    parser.add_argument("clips", type=Path, help="folder with manifest.csv")
    parser.add_argument("--model", default="nano", help="default: %(default)s")
    parser.add_argument("--least", type=float, default=0.0, help="seconds of the shortest clip (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=5, help="number of random orders (default: %(default)s)")
    options = parser.parse_args()
    try:
        for line in measure(options.clips, ActionClip(options.model), options.least, options.seeds):
            print(line, flush=True)
    except (ActionClipError, OSError) as error:
        parser.exit(1, f"{parser.prog}: error: {error}\n")


if __name__ == "__main__":
    main()
