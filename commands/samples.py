"""The sample video, its labels, and the labels of a video that is given without any."""

from pathlib import Path

_FOLDER = Path(__file__).parents[1] / "samples"
SAMPLE_VIDEO = _FOLDER / "sample.gif"
SAMPLE_LABELS = _FOLDER / "labels.txt"
LABELS = (
    "applauding", "dancing", "driving", "driving car", "driving truck",
    "eating", "punching", "reading", "surfing", "talking phone",
)  # fmt: skip
