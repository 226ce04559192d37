"""Reading WordNet 3.0 from its database files (manual page wndb(5WN)): words, meanings, frequencies, -ing forms."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from action_clip.errors import ActionClipError

_SPACE_MARKERS = re.compile(r"\((?:a|p|ip)\)$")  # adjective positions, written behind the word
_VOWELS = "aeiou"


@dataclass(frozen=True)
class Synset:
    """A set of words with one meaning, with its definition and example sentences.

    `offset` is its place in the file of its part of speech, `part`. `topic` is the number of its lexicographer file
    (manual page lexnames(5WN)): 4 noun.act, 6 noun.artifact, …
    """

    offset: int
    part: str
    topic: int
    lemmas: tuple[str, ...]
    definition: str
    examples: tuple[str, ...]


class WordNet:
    """The database in one folder, for example /usr/share/wordnet of Debian's package wordnet-base."""

    def __init__(self, folder: Path) -> None:
        """Read the database. Raises ActionClipError where its files are missing."""
        missing = [n for n in ("data.noun", "data.verb", "verb.exc", "cntlist.rev") if not (folder / n).is_file()]
        if missing:
            raise ActionClipError(
                f"{folder} has no WordNet 3.0 database ({', '.join(missing)} missing): install Debian's wordnet-base "
                "or name its folder with --wordnet"
            )
        self.synsets: list[Synset] = []
        for part in ("noun", "verb", "adj", "adv"):
            path = folder / f"data.{part}"
            if path.is_file():
                self.synsets += _read_synsets(path, part)
        self._counts: dict[str, int] = defaultdict(int)
        for line in (folder / "cntlist.rev").read_text("utf-8").splitlines():
            sense_key, _, count = line.split()
            self._counts[sense_key.partition("%")[0].replace("_", " ")] += int(count)
        self._irregular_ing: dict[str, str] = {}
        for line in (folder / "verb.exc").read_text("utf-8").splitlines():
            form, *bases = line.split()
            if form.endswith("ing"):
                for base in bases:
                    self._irregular_ing.setdefault(base, form)

    def by_offset(self) -> dict[tuple[str, int], Synset]:
        """Return the synsets by (part of speech, offset), as ImageNet names its classes."""
        return {(synset.part, synset.offset): synset for synset in self.synsets}

    def count(self, lemma: str) -> int:
        """Return how often the word occurs in the texts that WordNet's editors tagged."""
        return self._counts[lemma.lower()]

    def ing(self, verb: str) -> str:
        """Return the -ing form of a verb, or of a phrase that begins with one: "running up" for "run up"."""
        first, *rest = verb.split(" ")
        return " ".join([self._irregular_ing.get(first) or _regular_ing(first), *rest])


def _regular_ing(verb: str) -> str:
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and len(verb) > 2:
        return verb[:-1] + "ing"
    one_syllable = len(re.findall(f"[{_VOWELS}]+", verb)) == 1
    if one_syllable and re.search(f"[^{_VOWELS}][{_VOWELS}][^{_VOWELS}wxy]$", verb):
        return verb + verb[-1] + "ing"
    return verb + "ing"


def _read_synsets(path: Path, part: str) -> Iterator[Synset]:
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("  "):  # the licence, at the top of each file
            continue
        facts, _, gloss = line.partition(" | ")
        offset, topic, _, count, *words = facts.split(" ")
        lemmas = (words[2 * i] for i in range(int(count, 16)))
        examples = re.findall(r'"([^"]+)"', gloss)
        yield Synset(
            offset=int(offset),
            part=part,
            topic=int(topic),
            lemmas=tuple(_SPACE_MARKERS.sub("", lemma).replace("_", " ") for lemma in lemmas),
            definition=gloss.partition('; "')[0].strip(),
            examples=tuple(example.strip() for example in examples),
        )
