"""The sample video, its labels, and the labels of a video that is given without any."""

from pathlib import Path

SAMPLE_VIDEO = Path(__file__).with_name("sample.gif")
SAMPLE_LABELS = Path(__file__).with_name("labels.txt")
LABELS = (
    "applauding", "dancing", "driving", "driving car", "driving truck",
    "eating", "punching", "reading", "surfing", "talking phone",
)  # fmt: skip
