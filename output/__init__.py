"""Prediction to text, JSON, CSV (`output.writers`) and to a picture (`output.sheet`)."""
