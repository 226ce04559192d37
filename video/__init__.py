"""File, URL or pipe to RGB frames to the tensor that a graph takes: reading, sampling, preprocessing."""
