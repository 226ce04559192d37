"""Heads: small classifiers on the features that a model gives clips, and the folders of models that they make."""
