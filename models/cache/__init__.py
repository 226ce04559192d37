"""Caches, which save time: text features, and graphs as onnxruntime optimises them."""
