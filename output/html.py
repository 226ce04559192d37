"""Prediction to HTML, as notebooks show it: the sheet as a picture, or a table where none can be drawn."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

from action_clip.errors import ActionClipError
from action_clip.output.sheet import check_drawable
from action_clip.system.terminal import printable

if TYPE_CHECKING:
    from action_clip.models.prediction import Prediction


def prediction_html(prediction: Prediction) -> str:
    """Return an `<img>` with the sheet in it, or a `<table>` where there is no OpenCV 5 or there are no thumbnails."""
    try:
        check_drawable("sheet.png", prediction)
    except ActionClipError:
        return _table(prediction)
    from action_clip.output.drawing import encoded_sheet

    picture = base64.b64encode(encoded_sheet(prediction, ".png")).decode()
    return f'<img style="max-width: 100%" alt="{escape(repr(prediction))}" src="data:image/png;base64,{picture}">'


def _table(prediction: Prediction) -> str:
    video = "decoded frames" if prediction.video is None else prediction.video
    rows = "".join(
        f'<tr><td style="text-align: left">{_text(entry.label)}</td><td>{entry.probability:.1%}</td></tr>'
        for entry in prediction.ranked
    )
    caption = _text(f"{video} · {prediction.model} · {len(prediction.labels)} labels")
    return f"<table><caption>{caption}</caption><tr><th>label</th><th>probability</th></tr>{rows}</table>"


def _text(text: str) -> str:
    """Return the text as HTML, with escapes for control characters and those that change the direction of writing."""
    return escape(printable(text))
