"""A Prediction as text, JSON or CSV (writers), on a terminal (terminal_writer) or as a picture (sheet)."""
