"""CLIP's byte-pair encoding: a text becomes the row of 77 token ids that a text graph takes.

The scheme is byte-pair encoding (Sennrich et al., ACL 2016) on UTF-8 bytes with the vocabulary of CLIP
(Radford et al., ICML 2021): 256 byte symbols, the same 256 closing a word, one symbol for each of 48,894
merges, then start and end of text.
"""

import gzip
import hashlib
import io
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from action_clip.errors import ActionClipError
from action_clip.system.forks import cached_property
from action_clip.tokenizer.prompts import is_plain

if TYPE_CHECKING:
    import regex

CONTEXT_LENGTH = 77
VOCABULARY_SIZE = 49408
START_OF_TEXT = 49406
END_OF_TEXT = 49407

VOCABULARY = Path(__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
VOCABULARY_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
MERGE_COUNT = 48894

_WORD_END = "</w>"
_SPECIAL_WORDS = {"<start_of_text>": START_OF_TEXT, "<end_of_text>": END_OF_TEXT}


class _Vocabulary(NamedTuple):
    ranks: dict[str, int]  # "left right" -> position in the list of merges, the lowest is merged first
    ids: dict[str, int]  # symbol -> token id


def _byte_symbols() -> dict[int, str]:
    """Map each byte to the character that stands for it in the vocabulary file.

    Bytes that print in Latin-1 stand for themselves, the others count up from U+0100, in the order of ids.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    symbols = {byte: chr(byte) for byte in printable}
    return symbols | {byte: chr(0x100 + place) for place, byte in enumerate(others)}


_BYTE_SYMBOLS = _byte_symbols()
_SYMBOL_BYTES = {symbol: byte for byte, symbol in _BYTE_SYMBOLS.items()}


def _read_vocabulary() -> _Vocabulary:
    """Read the merges and number the symbols. Raises ActionClipError where the file is missing or changed."""
    try:
        packed = VOCABULARY.read_bytes()
    except OSError as error:
        raise ActionClipError(
            f"the vocabulary {VOCABULARY} cannot be read ({error.strerror}): install the program again"
        ) from error
    if hashlib.sha256(packed).hexdigest() != VOCABULARY_SHA256:
        raise ActionClipError(
            f"the vocabulary {VOCABULARY} is not the file that it should be: install the program again"
        )
    # After CLIP's merges, the file has 213,000 more that no CLIP model uses.
    with gzip.open(io.BytesIO(packed), "rt", encoding="utf-8", newline="\n") as lines:
        merges = [line.rstrip("\n") for line in islice(lines, 1, 1 + MERGE_COUNT)]
    symbols = list(_BYTE_SYMBOLS.values())
    symbols += [symbol + _WORD_END for symbol in symbols]
    symbols += [merge.replace(" ", "") for merge in merges]
    return _Vocabulary(
        ranks={merge: rank for rank, merge in enumerate(merges)},
        ids={symbol: number for number, symbol in enumerate(symbols)},
    )


@cache
def _word() -> "regex.Pattern[str]":
    """Return the pattern of a word. Importing regex takes longer than reading the features of known labels."""
    import regex

    # Ignoring case still matters in lower-cased text: the long s of "'ſ" counts as an s.
    words = "|".join(_SPECIAL_WORDS) + r"|'(?:s|t|re|ve|m|ll|d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
    return regex.compile(words, regex.IGNORECASE)


def _shortened(text: str) -> str:
    """Return the text in quotes for an error message, on one line and shortened."""
    return repr(text if len(text) <= 80 else text[:79] + "…")


def _clean(text: str) -> str:
    """Return the text cleaned as in CLIP's training: mojibake repaired, HTML unescaped, one space, lower case."""
    if not is_plain(text):
        import html

        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


class Tokenizer:
    """CLIP's tokenizer, with the same tokens as open_clip's `SimpleTokenizer`.

    The vocabulary is read when the first text is tokenized.

    Attributes:
        identity: a name of the vocabulary, part of the keys of caches of what its tokens give.
    """

    identity = f"clip-bpe-{VOCABULARY_SHA256[:12]}"

    def __init__(self) -> None:
        self._known_words = {word: [token] for word, token in _SPECIAL_WORDS.items()}

    @cached_property
    def _vocabulary(self) -> _Vocabulary:
        return _read_vocabulary()

    @staticmethod
    def words(text: str) -> list[str]:
        """Return the cleaned words of a text, which are encoded one by one.

        Two texts have equal tokens if and only if their words are equal.
        """
        return _word().findall(_clean(text))

    def tokenize(self, text: str) -> list[int]:
        """Return the token ids of a text of any length, without start and end of text.

        Raises:
            ActionClipError: the vocabulary file is missing or damaged.
        """
        tokens: list[int] = []
        for word in self.words(text):
            if word not in self._known_words:
                self._known_words[word] = self._encode_word(word)
            tokens += self._known_words[word]
        return tokens

    def encode(self, texts: Sequence[str], owners: Sequence[str] | None = None) -> NDArray[np.int64]:
        """Return the (N, 77) token ids that a text graph takes: start, text, end, then zeros.

        Args:
            texts: N texts, usually labels in prompts.
            owners: the label that each text was made from, for the error message.

        Raises:
            ActionClipError: a text does not fit; the longest one is named (its owner, where given) with its
                number of tokens (open_clip silently cuts such a text); or the vocabulary cannot be read.
        """
        rows = [[START_OF_TEXT, *self.tokenize(text), END_OF_TEXT] for text in texts]
        longest = max(range(len(rows)), key=lambda row: len(rows[row]), default=None)
        if longest is not None and len(rows[longest]) > CONTEXT_LENGTH:
            subject = f"text {_shortened(texts[longest])} makes"
            if owners is not None:
                subject = f"label {_shortened(owners[longest])} makes, in its prompt,"
            raise ActionClipError(
                f"the {subject} {len(rows[longest])} tokens with start and end, and a model reads at most "
                f"{CONTEXT_LENGTH}: shorten it"
            )
        tokens = np.zeros((len(rows), CONTEXT_LENGTH), dtype=np.int64)
        for place, row in enumerate(rows):
            tokens[place, : len(row)] = row
        return tokens

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens, with a space after each word; incomplete UTF-8 characters are left out."""
        symbols = (self._symbols.get(token, "") for token in tokens)
        written = "".join(symbols).replace(_WORD_END, " ")
        return bytes(_SYMBOL_BYTES.get(symbol, ord(" ")) for symbol in written).decode("utf-8", errors="ignore")

    @cached_property
    def _symbols(self) -> dict[int, str]:
        return {token: symbol for symbol, token in self._vocabulary.ids.items()}

    def _encode_word(self, word: str) -> list[int]:
        """Return the ids of a word: pairs of its symbols are merged, always the pair with the lowest rank first."""
        ranks, ids = self._vocabulary
        symbols = [_BYTE_SYMBOLS[byte] for byte in word.encode()]
        symbols[-1] += _WORD_END
        while len(symbols) > 1:
            pairs = (f"{left} {right}" for left, right in pairwise(symbols))
            best = min(pairs, key=lambda pair: ranks.get(pair, MERGE_COUNT))
            if best not in ranks:
                break
            left, right = best.split(" ")
            merged: list[str] = []
            rest = iter(range(len(symbols)))
            for place in rest:
                if symbols[place] == left and symbols[place + 1 : place + 2] == [right]:
                    merged.append(left + right)
                    next(rest)
                else:
                    merged.append(symbols[place])
            symbols = merged
        return [ids[symbol] for symbol in symbols]


@cache
def default_tokenizer() -> Tokenizer:
    """Return the tokenizer that the whole process shares."""
    return Tokenizer()
