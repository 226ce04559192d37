"""Trained graphs: which exist (catalog), where their files are (store, download) and how they run."""

import os

# From 1.29 on onnxruntime connects to Microsoft and keeps a device id, unless this is set before its first import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

DEFAULT_MODEL = "vit-32-8f"
AVERAGES = ("probabilities", "embeddings")
"""What a zero-shot model can average over its prompts; the first is the default."""
SWITCHING_COST_S = 0.5
"""Seconds: what a change of the answer costs in segments; the largest that was measured not to blur when it changes."""
