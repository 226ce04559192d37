"""Heads: small classifiers on the features that a model gives clips, and the folders of models that they make."""

AUTO = "auto"
"""The value of --head for the best one by cross-validation."""
