"""Label, prompt and class map files, and the tokenizer on what they give."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from action_clip.errors import ActionClipError
from action_clip.models.classmap import class_names, read_classmap
from action_clip.tokenizer.bpe import CONTEXT_LENGTH, default_tokenizer
from action_clip.tokenizer.prompts import fill_prompts, read_labels, read_prompts, unique_labels

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
        b'["driving car", "eating"]',
        b'[{"id": 1, "name": "driving car"}, {"id": 0, "label": "eating"}]',
        b'id,name\r\n# sports\r\n0,"run, fast"\r\n1,"the ""worm"""\r\n',
        b"name\tid\neating\t1\ndriving car\t0\n",
        b'name\n"run, fast"\njump\n',
        b"0;eating\n1;driving car\n2;1, 2, 3 go\n",
        b'1. eating\n2: driving car\n3) "run, fast"\n',
        b',classId,className\n0,1,eating\n1,0,"""run"""\n,classId,className\n2,2,5,000 meters',
        "\ufefftanzen\r\n\ufefflaufen\ufeffspringen\r\n# ende".encode(),
        "id,name\n0,läuft\n1,弾く\n".encode("utf-16"),
        b'{"0": "driving car", "1": "eating", "2": "\\ud83d\\udc69"}',
    ]


def target(data: bytes) -> None:
    """Read them as all three, and tokenize what is in them."""
    path = Path("file")
    path.write_bytes(data)
    for read in READERS:
        with suppress(ActionClipError):
            texts = fill_prompts(("{}", "a photo of {}"), read(path))
            assert default_tokenizer().encode(texts).shape == (len(texts), CONTEXT_LENGTH)
