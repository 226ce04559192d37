"""The models that the program knows: catalog.toml, read and checked."""

import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from action_clip.errors import ActionClipError
from action_clip.models.catalog import validators
from action_clip.tokenizer.prompts import DEFAULT_NONE_TEXTS, DEFAULT_PROMPTS

CATALOG_FILE = Path(__file__).with_name("catalog.toml")
# The graphs of a model of each kind.
ROLES = {"zero-shot": ("text", "image", "fusion"), "closed-set": ("video",)}
# The graph that `action-clip train` adds, and the graphs of what it makes: with texts, it is a zero-shot model.
HEAD = "head"
TRAINED_ROLES = (("text", "image", "fusion", HEAD), ("image", "fusion", HEAD), ("video", HEAD))
CHECKPOINT = "checkpoint"
# Of OpenAI's CLIP and the models made from it: means and standard deviations of red, green and blue.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# The keys of a file besides its name.
_DOWNLOADED = ("url", "size", "sha256", "also_accepted")
_EMBEDDED = ("size", "sha256", "also_accepted")
_EXPORTED_FROM = ("url", "size", "sha256")

T = TypeVar("T")
D = TypeVar("D")


@dataclass(frozen=True)
class ModelFile:
    """One file of a model: a graph, or the checkpoint that its graphs are exported from."""

    role: str
    """One of the ROLES of its model's kind, HEAD, or CHECKPOINT."""
    name: str
    url: str | None = None
    """Where to download it; None when it is embedded or exported."""
    size: int | None = None
    """Bytes; None when not known before it is on this disk."""
    sha256: str | None = None
    """64 lower-case hexadecimal digits; None when not known before it is on this disk."""
    also_accepted: tuple[str, ...] = ()
    """Other file names under which this graph is used when it is already in the model's folder."""


@dataclass(frozen=True)
class ModelSpec:
    """What is known about a model without opening its graphs."""

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
    uniform: str
    """The rule of the "uniform" sampling: a key of video/sampling.py's UNIFORM_RULES."""
    logit_scale: float
    prompts: tuple[str, ...]
    """() for a closed set."""
    classes: tuple[str, ...]
    """Names of the classes of a closed set or a head, in the order of the logits; () for a zero-shot model without."""
    licence: str
    accuracy: str
    citation: str
    size: int
    """Bytes of all graphs together; an estimate where not published."""
    folder: str | None
    """Folder of an embedded model, relative to models/ (or an absolute path); None: downloaded or exported."""
    checkpoint: ModelFile | None
    """The file that the graphs are exported from (`action-clip export NAME`); None: they are downloaded or embedded."""
    files: tuple[ModelFile, ...]
    temporal: str = ""
    """How frames of a clip attend to each other in the image graph: "shift" or "joint"; "": each is seen alone."""
    none_texts: tuple[str, ...] = ()
    """The model's list of texts that mean something else than any label; () for a closed set."""
    none_threshold: float = 0.0
    """The probability from which the best label is taken to happen, where "none of these" may be the answer; 0: not
    measured, any label that is more probable than it."""
    multi_label_threshold: float = 0.5
    """The probability from which a label is taken to happen, where each is scored by itself; 0.5 if not measured."""
    head: str = ""
    """The kind of the head that was trained on features, one of validators.HEADS; "": there is none."""
    is_multi_label: bool = False
    """Whether the head scores each of its classes by itself."""

    @property
    def video_roles(self) -> tuple[str, ...]:
        """The roles of the graphs that videos are encoded with."""
        return tuple(file.role for file in self.files if file.role not in ("text", HEAD))


def find(name: str) -> ModelSpec | None:
    """Return the model of that name or alias; None where there is none."""
    return next((spec for spec in catalog() if name == spec.name or name in spec.aliases), None)


def kinetics_400() -> tuple[str, ...]:
    """Return the names of the 400 classes of Kinetics-400, in the order of their indices."""
    return _read_classes("kinetics400.txt", str(CATALOG_FILE))


@cache
def catalog() -> tuple[ModelSpec, ...]:
    """Return every known model, the default first. Raises ActionClipError when catalog.toml is damaged."""
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
    entries = top.required("model", validators.tables)
    top.refuse_unknown_keys()
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
    """A TOML table whose keys are removed as they are read: those that are left at the end are unknown."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = dict(values)
        self.where = where

    def required(self, key: str, parse: Callable[[Any], T]) -> T:
        """Return the parsed value of a key. Raises ActionClipError where it is missing or `parse` raises ValueError."""
        if key not in self._values:
            raise ActionClipError(f"{self.where}: the key '{key}' is missing")
        value = self._values.pop(key)
        try:
            return parse(value)
        except ValueError as error:
            raise ActionClipError(f"{self.where}: the key '{key}' must be {error}, not {value!r}") from error

    def optional(self, key: str, parse: Callable[[Any], T], default: D) -> T | D:
        return self.required(key, parse) if key in self._values else default

    def refuse_unknown_keys(self) -> None:
        """Raise ActionClipError where there are keys that were not read."""
        if self._values:
            raise ActionClipError(f"{self.where}: the key '{min(self._values)}' is not known")


def _model(entry: Mapping[str, Any], where: str) -> ModelSpec:
    table = _Table(entry, where)
    name = table.required("name", validators.model_name)
    table.where = f"{where} ('{name}')"
    kind = table.required("kind", validators.kind)
    roles = ROLES[kind]
    is_closed = kind == "closed-set"
    folder = table.optional("folder", validators.file_name, None)
    source = table.optional(CHECKPOINT, validators.table, None)
    if folder is not None and source is not None:
        raise ActionClipError(f"{table.where}: the keys 'folder' and '{CHECKPOINT}' exclude each other")
    checkpoint = None if source is None else _file(CHECKPOINT, source, f"{table.where}, {CHECKPOINT}", _EXPORTED_FROM)
    if checkpoint is not None:
        # Without size and sha256, which depend on the machine and the precision.
        graphs = tuple(ModelFile(role, f"{role}.onnx") for role in roles)
    else:
        keys = _DOWNLOADED if folder is None else _EMBEDDED
        files = _Table(table.required("files", validators.table), f"{table.where}, files")
        graphs = tuple(
            _file(role, files.required(role, validators.table), f"{table.where}, files.{role}", keys) for role in roles
        )
        files.refuse_unknown_keys()
    spec = ModelSpec(
        name=name,
        aliases=table.required("aliases", validators.model_names),
        kind=kind,
        description=table.required("description", validators.text),
        frames=table.required("frames", validators.frame_count),
        image_size=table.required("image_size", validators.pixels),
        resize=table.required("resize", validators.pixels),
        mean=table.optional("mean", validators.three_numbers, CLIP_MEAN),
        std=table.optional("std", validators.three_positive_numbers, CLIP_STD),
        uniform=table.optional("uniform", validators.uniform_rule, "segments"),
        logit_scale=1.0 if is_closed else table.required("logit_scale", validators.positive_number),
        prompts=() if is_closed else table.optional("prompts", validators.prompts, DEFAULT_PROMPTS),
        classes=_read_classes(table.required("classes", validators.file_name), table.where) if is_closed else (),
        licence=table.required("licence", validators.text),
        accuracy=table.required("accuracy", validators.text),
        citation=table.required("citation", validators.text),
        size=table.required("size", validators.count),
        folder=folder,
        checkpoint=checkpoint,
        files=graphs,
        none_texts=() if is_closed else table.optional("none_texts", validators.none_texts, DEFAULT_NONE_TEXTS),
        none_threshold=table.optional("none_threshold", validators.probability, 0.0),
        multi_label_threshold=table.optional("multi_label_threshold", validators.probability, 0.5),
    )
    table.refuse_unknown_keys()
    if spec.resize < spec.image_size:
        raise ActionClipError(f"{table.where}: the key 'resize' must not be below image_size")
    return spec


def _read_classes(name: str, where: str) -> tuple[str, ...]:
    """Return the names in a file beside the catalog, one a line."""
    try:
        return validators.class_names(CATALOG_FILE.with_name(name).read_text("utf-8").splitlines())
    except (OSError, ValueError) as error:
        raise ActionClipError(f"{where}: the classes in {name} cannot be read ({error}); reinstall") from error


def _file(role: str, entry: Mapping[str, Any], where: str, keys: Collection[str]) -> ModelFile:
    """Return a file from its table. Of `keys`, the url is required, and the others are optional."""
    table = _Table(entry, where)

    def allowed(key: str, parse: Callable[[Any], T], default: D) -> T | D:
        return table.optional(key, parse, default) if key in keys else default

    file = ModelFile(
        role=role,
        name=table.required("name", validators.file_name),
        url=table.required("url", validators.https_url) if "url" in keys else None,
        size=allowed("size", validators.count, None),
        sha256=allowed("sha256", validators.sha256, None),
        also_accepted=allowed("also_accepted", validators.file_names, ()),
    )
    table.refuse_unknown_keys()
    return file
