"""Trained graphs: which exist (catalog), where their files are (store, download) and how they run."""
