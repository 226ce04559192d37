"""The window of `--show`: live video with labels and bars, by OpenCV in a process of its own.

OpenCV's windows end the process where there is no display, and belong to its main thread. Pictures go to it through a
pipe, the newest one only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from threading import Event, Thread
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from action_clip.errors import ActionClipError
from action_clip.output.captions import title

if TYPE_CHECKING:
    from action_clip.models.live import LiveTimeline
    from action_clip.models.prediction import Prediction

_INTERVAL_S = 1 / 15
"""Seconds between two pictures."""
_LARGEST = (1280, 960)
"""Largest width and height of the pictures in the window."""
_LEAST_WIDTH = 480
"""Smaller pictures are enlarged to it, so that labels leave room."""
_CLOSING_S = 2.0
_SHOWN = "shown\n"
_NO_WINDOW = "error: "
_CODE = "import sys; sys.path[:] = {path!r}; from action_clip.output.show import main; main()"


class LiveView:
    """A window that shows a live stream; a context manager that closes it."""

    def __init__(self, source: str) -> None:
        """Open the window. Raises ActionClipError where there is no display, or OpenCV has no windows."""
        self._stop = Event()
        self._entries: list[dict[str, object]] = []
        self._sending: Thread | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE.format(path=sys.path), title(source)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            answer = self._heard()
        except BaseException:  # Ctrl-C, while a display far away is waited for
            self._process.kill()
            raise
        if answer != _SHOWN:
            self._end()
            reason = answer.removeprefix(_NO_WINDOW).strip() or "there is no display"
            raise ActionClipError(f"no window can be opened ({reason}): leave out --show, or run it on a desktop")

    def _heard(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode("utf-8", "replace")

    def __enter__(self) -> LiveView:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self._stop.set()
        if self._sending is not None:
            self._sending.join(_CLOSING_S)
            if self._sending.is_alive():  # the window hangs, and closing the pipe would wait for it
                self._process.kill()
        with suppress(OSError):
            self._input.close()
        try:
            self._process.wait(_CLOSING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def answer(self, prediction: Prediction) -> None:
        """Show this prediction's labels from now on."""
        self._entries = [asdict(entry) for entry in prediction.ranked]

    def follow(self, answers: LiveTimeline) -> None:
        """Show its pictures, in a thread, and stop it when the window is closed."""
        self._sending = Thread(target=self._send, args=(answers,), name="pictures", daemon=True)
        self._sending.start()
        Thread(target=self._wait, args=(answers,), name="window", daemon=True).start()

    def _send(self, answers: LiveTimeline) -> None:
        with suppress(OSError, ValueError):  # the window is closed
            while not self._stop.wait(_INTERVAL_S):
                if (picture := answers.picture) is not None:
                    picture = _fitted(picture)
                    head = {"shape": picture.shape, "entries": self._entries}
                    self._input.write(json.dumps(head).encode() + b"\n" + picture.tobytes())
                    self._input.flush()

    def _wait(self, answers: LiveTimeline) -> None:
        self._heard()
        answers.stop()


def _fitted(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture, (H, W, 3), as large as the window is to be."""
    height, width, _ = picture.shape
    scale = min(_LARGEST[0] / width, _LARGEST[1] / height, max(_LEAST_WIDTH / width, 1))
    if scale == 1:
        return picture
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0))


class _Pictures:
    """The pictures that come through stdin, in a thread: only the newest one counts."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.newest: NDArray[np.uint8] | None = None
        self.is_over = False
        self._stream = stream
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for picture in self._received():
            self.newest = picture
        self.is_over = True

    def _received(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the pictures, BGR, with their labels."""
        from action_clip.models.prediction import Ranked
        from action_clip.output.overlay import Overlay

        overlay, size = None, (0, 0)
        while head := self._stream.readline():
            facts = json.loads(head)
            height, width, _ = facts["shape"]
            picture = np.frombuffer(self._stream.read(height * width * 3), np.uint8).reshape(height, width, 3)
            bgr = np.ascontiguousarray(picture[..., ::-1])
            entries = [Ranked(**entry) for entry in facts["entries"]]
            if entries:
                if overlay is None or size != (width, height):
                    overlay, size = Overlay(width, height), (width, height)
                overlay.draw(bgr[..., ::-1], entries)
            yield bgr


def main() -> None:
    """Show what comes through stdin until it ends, or the window is closed; the process of LiveView."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which then ends this
    name = printable_title(sys.argv[1])
    try:
        import cv2
    except Exception as error:  # whatever a damaged OpenCV raises
        print(f"{_NO_WINDOW}OpenCV cannot be loaded: {error}", flush=True)
        return
    try:
        cv2.namedWindow(name, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    except cv2.error:
        print(f"{_NO_WINDOW}this OpenCV is one without windows, and opencv-python has them", flush=True)
        return
    print(_SHOWN, end="", flush=True)
    pictures, shown = _Pictures(sys.stdin.buffer), None
    while not pictures.is_over:
        if (newest := pictures.newest) is not shown and newest is not None:
            if shown is None or shown.shape != newest.shape:
                cv2.resizeWindow(name, newest.shape[1], newest.shape[0])
            cv2.imshow(name, newest)
            shown = newest
        key = cv2.waitKey(20) & 0xFF
        if key in (ord("q"), 27) or cv2.getWindowProperty(name, cv2.WND_PROP_VISIBLE) < 1:
            break


def printable_title(text: str) -> str:
    """Return the name of the window: without its control characters."""
    from action_clip.system.terminal import printable

    return f"action-clip: {printable(text)}"
