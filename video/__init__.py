"""File, URL or pipe to RGB frames to the tensor that a graph takes: reading, sampling, preprocessing."""

SAMPLINGS = ("uniform", "random", "keyframes")
"""The names of the rules in action_clip.video.sampling."""
