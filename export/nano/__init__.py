"""The embedded model: built from two weight packages and WordNet by `python -m export nano`."""
