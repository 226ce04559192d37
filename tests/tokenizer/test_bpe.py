import importlib.util
import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import ftfy
import numpy as np
import pytest
from golden_tokens import LABEL_TOKENS, RANDOM_TOKENS, digest, labelled_texts, read_golden, strings_digest
from open_clip_reference import reference_tokenize
from random_texts import random_texts

import action_clip.tokenizer.bpe
from action_clip.errors import ActionClipError
from action_clip.tokenizer.bpe import CONTEXT_LENGTH, END_OF_TEXT, START_OF_TEXT, Tokenizer, default_tokenizer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A vocabulary file of the test's own, not there yet."""
    path = tmp_path / "vocabulary.txt.gz"
    monkeypatch.setattr(action_clip.tokenizer.bpe, "VOCABULARY", path)
    return path


# The ids that CLIP's own documentation and notebooks show for these texts.
@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("a diagram", [320, 22697]),
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("Hello, World!", [3306, 267, 1002, 256]),
        ("", []),
        (" \t\n ", []),
        ("<end_of_text>", [END_OF_TEXT]),
    ],
)
def test_tokens_of_known_texts(text: str, tokens: list[int]) -> None:
    assert default_tokenizer().tokenize(text) == tokens


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("  Driving \n a\tCAR ", "driving a car"),
        ("Caf\u00c3\u00a9", "café"),
        ("cafe\u0301", "café"),
        ("rock &amp; roll", "rock & roll"),
        ("&amp;amp;lt;", "<"),
        ("don’t", "don't"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("ＬＯＵＤ", "loud"),
        ("\ud83d\ude00", "😀"),
    ],
)
def test_texts_that_mean_the_same_get_the_same_tokens(text: str, same: str) -> None:
    assert default_tokenizer().tokenize(text) == default_tokenizer().tokenize(same)


def test_every_label_in_every_prompt_is_golden() -> None:
    texts, labels = zip(*labelled_texts(), strict=True)
    rows = default_tokenizer().encode(texts, labels)
    golden = read_golden(LABEL_TOKENS)
    assert rows.shape == (552 * 16, CONTEXT_LENGTH)
    assert rows.dtype == np.int64
    assert len(golden) == len(texts)
    for text, row, line in zip(texts, rows, golden, strict=True):
        expected = [START_OF_TEXT, *map(int, line.split()), END_OF_TEXT]
        assert row.tolist() == expected + [0] * (CONTEXT_LENGTH - len(expected)), text


def test_random_strings_are_golden() -> None:
    texts = random_texts()
    strings, *golden = read_golden(RANDOM_TOKENS)
    assert len(texts) == 20_000
    assert strings_digest(texts) == strings, "the strings themselves changed: run make_golden.py"
    wrong = [
        text
        for text, expected in zip(texts, golden, strict=True)
        if digest(default_tokenizer().tokenize(text)) != expected
    ]
    assert wrong == []


@pytest.mark.slow
def test_equal_to_open_clip() -> None:
    pytest.importorskip("torch")
    if importlib.util.find_spec("open_clip") is None:
        pytest.skip("open_clip is not installed")
    reference = reference_tokenize()
    texts = [text for text, _ in labelled_texts()] + random_texts()
    assert [text for text in texts if default_tokenizer().tokenize(text) != reference(text)] == []


def test_ftfy_leaves_the_texts_alone_that_skip_it() -> None:
    printable = [chr(code) for code in range(0x20, 0x7F) if chr(code) != "&"]
    for size in (1, 2):
        texts = "\n".join("".join(characters) for characters in product(printable, repeat=size))
        assert ftfy.fix_text(texts) == texts
    assert ftfy.fix_text("".join(printable)) == "".join(printable)


def test_plain_labels_need_neither_ftfy_nor_html() -> None:
    program = (
        "import json, sys; from action_clip.tokenizer.bpe import default_tokenizer as t; t().encode(['driving car']); "
        "plain = sorted({'ftfy', 'html'} & set(sys.modules)); t().encode(['naïve']); "
        "print(json.dumps([plain, sorted({'ftfy', 'html'} & set(sys.modules))]))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], ["ftfy", "html"]]


def test_encode_pads_with_zeros_up_to_77() -> None:
    rows = default_tokenizer().encode(["a cat", "a " * 75])
    assert rows[0].tolist() == [START_OF_TEXT, 320, 2368, END_OF_TEXT] + [0] * 73
    assert rows[1].tolist() == [START_OF_TEXT] + [320] * 75 + [END_OF_TEXT]
    assert default_tokenizer().encode([]).shape == (0, CONTEXT_LENGTH)


def test_the_longest_text_that_does_not_fit_is_named_with_its_count() -> None:
    with pytest.raises(ActionClipError) as caught:
        default_tokenizer().encode(["a cat", "a " * 76, "a dog " * 40])
    assert str(caught.value) == (
        "the text 'a dog a dog a dog a dog a dog a dog a dog a dog a dog a dog a dog a dog a dog a…' makes "
        "82 tokens with start and end, and a model reads at most 77: shorten it"
    )


def test_a_label_that_does_not_fit_is_named_with_the_count_of_its_text() -> None:
    label = "jump\n" + "a" * 60 + " jump" * 72
    with pytest.raises(ActionClipError) as caught:
        default_tokenizer().encode(["cat", "look, " + " jump" * 76], owners=["cat", label])
    assert str(caught.value) == (
        "the label 'jump\\n" + "a" * 60 + " jump jump jum…' makes, in its prompt, "
        "80 tokens with start and end, and a model reads at most 77: shorten it"
    )


def test_identity_names_the_vocabulary() -> None:
    assert Tokenizer().identity == "clip-bpe-924691ac288e"


def test_missing_vocabulary(vocabulary: Path) -> None:
    with pytest.raises(ActionClipError) as caught:
        Tokenizer().tokenize("cat")
    assert str(caught.value) == (
        f"the vocabulary {vocabulary} cannot be read (No such file or directory): install the program again"
    )


def test_damaged_vocabulary(vocabulary: Path) -> None:
    vocabulary.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ActionClipError) as caught:
        Tokenizer().tokenize("cat")
    assert str(caught.value) == (
        f"the vocabulary {vocabulary} is not the file that it should be: install the program again"
    )
