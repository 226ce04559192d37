"""The parts of the command: arguments, classifying a video, listing and verifying models, shell completion."""
