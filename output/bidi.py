"""The order in which a line's characters are shown: Unicode's bidirectional algorithm (UAX #9).

The rules' names are the standard's. Explicit embeddings, overrides and isolates are not among them: lines come without
these control characters. (Packages for it give the reordered text alone, without the directions that shaping needs.)
"""

from collections.abc import Sequence
from unicodedata import bidirectional

_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_STRONG = ("L", "R", "AL")
_NUMBERS = ("EN", "AN")
_RESOLVED = ("L", "R", *_NUMBERS)


def embedding_levels(clusters: Sequence[str]) -> list[int]:
    """Return the level of each grapheme cluster of a line: an odd one is shown from right to left."""
    kinds = [_kind(cluster) for cluster in clusters]
    base = int(next((kind for kind in kinds if kind in _STRONG), "L") != "L")
    _resolve_weak(kinds, base)
    _resolve_brackets(clusters, kinds, base)
    _resolve_neutral(kinds, base)
    if base:
        return [1 if kind == "R" else 2 for kind in kinds]
    return [{"L": 0, "R": 1}.get(kind, 2) for kind in kinds]


def visual_order(levels: Sequence[int]) -> list[int]:
    """Return the places of what has these levels, from left to right (rule L2)."""
    order = list(range(len(levels)))
    for level in range(max(levels, default=0), 0, -1):
        start = 0
        while start < len(order):
            end = start
            while end < len(order) and levels[order[end]] >= level:
                end += 1
            order[start:end] = order[start:end][::-1]
            start = end + 1
    return order


def _kind(cluster: str) -> str:
    kind = bidirectional(cluster[0]) or "L"
    return "ON" if kind in ("NSM", "BN") else kind  # a mark without a letter before it


def _resolve_weak(kinds: list[str], base: int) -> None:
    """Apply W2 to W7; what is then neither strong nor a number is neutral."""
    strong = "LR"[base]
    for place, kind in enumerate(kinds):
        if kind in _STRONG:
            strong = kind
        elif kind == "EN" and strong == "AL":
            kinds[place] = "AN"
    kinds[:] = ["R" if kind == "AL" else kind for kind in kinds]
    for place in range(1, len(kinds) - 1):
        before, kind, after = kinds[place - 1 : place + 2]
        if before == after and ((kind == "ES" and before == "EN") or (kind == "CS" and before in _NUMBERS)):
            kinds[place] = before
    for places in (range(1, len(kinds)), range(len(kinds) - 2, -1, -1)):
        for place in places:
            if kinds[place] == "ET" and kinds[place - places.step] == "EN":
                kinds[place] = "EN"
    strong = "LR"[base]
    for place, kind in enumerate(kinds):
        if kind in ("L", "R"):
            strong = kind
        elif kind == "EN" and strong == "L":
            kinds[place] = "L"


def _resolve_brackets(clusters: Sequence[str], kinds: list[str], base: int) -> None:
    """Apply N0: both brackets of a pair take the direction of what they enclose."""
    own, other = ("R", "L") if base else ("L", "R")
    for start, end in _pairs(clusters, kinds):
        inside = {_direction(kind) for kind in kinds[start + 1 : end]}
        if own in inside:
            kinds[start] = kinds[end] = own
        elif other in inside:
            before = next((_direction(kind) for kind in reversed(kinds[:start]) if kind in _RESOLVED), own)
            kinds[start] = kinds[end] = before


def _pairs(clusters: Sequence[str], kinds: Sequence[str]) -> list[tuple[int, int]]:
    """Return the places of brackets that belong together, in the order of the opening ones."""
    pairs = []
    opened: list[tuple[str, int]] = []
    for place, cluster in enumerate(clusters):
        if kinds[place] != "ON":
            continue
        if cluster in _BRACKETS:
            opened.append((_BRACKETS[cluster], place))
            continue
        depth = next((depth for depth in range(len(opened) - 1, -1, -1) if opened[depth][0] == cluster), None)
        if depth is not None:
            pairs.append((opened[depth][1], place))
            del opened[depth:]
    return sorted(pairs)


def _resolve_neutral(kinds: list[str], base: int) -> None:
    """Apply N1 and N2: neutrals between two of one direction take it, others that of the line."""
    start = 0
    while start < len(kinds):
        end = start
        while end < len(kinds) and kinds[end] not in _RESOLVED:
            end += 1
        if end > start:
            before = _direction(kinds[start - 1]) if start else "LR"[base]
            after = _direction(kinds[end]) if end < len(kinds) else "LR"[base]
            kinds[start:end] = [before if before == after else "LR"[base]] * (end - start)
        start = end + 1


def _direction(kind: str) -> str:
    return "R" if kind in _NUMBERS else kind
