"""open_clip's tokenizer, where it is installed: what this project's tokens are compared with."""

import importlib.util
from collections.abc import Callable
from pathlib import Path


def reference_tokenize() -> Callable[[str], list[int]]:
    """Return open_clip's function from a text to its token ids, without start and end.

    Only the module of the tokenizer is loaded: it needs PyTorch but none of the package's other dependencies.

    Raises:
        ModuleNotFoundError: open_clip or PyTorch is not installed.
    """
    package = importlib.util.find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("open_clip is not installed: pip install open-clip-torch", name="open_clip")
    source = Path(package.submodule_search_locations[0]) / "tokenizer.py"
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", source)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"{source} cannot be loaded", name="open_clip")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    encode: Callable[[str], list[int]] = module.SimpleTokenizer().encode
    return encode
