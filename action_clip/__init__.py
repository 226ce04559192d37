"""Say what to look for, and it finds it in video: zero-shot action recognition on an ordinary CPU.

The package: `from action_clip import ActionClip`. Its names are loaded at first use: importing it loads nothing else.

In a clone its folders lie beside this one, where the command's script is; the links in this folder show them to type
checkers and editors. In a wheel they are in this folder.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from action_clip.command import main
    from action_clip.errors import ActionClipError
    from action_clip.models.actionclip import ActionClip
    from action_clip.models.closed_set import ClosedSetModel
    from action_clip.models.encoded import EncodedClips, EncodedVideo
    from action_clip.models.loading import load
    from action_clip.models.prediction import Failure, Prediction, Window
    from action_clip.models.scoring import LabelBank, score, score_logits
    from action_clip.models.segments import Segment, segments
    from action_clip.models.timesformer import TimeSformer
    from action_clip.models.towhee import ActionClipOperator, TimeSformerOperator
    from action_clip.output.report.report import save_report
    from action_clip.video.reader import VideoReader

__version__ = "0.2.0"
__all__ = [
    "ActionClip",
    "ActionClipError",
    "ActionClipOperator",
    "ClosedSetModel",
    "EncodedClips",
    "EncodedVideo",
    "Failure",
    "LabelBank",
    "Prediction",
    "Segment",
    "TimeSformer",
    "TimeSformerOperator",
    "VideoReader",
    "Window",
    "load",
    "main",
    "save_report",
    "score",
    "score_logits",
    "segments",
]
_FOLDER = os.path.dirname(os.path.realpath(__file__))
_CLONE = os.path.dirname(_FOLDER)
if os.path.isfile(os.path.join(_CLONE, "action_clip.py")):
    __path__ = [_CLONE, _FOLDER]
_MODULES = {
    "ActionClip": "models.actionclip",
    "ActionClipError": "errors",
    "ActionClipOperator": "models.towhee",
    "ClosedSetModel": "models.closed_set",
    "EncodedClips": "models.encoded",
    "EncodedVideo": "models.encoded",
    "Failure": "models.prediction",
    "LabelBank": "models.scoring",
    "Prediction": "models.prediction",
    "Segment": "models.segments",
    "TimeSformer": "models.timesformer",
    "TimeSformerOperator": "models.towhee",
    "VideoReader": "video.reader",
    "Window": "models.prediction",
    "load": "models.loading",
    "main": "command",
    "save_report": "output.report.report",
    "score": "models.scoring",
    "score_logits": "models.scoring",
    "segments": "models.segments",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'action_clip' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"action_clip.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
