"""Exporting PyTorch checkpoints to ONNX graphs: what `export` and fine-tuning import, with requirements-export.txt."""

import action_clip.models  # noqa: F401 - before onnxruntime, which it silences
