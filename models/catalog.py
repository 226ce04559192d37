"""The models this program knows: catalog.toml, read and checked."""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from errors import ActionClipError
from tokenizer.prompts import DEFAULT_PROMPTS

CATALOG_FILE = Path(__file__).with_name("catalog.toml")
ROLES = ("text", "image", "fusion")
KINDS = ("zero-shot",)

T = TypeVar("T")
D = TypeVar("D")


@dataclass(frozen=True)
class GraphFile:
    """One graph of a model: its role, its file name, and what is known of it before it is on this disk."""

    role: str
    name: str
    url: str | None = None
    """Where to download it; None when it is embedded."""
    size: int | None = None
    """Bytes; None when not published."""
    sha256: str | None = None
    """64 lower-case hexadecimal digits; None when not published."""
    also_accepted: tuple[str, ...] = ()
    """Other file names under which this graph is used when it is already in the model's folder."""


@dataclass(frozen=True)
class ModelSpec:
    """What there is to know about a model without opening its graphs."""

    name: str
    aliases: tuple[str, ...]
    kind: str
    description: str
    frames: int
    image_size: int
    """Pixels: side of the square that the image graph takes."""
    resize: int
    """Pixels: short side before the centre crop."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    logit_scale: float
    prompts: tuple[str, ...]
    licence: str
    accuracy: str
    citation: str
    size: int
    """Bytes of all graphs together; an estimate where not published."""
    folder: str | None
    """Folder of an embedded model, relative to models/ (or an absolute path); None: downloaded."""
    files: tuple[GraphFile, ...]


def find(name: str) -> ModelSpec | None:
    """The model of that name or alias, or None."""
    return next((spec for spec in catalog() if name == spec.name or name in spec.aliases), None)


@cache
def catalog() -> tuple[ModelSpec, ...]:
    """Every known model, the default first. Raises ActionClipError when catalog.toml is damaged."""
    return read_catalog(CATALOG_FILE)


def read_catalog(path: Path) -> tuple[ModelSpec, ...]:
    """Read and check a catalog file. Raises ActionClipError naming file, model and key at fault."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ActionClipError(f"{path}: cannot be read ({error.strerror}); reinstall the program") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ActionClipError(f"{path}: is not valid TOML: {error}") from error
    top = _Table(document, str(path))
    entries = top.take("model", _tables)
    top.finish()
    specs = tuple(_model(entry, f"{path}, model {number}") for number, entry in enumerate(entries, start=1))
    owners: dict[str, str] = {}
    for spec in specs:
        for name in (spec.name, *spec.aliases):
            if name in owners:
                raise ActionClipError(
                    f"{path}, model '{spec.name}': the name '{name}' is already taken by '{owners[name]}'"
                )
            owners[name] = spec.name
    return specs


class _Table:
    """A TOML table whose keys are taken one by one, so that an unknown key cannot go unnoticed."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = dict(values)
        self.where = where

    def take(self, key: str, parse: Callable[[Any], T]) -> T:
        if key not in self._values:
            raise ActionClipError(f"{self.where}: the key '{key}' is missing")
        value = self._values.pop(key)
        try:
            return parse(value)
        except ValueError as error:
            raise ActionClipError(f"{self.where}: the key '{key}' must be {error}, not {value!r}") from error

    def take_or(self, key: str, parse: Callable[[Any], T], default: D) -> T | D:
        return self.take(key, parse) if key in self._values else default

    def finish(self) -> None:
        if self._values:
            raise ActionClipError(f"{self.where}: the key '{min(self._values)}' is not known")


def _model(entry: Mapping[str, Any], where: str) -> ModelSpec:
    table = _Table(entry, where)
    name = table.take("name", _model_name)
    table.where = f"{where} ('{name}')"
    folder = table.take_or("folder", _file_name, None)
    files = _Table(table.take("files", _table), f"{table.where}, files")
    graphs = tuple(
        _graph(role, files.take(role, _table), f"{table.where}, files.{role}", folder is not None) for role in ROLES
    )
    files.finish()
    spec = ModelSpec(
        name=name,
        aliases=table.take("aliases", _model_names),
        kind=table.take("kind", _kind),
        description=table.take("description", _text),
        frames=table.take("frames", _count),
        image_size=table.take("image_size", _count),
        resize=table.take("resize", _count),
        mean=table.take("mean", _three_numbers),
        std=table.take("std", _three_positive_numbers),
        logit_scale=table.take("logit_scale", _positive_number),
        prompts=table.take_or("prompts", _prompts, DEFAULT_PROMPTS),
        licence=table.take("licence", _text),
        accuracy=table.take("accuracy", _text),
        citation=table.take("citation", _text),
        size=table.take("size", _count),
        folder=folder,
        files=graphs,
    )
    table.finish()
    if spec.resize < spec.image_size:
        raise ActionClipError(f"{table.where}: the key 'resize' must not be below image_size")
    return spec


def _graph(role: str, entry: Mapping[str, Any], where: str, embedded: bool) -> GraphFile:
    table = _Table(entry, where)
    graph = GraphFile(
        role=role,
        name=table.take("name", _file_name),
        url=None if embedded else table.take("url", _https_url),
        size=table.take_or("size", _count, None),
        sha256=table.take_or("sha256", _sha256, None),
        also_accepted=table.take_or("also_accepted", _file_names, ()),
    )
    table.finish()
    return graph


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(what)
    return value


def _table(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a table")
    return value


def _tables(value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise ValueError("a list of one table a model ([[model]])")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("a whole number above 0")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < float("inf"):
        raise ValueError("a number")
    return float(value)


def _positive_number(value: Any) -> float:
    if (number := _number(value)) <= 0:
        raise ValueError("a number above 0")
    return number


def _three_numbers(value: Any) -> tuple[float, float, float]:
    if len(numbers := [_number(item) for item in _list(value, "three numbers")]) != 3:
        raise ValueError("three numbers")
    return numbers[0], numbers[1], numbers[2]


def _three_positive_numbers(value: Any) -> tuple[float, float, float]:
    numbers = _three_numbers(value)
    if min(numbers) <= 0:
        raise ValueError("three numbers above 0")
    return numbers


def _kind(value: Any) -> str:
    if value not in KINDS:
        raise ValueError("one of " + ", ".join(f"'{kind}'" for kind in KINDS))
    return str(value)


def _model_name(value: Any) -> str:
    # It is also the name of a folder, on systems that do not tell capitals apart.
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", value):
        raise ValueError("a name of lower-case letters, digits, '.', '_' and '-'")
    return value


def _model_names(value: Any) -> tuple[str, ...]:
    return tuple(_model_name(item) for item in _list(value, "a list of names"))


def _file_name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value):
        raise ValueError("a plain file or folder name")
    return value


def _file_names(value: Any) -> tuple[str, ...]:
    return tuple(_file_name(item) for item in _list(value, "a list of file names"))


def _https_url(value: Any) -> str:
    if not isinstance(value, str) or urlsplit(value).scheme != "https" or not urlsplit(value).hostname:
        raise ValueError("an https URL")
    return value


def _sha256(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError("64 lower-case hexadecimal digits")
    return value


def _prompts(value: Any) -> tuple[str, ...]:
    prompts = _list(value, "a list of templates")
    if not prompts or not all(isinstance(item, str) and item.count("{}") == 1 for item in prompts):
        raise ValueError("a list of templates with one {} each")
    return tuple(prompts)
