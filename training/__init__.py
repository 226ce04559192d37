"""Training on clips of the user's: heads on features (heads), and whole networks (finetune)."""
