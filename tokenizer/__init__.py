"""Text to tokens: CLIP's byte-pair encoding and the prompts that a label is put into."""
