"""The frame of all pages: one HTML file from a template, with styles, scripts and pictures in it.

A page makes no requests but for a video that it names: a policy in it (Content-Security-Policy) has the browser see to
that, and run no scripts but these.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from action_clip.errors import ActionClipError
from action_clip.output.captions import duration
from action_clip.output.report.text import shown
from action_clip.output.timelines import clock
from action_clip.system.files import check_target, open_stream, replacing, writing
from action_clip.system.interrupts import terminable

if TYPE_CHECKING:
    import numpy as np
    from jinja2 import Environment
    from numpy.typing import NDArray

EXTENSIONS = (".html", ".htm")
FOLDER = Path(__file__).parent
TABLE = FOLDER / "table.js"
"""What makes a table with the class "items" sortable, and its controls filter it."""
_QUALITY = 80
"""Of JPEG pictures: 160 × 90 pixels are about 4 kB."""


def check_path(path: str | os.PathLike[str]) -> None:
    """Raise ActionClipError where no page can be written to `path`: by its ending or folder, or without permission."""
    if Path(path).suffix.lower() not in EXTENSIONS:
        raise ActionClipError(
            f"cannot write the report {os.fspath(path)}: the name must end in {' or '.join(EXTENSIONS)}"
        )
    check_target(path)


def write_page(
    path: str | os.PathLike[str],
    template: str,
    values: Mapping[str, Any],
    *,
    scripts: Iterable[Path] = (),
    styles: Iterable[Path] = (),
    folder: Path | None = None,
) -> None:
    """Write a page, whole or not at all.

    Args:
        path: of the page.
        template: its name, of those in `templates/` or `folder`; it extends page.html, which needs the value `title`.
        values: of the template. All texts are escaped; the filter `shown` is for names and labels.
        scripts, styles: files that become part of the page, after the common style.
        folder: of more templates.

    Raises:
        ActionClipError: the page cannot be written.
    """
    check_path(path)
    parts = (
        _environment(folder)
        .get_template(template)
        .generate(**values, **_inlined(scripts, [FOLDER / "style.css", *styles]))
    )
    with writing(path):
        if (stream := open_stream(path)) is not None:
            with stream:
                stream.writelines(_encoded(parts))
            return
        with terminable(), replacing(path) as draft, draft.open("wb") as file:
            file.writelines(_encoded(parts))


def picture(image: NDArray[np.uint8]) -> bytes:
    """Return a picture, (H, W, 3) uint8 RGB, as a JPEG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()


def _encoded(parts: Iterable[str]) -> Iterator[bytes]:
    return (part.encode("utf-8", errors="backslashreplace") for part in parts)


def _environment(folder: Path | None) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folders = [FOLDER / "templates", *([folder] if folder else [])]
    environment = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "shown": shown,
        "percent": "{:.1%}".format,
        "seconds": duration,
        "clock": lambda seconds: clock(seconds, decimals=1),
        "number": "{:,}".format,
        "jpeg": lambda data: f"data:image/jpeg;base64,{base64.b64encode(data).decode()}",
    }
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    return environment


def _inlined(scripts: Iterable[Path], styles: Iterable[Path]) -> dict[str, Any]:
    """Return the texts of scripts and styles, and the policy under which a browser runs these scripts alone."""
    from markupsafe import Markup

    codes = [script.read_text("utf-8") for script in scripts]
    digests = (base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in codes)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return {
        "scripts": [Markup(code) for code in codes],
        "styles": [Markup(style.read_text("utf-8")) for style in styles],
        "policy": "default-src 'none'; img-src data:; media-src 'self' file:; style-src 'unsafe-inline'; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'",
    }
