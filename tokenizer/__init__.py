"""Text to tokens: CLIP's byte-pair encoding, prompts, and the files that labels are read from."""
