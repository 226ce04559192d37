"""PyTorch checkpoints to ONNX graphs; needs requirements-export.txt, and nothing at run time imports it."""
