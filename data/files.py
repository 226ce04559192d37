"""Finding the files that tables and lists name, whatever folder and extension they have here."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from functools import cached_property

from action_clip.system.addresses import is_address, is_other_address
from action_clip.system.folders import walk
from action_clip.video import is_video_file, is_video_name


class ClipFiles:
    """The videos in a folder and below it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def find(self, name: str) -> list[str]:
        """Return the paths that a name may mean: one, or none, or several where it does not tell them apart.

        A URL is itself. A path counts from the folder. Where there is no such file, it is one in the folder or below it
        with the same name, perhaps with another extension of videos. Where folders are called as the one that is
        listed, it is in one of these; else, as where all files lie in one folder, anywhere.
        """
        if is_address(name) or is_other_address(name):
            return [name]
        path = os.path.join(self.folder, name)
        if os.path.isfile(path):
            return [path]
        *folders, stem = _stem(name).replace("\\", "/").split("/")
        paths = self._by_stem.get(stem, [])
        if folders and folders[-1] in self._folders:
            return [path for path in paths if _folder(path) == folders[-1]]
        return list(paths)

    @cached_property
    def _by_stem(self) -> Mapping[str, Sequence[str]]:
        paths = defaultdict(list)
        for path, is_folder in walk(self.folder, []):
            if not is_folder and is_video_file(path):
                paths[_stem(os.path.basename(path))].append(path)
        return paths

    @cached_property
    def _folders(self) -> Set[str]:
        """The names of the folders with videos."""
        return {_folder(path) for paths in self._by_stem.values() for path in paths}


def _folder(path: str) -> str:
    """Return the name of the folder that a file is in."""
    return os.path.basename(os.path.dirname(os.path.abspath(path)))


def _stem(name: str) -> str:
    return os.path.splitext(name)[0] if is_video_name(name) else name
