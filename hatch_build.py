"""The build hook of hatchling: which files of a clone are the package's own."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface[Any]):
    """Adds the files in action_clip/ to a wheel, and refuses an editable install of a clone without symbolic links."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is built; `version` is "standard" or "editable"."""
        package = Path(self.root, "action_clip")
        if version == "standard":
            # The links in this folder are left out: pyproject.toml names what they lead to. Where git makes no links,
            # they are small files of text.
            for name in ("__init__.py", "__main__.py", "py.typed"):
                build_data["force_include"][str(package / name)] = name
        elif not Path(self.root, ".editable", "action_clip").is_dir():
            raise OSError(
                "an editable install needs symbolic links, and those of this clone are files of text: let git make "
                "links (core.symlinks true, on Windows with Developer Mode on) and clone anew, or install without -e"
            )
