"""Reading RGB frames from a file, URL or pipe, sampling them, and preprocessing them for a graph."""

SAMPLINGS = ("uniform", "random", "keyframes")
"""The names of the samplings that `action_clip.video.sampling.make_sampler` makes."""
