"""CLIP and ActionCLIP: reading checkpoints, the networks, and what the exporter must know of them."""
