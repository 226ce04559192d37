"""How good a model is on a data set: metrics, and the sub-command `evaluate`."""
