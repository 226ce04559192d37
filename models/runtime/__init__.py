"""Running graphs in onnxruntime: devices, sessions, and inputs in the shapes that graphs declare."""
