# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "onnxruntime>=1.20",
#     "numpy>=2.0",
#     "opencv-python>=5.0",
#     "av>=18.1",
#     "pillow>=10.1",
#     "ftfy>=6.3",
#     "regex>=2023.8",
#     "requests>=2.31",
#     "urllib3>=2.0",
#     "tqdm>=4.66",
#     "platformdirs>=4.13",
#     "filelock>=3.13",
#     "xxhash>=3.2",
#     "wcwidth>=0.5",
# ]
# ///
"""Say what to look for, and it finds it in video: zero-shot action recognition on an ordinary CPU.

The command, and the package: `from action_clip import ActionClip`. What is imported from it is loaded at first use.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from action_clip.command import main
    from action_clip.errors import ActionClipError
    from action_clip.models.actionclip import ActionClip
    from action_clip.models.loading import load
    from action_clip.models.model import EncodedVideo
    from action_clip.models.prediction import Prediction
    from action_clip.models.timesformer import TimeSformer
    from action_clip.models.towhee import ActionClipOperator, TimeSformerOperator

__version__ = "0.2.0"
__all__ = [
    "ActionClip",
    "ActionClipError",
    "ActionClipOperator",
    "EncodedVideo",
    "Prediction",
    "TimeSformer",
    "TimeSformerOperator",
    "load",
    "main",
]
# In a clone this file is the package, and the folders beside it are its own.
__path__ = [os.path.dirname(os.path.abspath(__file__))]
_MODULES = {
    "ActionClip": "models.actionclip",
    "ActionClipError": "errors",
    "ActionClipOperator": "models.towhee",
    "EncodedVideo": "models.model",
    "Prediction": "models.prediction",
    "TimeSformer": "models.timesformer",
    "TimeSformerOperator": "models.towhee",
    "load": "models.loading",
    "main": "command",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'action_clip' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"action_clip.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if __name__ == "__main__":
    sys.modules["action_clip"] = sys.modules["__main__"]  # what imports the package is not to load it again
    from action_clip.__main__ import start

    start()
