"""TimeSformer: a video transformer with a classifier; its network, and its checkpoints in everybody's layout."""
