"""open_clip's CLIP, where it is installed: what this project's networks are compared with.

The package imports torchvision, which has no build for every PyTorch and which a CLIP with a vision transformer makes
no use of. So only the modules of the model are loaded, as a package of another name, with an empty torchvision for as
long as that takes.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch import nn

_PACKAGE = "open_clip_without_torchvision"
# None: whoever imports it is told that it is not installed, and open_clip does without.
_ABSENT = ("timm", "transformers")
_EMPTY = ("torchvision", "torchvision.ops", "torchvision.ops.misc")


def reference_clip(
    embedding: int, vision: Mapping[str, Any], text: Mapping[str, Any], *, quick_gelu: bool = False
) -> nn.Module:
    """A CLIP of open_clip with random weights, for evaluation; `vision` and `text` as in open_clip_config.json.

    Raises:
        ModuleNotFoundError: open_clip is not installed.
    """
    with _stand_ins():
        module = importlib.import_module(f"{_PACKAGE}.model")
    model: nn.Module = module.CLIP(embedding, dict(vision), dict(text), quick_gelu=quick_gelu)
    return model.eval()


@contextmanager
def _stand_ins() -> Iterator[None]:
    """What open_clip's modules import, as far as they need it."""
    if _PACKAGE not in sys.modules:
        spec = importlib.util.find_spec("open_clip")
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError("open_clip is not installed: pip install open-clip-torch", name="open_clip")
        package = ModuleType(_PACKAGE)
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules[_PACKAGE] = package
    empty: dict[str, ModuleType | None] = {name: ModuleType(name) for name in _EMPTY}
    vars(empty["torchvision.ops.misc"])["FrozenBatchNorm2d"] = type("FrozenBatchNorm2d", (nn.Module,), {})
    stand_ins = empty | dict.fromkeys(_ABSENT)
    found = {name: sys.modules[name] for name in stand_ins if name in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]
        sys.modules.update(found)
