"""Reading what somebody else has put there: a pipe or a device, which might never end, is no file."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path

Buffer = bytes | mmap


def require_file(path: Path) -> None:
    """Raise OSError where there is no file, or something else; asked before it is opened, which a pipe never does."""
    if not os.path.isfile(path):
        if os.path.lexists(path):
            raise OSError(errno.EINVAL, "it is no file")
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


@contextmanager
def mapped(path: Path) -> Iterator[Buffer]:
    """What is in a file, without reading all of it.

    Raises OSError when it cannot be read.
    """
    require_file(path)
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:  # which cannot be mapped
            yield b""
            return
        with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            yield content
