"""PyTorch checkpoints to ONNX graphs; needs requirements-export.txt, and nothing at run time imports it."""

import action_clip.models  # noqa: F401 - before onnxruntime, which it silences
