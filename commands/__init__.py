"""What the command does: `classify`, and around it the arguments, the lists of models and shell completion."""
