"""The golden token files: what is in them, written by make_golden.py and read by the tests."""

import gzip
import hashlib
from pathlib import Path

from action_clip.tokenizer.prompts import DEFAULT_PROMPTS, fill_prompts, read_labels

FOLDER = Path(__file__).with_name("golden")
DATA_SETS = ("kinetics400", "ucf101", "hmdb51")
# One line a text of labelled_texts(): its token ids, without start and end.
LABEL_TOKENS = "label_tokens.txt.gz"
# The digest of the strings themselves, then one line a string: the digest of its token ids.
RANDOM_TOKENS = "random_tokens.txt.gz"


def read_golden(name: str) -> list[str]:
    return gzip.decompress((FOLDER / name).read_bytes()).decode("ascii").splitlines()


def labelled_texts() -> list[tuple[str, str]]:
    """Return every label of the three data sets in every prompt, each text with its label."""
    labels = [label for name in DATA_SETS for label in read_labels(FOLDER / f"labels_{name}.txt")]
    return list(zip(fill_prompts(DEFAULT_PROMPTS, labels), labels * len(DEFAULT_PROMPTS), strict=True))


def digest(tokens: list[int]) -> str:
    """Return the first 32 bits of the SHA-256 of token ids, in hexadecimal."""
    return hashlib.sha256(" ".join(map(str, tokens)).encode()).hexdigest()[:8]


def strings_digest(texts: list[str]) -> str:
    """Return the SHA-256 of strings, which may hold lone surrogates."""
    return hashlib.sha256("\0\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()
