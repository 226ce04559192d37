"""The build hook of hatchling: action_clip.py is the `__init__.py` of the package."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface[Any]):
    """Maps action_clip.py in a wheel, and refuses an editable install where the clone has no links."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before a wheel is built; `version` is "standard" or "editable"."""
        if version == "standard":
            build_data["force_include"]["action_clip.py"] = "__init__.py"
        elif not Path(self.root, "typings", "action_clip", "models").is_dir():
            raise OSError(
                "an editable install needs the symbolic links in typings/, and git has written them as text: set "
                "core.symlinks to true (on Windows with Developer Mode on) and clone anew, or install without -e"
            )
