"""Training texts for the text graph: an endless stream made from WordNet and the teacher's own vocabulary.

Users' labels are short and name actions, so most texts are action phrases ("riding a bicycle", "arm wrestling", "brush
hair"), most of them in a prompt template. Words, objects, definitions and example sentences keep the student close to
its teacher for other texts.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from action_clip.export.nano.wordnet import Synset, WordNet
from action_clip.tokenizer.prompts import DEFAULT_PROMPTS

# Prompts besides the 16 default ones, as users write their own and as captions are worded.
_MORE_PROMPTS = (
    "a video of a person {}",
    "a photo of a person {}",
    "a person is {}",
    "a person {}",
    "someone {}",
    "somebody is {} here",
    "people {}",
    "a man {}",
    "a woman {}",
    "a child {}",
    "two people {}",
    "the action of {}",
    "the person is {}",
    "this is {}",
    "a clip of {}",
    "a video clip showing {}",
    "footage of {}",
    "an example of {}",
    "{} in a video",
    "{} outdoors",
    "{} indoors",
    "a photo of {}",
    "a photo of a {}",
    "a picture of {}",
    "a scene with {}",
)
_ARTICLES = ("a", "a", "the", "the", "", "", "", "his", "her", "some")
_PREPOSITIONS = (
    "in", "on", "with", "at", "to", "from", "into", "over", "under", "through", "for", "by", "off", "around", "near",
)  # fmt: skip
_PARTICLES = ("up", "down", "out", "off", "away", "together", "around", "back")
# Lexicographer files of nouns (manual page lexnames(5WN)).
_THINGS = {5, 6, 8, 13, 17, 20, 27}  # animal, artifact, body, food, object, plant, substance
_ACTS = {4}
_PEOPLE = {18}


class _WeightedSampler:
    """Draws words with probabilities in proportion to their weights."""

    def __init__(self, words: Iterable[str], weight: Callable[[str], float]) -> None:
        self._words = sorted(set(words))
        self._cumulated = list(accumulate(map(weight, self._words)))

    def draw(self, rng: random.Random) -> str:
        return rng.choices(self._words, cum_weights=self._cumulated)[0]


class TextStream:
    """Draws training texts; a `random.Random` with the same seed gives the same texts."""

    def __init__(self, wordnet: WordNet, vocabulary: Sequence[str]) -> None:
        """`vocabulary`: words that are one token, which are texts of their own and count as common words."""
        common = {word.lower() for word in vocabulary}

        def weight(lemma: str) -> float:
            # WordNet's counts come from old newspapers, which lack such words as "pancake"; tokenizers have them.
            known = all(word in common for word in lemma.lower().split(" "))
            return float((1 + wordnet.count(lemma)) ** 0.4) * (1.0 if known else 0.02)

        def sampler(select: Callable[[Synset], bool]) -> _WeightedSampler:
            return _WeightedSampler(
                (lemma for synset in wordnet.synsets if select(synset) for lemma in synset.lemmas), weight
            )

        self._ing = wordnet.ing
        self._verbs = sampler(lambda s: s.part == "verb")
        self._nouns = sampler(lambda s: s.part == "noun")
        self._things = sampler(lambda s: s.part == "noun" and s.topic in _THINGS)
        self._acts = sampler(lambda s: s.part == "noun" and s.topic in _ACTS)
        self._people = sampler(lambda s: s.part == "noun" and s.topic in _PEOPLE)
        self._adjectives = sampler(lambda s: s.part == "adj")
        self._words = list(vocabulary)
        self._definitions = [s.definition for s in wordnet.synsets]
        self._examples = [example for s in wordnet.synsets for example in s.examples]

    def batch(self, rng: random.Random, size: int) -> list[str]:
        """Return `size` new texts."""
        return [self._text(rng) for _ in range(size)]

    def _text(self, rng: random.Random) -> str:
        chance = rng.random()
        if chance < 0.66:
            return self._prompted(rng, self._action(rng))
        if chance < 0.78:
            return self._prompted(rng, self._noun_phrase(rng, self._nouns))
        if chance < 0.85:
            return self._prompted(rng, rng.choice(self._words))
        if chance < 0.92:
            return rng.choice(self._definitions)
        return rng.choice(self._examples)

    def _prompted(self, rng: random.Random, phrase: str) -> str:
        chance = rng.random()
        if chance < 0.55:
            return rng.choice(DEFAULT_PROMPTS).replace("{}", phrase)
        if chance < 0.75:
            return rng.choice(_MORE_PROMPTS).replace("{}", phrase)
        return phrase

    def _noun_phrase(self, rng: random.Random, nouns: _WeightedSampler) -> str:
        noun = nouns.draw(rng)
        if rng.random() < 0.15:
            noun = f"{self._adjectives.draw(rng)} {noun}"
        elif rng.random() < 0.15:
            noun = noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")
        article = rng.choice(_ARTICLES)
        if article == "a" and noun[0].lower() in "aeiou":
            article = "an"
        return f"{article} {noun}".strip()

    def _action(self, rng: random.Random) -> str:
        verb = self._verbs.draw(rng)
        doing = verb if rng.random() < 0.12 else self._ing(verb)
        chance = rng.random()
        if chance < 0.15:
            return doing
        if chance < 0.22:
            return f"{doing} {rng.choice(_PARTICLES)}"
        if chance < 0.52:
            return f"{doing} {self._noun_phrase(rng, self._things)}"
        if chance < 0.60:
            return f"{doing} {rng.choice(_PREPOSITIONS)} {self._noun_phrase(rng, self._things)}"
        if chance < 0.66:
            things = (self._noun_phrase(rng, self._things) for _ in range(2))
            return f"{doing} {next(things)} {rng.choice(_PREPOSITIONS)} {next(things)}"
        if chance < 0.72:
            return f"{self._things.draw(rng)} {doing}"
        if chance < 0.77:
            return f"{doing} {self._noun_phrase(rng, self._people)}"
        if chance < 0.82:
            return f"{doing} and {self._ing(self._verbs.draw(rng))}"
        if chance < 0.92:
            return self._acts.draw(rng)
        if chance < 0.96:
            return f"{rng.choice(('playing', 'playing', 'doing', 'practicing'))} {self._acts.draw(rng)}"
        return f"{rng.choice(('playing', 'using', 'holding', 'with'))} {self._noun_phrase(rng, self._things)}"
