"""Data sets: which clips have which labels, from folders, tables and lists; their splits; what they are encoded to."""
