"""The embedded model: built from two weight packages and WordNet by `action-clip export nano`."""
