"""PyTorch checkpoints to ONNX graphs; needs requirements-export.txt, and nothing at run time imports it."""

import models  # noqa: F401 - before onnxruntime, which it silences
