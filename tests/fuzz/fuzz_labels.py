"""Label, prompt and class map files, and the tokenizer on what they give."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from errors import ActionClipError
from models.classmap import class_names, read_classmap
from tokenizer.bpe import CONTEXT_LENGTH, default_tokenizer
from tokenizer.prompts import fill, read_labels, read_prompts, unique_labels

SAMPLES = Path(__file__).parents[2] / "samples"
READERS: Sequence[Callable[[Path], Sequence[str]]] = (
    lambda path: unique_labels(read_labels(path)),
    read_prompts,
    lambda path: class_names(read_classmap(path)),
)


def seeds() -> list[bytes]:
    """Files of each kind."""
    return [
        (SAMPLES / "labels.txt").read_bytes(),
        "\ufefftanzen\r\nläuft\r\n弾く\r\n".encode(),
        "cafÃ© &amp;amp; 1\u2028don't 👩\u200d👩 <end_of_text>\n".encode(),
        b"a photo of {}\n{}\nthe man is {}\n",
        b'{"driving car": 0, "eating": 1, "l\\u00e4uft": "2"}',
        b'{"0": "driving car", "1": "eating", "2": "\\ud83d\\udc69"}',
    ]


def target(data: bytes) -> None:
    """Read them as all three, and tokenize what is in them."""
    path = Path("file")
    path.write_bytes(data)
    for read in READERS:
        with suppress(ActionClipError):
            texts = fill(("{}", "a photo of {}"), read(path))
            assert default_tokenizer().encode(texts).shape == (len(texts), CONTEXT_LENGTH)
