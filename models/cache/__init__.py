"""Caches, which save time: text features, videos, and graphs as onnxruntime optimises them."""
