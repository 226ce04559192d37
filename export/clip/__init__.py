"""CLIP and ActionCLIP: reading checkpoints, the networks, and their interface to the exporter."""
