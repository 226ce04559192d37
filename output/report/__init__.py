"""Answers as a page to look at, which has everything in it: one file that a browser opens from disk."""
