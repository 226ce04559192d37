"""Regenerate the golden token files from open_clip's tokenizer.

From the checkout's root, in an environment with open-clip-torch, PyTorch, ftfy and regex:
`PYTHONPATH=. python tests/tokenizer/make_golden.py`
"""

import gzip
from pathlib import Path

from golden_tokens import FOLDER, LABEL_TOKENS, RANDOM_TOKENS, digest, labelled_texts, strings_digest
from open_clip_reference import reference_tokenize
from random_texts import random_texts


def write_lines(path: Path, lines: list[str]) -> None:
    # Without name and time, the same lines make the same file.
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode("ascii"), mtime=0))


def main() -> None:
    tokenize = reference_tokenize()
    write_lines(FOLDER / LABEL_TOKENS, [" ".join(map(str, tokenize(text))) for text, _ in labelled_texts()])
    texts = random_texts()
    write_lines(FOLDER / RANDOM_TOKENS, [strings_digest(texts), *(digest(tokenize(text)) for text in texts)])


if __name__ == "__main__":
    main()
