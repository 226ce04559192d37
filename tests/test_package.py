"""The package: one list of dependencies, what a wheel contains, and how it is imported from a clone."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from email.parser import Parser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import action_clip
from action_clip.models.runtime.half import _PACKAGES

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
WHEEL = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
PARTS = set(WHEEL["only-include"])
"""The files and folders beside action_clip/ that belong to the package."""
MODULES = {Path(part).stem for part in PARTS} - {"samples"}
OWN = {"__init__.py", "__main__.py", "py.typed"}
"""The files of the package that are in action_clip/ in a clone too; the rest there are links."""
NOT_PACKAGED = {"action_clip", "action_clip.py", "benchmarks", "docs", "hatch_build.py", "tests"}


def requirements(file: str) -> list[str]:
    lines = (ROOT / file).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-r "))]


def script_metadata() -> dict[str, Any]:
    """The PEP 723 block of action_clip.py."""
    block = re.match(r"# /// script\n(.*?)# ///\n", (ROOT / "action_clip.py").read_text("utf-8"), re.DOTALL)
    assert block
    return tomllib.loads(re.sub(r"^# ?", "", block[1], flags=re.MULTILINE))


def test_dependencies_are_one_list() -> None:
    project, script = PROJECT["project"], script_metadata()
    assert project["dependencies"] == script["dependencies"] == requirements("requirements.txt")
    assert project["requires-python"] == script["requires-python"] == ">=3.11"


def test_extras_are_the_lists_of_the_requirements_files() -> None:
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    assert extras["export"] == requirements("requirements-export.txt")
    (runtime,) = (line for line in project["dependencies"] if line.startswith("onnxruntime"))
    assert extras["cuda"][0] == runtime.replace("onnxruntime", "onnxruntime-gpu")
    assert [re.split(">=", line)[0] for line in extras["cuda"][1:]] == list(_PACKAGES)
    assert set(extras["cuda"][1:]) <= set(requirements("requirements-test.txt"))
    assert extras["openvino"] == [runtime.replace("onnxruntime", "onnxruntime-openvino")]
    assert extras["train"] == requirements("requirements-train.txt")
    assert set(extras["train"]) <= set(requirements("requirements-test.txt"))
    assert extras["finetune"] == requirements("requirements-export.txt") + requirements("requirements-finetune.txt")
    assert extras["ray"] == requirements("requirements-ray.txt")
    assert {*extras["completion"], *extras["parquet"]} <= set(requirements("requirements-test.txt"))
    assert set(extras) == {"completion", "cuda", "export", "finetune", "openvino", "parquet", "ray", "train"}


def test_every_part_is_packaged_and_banned_by_its_bare_name() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    modules = {path.name for path in ROOT.glob("*.py")}
    assert (packages | modules | {"samples"}) - NOT_PACKAGED == PARTS
    banned = PROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    assert set(banned) == MODULES | {"action_clip.action_clip"}


@pytest.mark.skipif(not (ROOT / ".editable" / "action_clip").is_symlink(), reason="no symbolic links here")
def test_links_show_every_part_to_type_checkers_and_editors() -> None:
    links = {path.name: path.readlink() for path in ROOT.glob("action_clip/*") if path.is_symlink()}
    assert links == {part: Path("..", part) for part in PARTS - {"samples"}}
    assert (ROOT / ".editable" / "action_clip").readlink() == Path("..", "action_clip")


def run(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, encoding="utf-8", errors="replace"
    )


@pytest.mark.slow
@pytest.mark.parametrize("start", [["action_clip.py"], ["-m", "action_clip"]], ids=["script", "module"])
def test_the_command_loads_every_module_once_and_none_by_its_bare_name(start: list[str]) -> None:
    done = run("-X", "importtime", *start, "--model", "nano")
    assert done.returncode == 0, done.stderr
    loaded = Counter(re.findall(r"^import time: .*\| +([\w.]+)$", done.stderr, re.MULTILINE))
    own = {name: count for name, count in loaded.items() if name.partition(".")[0] == "action_clip"}
    assert "action_clip.models.actionclip" in own
    # Later ones are also listed for a second thread, which waits while the first one imports them.
    assert own["action_clip"] == own["action_clip.command"] == 1
    assert not {name.partition(".")[0] for name in loaded} & MODULES


def test_importing_the_package_loads_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import action_clip; print(*(set(sys.modules) - before))"
    loaded = set(run("-c", code).stdout.split())
    assert {name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names} == {"action_clip"}


def test_the_names_of_the_package_are_those_of_its_modules() -> None:
    assert set(action_clip.__all__) == set(action_clip._MODULES)
    for name, module in action_clip._MODULES.items():
        assert getattr(action_clip, name) is vars(sys.modules[f"action_clip.{module}"])[name]
    assert set(action_clip.__all__) <= set(dir(action_clip))
    with pytest.raises(AttributeError, match="module 'action_clip' has no attribute 'nothing'"):
        action_clip.nothing  # noqa: B018


def clone_without_links(folder: Path) -> Path:
    """A copy of what is packaged, with text in place of links, as git writes it where it may make none."""
    for part in (*PARTS, "LICENSE", "README.md", "pyproject.toml", "hatch_build.py", "action_clip.py"):
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
    for link in (Path(".editable", "action_clip"), *(Path("action_clip", part) for part in PARTS - {"samples"})):
        (folder / link).parent.mkdir(exist_ok=True)
        (folder / link).write_text(f"../{link.name}", "utf-8")
    for name in OWN:
        shutil.copy(ROOT / "action_clip" / name, folder / "action_clip")
    return folder


def build(root: Path, folder: Path) -> zipfile.ZipFile:
    done = run("-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder), cwd=root)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.iterdir()
    return zipfile.ZipFile(wheel)


needs_hatchling = pytest.mark.skipif(find_spec("hatchling") is None, reason="hatchling is not installed")


@pytest.mark.slow
@needs_hatchling
@pytest.mark.parametrize("links", [True, False])
def test_a_wheel_is_the_package_and_nothing_else(tmp_path: Path, links: bool) -> None:
    clone = ROOT
    if not links:
        (clone := tmp_path / "clone").mkdir()
        clone_without_links(clone)
    with build(clone, tmp_path / "dist") as wheel:
        names = set(wheel.namelist())
        packaged = {name for name in names if name.startswith("action_clip/")}
        information = f"action_clip-{action_clip.__version__}.dist-info"
        assert all(name.startswith(f"{information}/") for name in names - packaged)
        expected = {f"action_clip/{name}" for name in OWN}
        for part in PARTS:
            files = [ROOT / part] if part.endswith(".py") else (ROOT / part).rglob("*.*")
            expected |= {f"action_clip/{file.relative_to(ROOT).as_posix()}" for file in files if file.is_file()}
        licences = ("models/nano/LICENSE", "output/report/uplot/LICENSE", "samples/COPYING")
        expected |= {f"action_clip/{file}" for file in licences}
        assert packaged == {name for name in expected if not name.endswith((".pyc", ".sh"))}
        assert wheel.read("action_clip/__init__.py") == (ROOT / "action_clip" / "__init__.py").read_bytes()
        metadata = Parser().parsestr(wheel.read(f"{information}/METADATA").decode())
        entry_points = wheel.read(f"{information}/entry_points.txt").decode()
    assert metadata["Name"] == "action-clip"
    assert metadata["Version"] == action_clip.__version__
    assert metadata["License-Expression"] == "MIT AND Apache-2.0 AND OFL-1.1 AND GPL-3.0-or-later"
    texts = {f"{information}/licenses/{file}" for file in metadata.get_all("License-File", [])}
    assert len(texts) == 6
    assert texts <= names
    assert entry_points == "[console_scripts]\naction-clip = action_clip.__main__:start\n"


def test_a_clone_without_links_works(tmp_path: Path) -> None:
    clone_without_links(tmp_path)
    done = run("action_clip.py", "--model", "nano", "--format", "csv", "--top-k", "1", cwd=tmp_path)
    assert done.stdout.startswith("video,rank,index,label,probability\n"), done.stderr
    assert "sample.gif,1," in done.stdout


@needs_hatchling
def test_an_editable_install_without_links_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "clone").mkdir()
    clone = clone_without_links(tmp_path / "clone")
    code = f"from hatchling.build import build_editable; build_editable({os.fspath(tmp_path)!r})"
    done = run("-c", code, cwd=clone)
    assert done.returncode == 1
    assert "an editable install needs symbolic links" in done.stderr
    assert not [*tmp_path.glob("*.whl")]
