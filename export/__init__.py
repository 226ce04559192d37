"""Exporting PyTorch checkpoints to ONNX graphs; it needs requirements-export.txt, and only `export` imports it."""

import action_clip.models  # noqa: F401 - before onnxruntime, which it silences
