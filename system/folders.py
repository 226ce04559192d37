"""The files in folders, sorted, whatever links lead where."""

import os
from collections.abc import Iterator


def walk(folder: str, unreadable: list[str]) -> Iterator[tuple[str, bool]]:
    """Yield each path in the folder and below it, and whether it is a folder; `folder` itself is the first.

    They are sorted by name, a folder before what is in it. Hidden ones are left out. Links to folders are followed, and
    each folder comes once, so that links in a circle end.
    """
    seen: set[object] = set()
    pending = [(folder, True)]
    while pending:
        path, is_folder = pending.pop()
        if is_folder:
            try:
                place = os.stat(path or os.curdir)
            except OSError:
                continue  # removed in the meantime
            key = (place.st_dev, place.st_ino) if place.st_ino else os.path.realpath(path)
            if key in seen:
                continue
            seen.add(key)
        yield path, is_folder
        if is_folder:
            names = [name for name in names_in(path, unreadable) if not name.startswith(".")]
            paths = [os.path.join(path, name) for name in names]
            pending.extend((below, os.path.isdir(below)) for below in reversed(paths))


def names_in(folder: str, unreadable: list[str]) -> list[str]:
    """Return the sorted names in a folder; [], and a sentence in `unreadable`, where it cannot be read."""
    try:
        os.stat(os.path.join(folder, os.curdir))  # fails where names can be read, but not what they are the names of
        return sorted(os.listdir(folder or os.curdir))
    except OSError as error:
        problem = f"the folder {folder or os.curdir} cannot be read ({error.strerror}): check its rights"
        if problem not in unreadable:  # a pattern may lead to a folder more than once
            unreadable.append(problem)
        return []
