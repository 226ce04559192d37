"""Nothing connects anywhere, and nothing is written where the user did not ask for it: told by the system calls."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CALLS = "open,openat,creat,mkdir,mkdirat,mknod,mknodat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat"
CALLS += ",symlink,symlinkat,truncate,chmod,fchmodat,utimensat,%network"
STRACE = shutil.which("strace")
PATIENCE_S = 300.0
# Where onnxruntime's telemetry is on, it looks its host up within five seconds of the first session, and then again.
SESSION = """
import sys, time
import numpy as np
from action_clip import ActionClip, load
recogniser = ActionClip("nano", cache=sys.argv[1] == "cache")
for labels in (["eating", "playing piano"], ["läuft"]):
    recogniser.classify("samples/sample.gif", labels)
load("nano", cache=sys.argv[1] == "cache").classify(np.zeros((8, 48, 64, 3), np.uint8), ["eating"])
time.sleep(15)
recogniser.classify("samples/sample.gif", ["drinking"])
"""

pytestmark = pytest.mark.skipif(STRACE is None, reason="no strace here")


def environment(tmp_path: Path) -> dict[str, str]:
    """Nothing is known of us but a home that is empty."""
    for name in ("home", "kept", "temporary"):
        (tmp_path / name).mkdir()
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "temporary"),
        "ACTION_CLIP_HOME": str(tmp_path / "kept"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def traced(tmp_path: Path, *arguments: str) -> tuple[list[str], set[Path]]:
    """Run Python: the calls that reach for a network, and the paths that were made, changed or removed."""
    log = tmp_path / "strace.log"
    command = [
        str(STRACE),
        "-f",
        "-qq",
        "-s",
        "4096",
        "-e",
        f"trace={CALLS}",
        "-o",
        str(log),
        sys.executable,
        *arguments,
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=PATIENCE_S
    )
    if "PTRACE" in done.stderr:
        pytest.skip("strace may not trace here")
    assert (done.returncode, done.stderr) == (0, "")
    network, changed = [], set()
    for line in log.read_text(errors="replace").splitlines():
        call = re.search(r"^\d+ +(\w+)\((.*)", line)
        if call is None or re.search(r"\) += -1 E", line):
            continue
        name, rest = call.groups()
        if not name.startswith(("open", "creat", "mk", "ren", "unl", "rm", "link", "sym", "tru", "chm", "fch", "uti")):
            network.append(line)
        elif not name.startswith("open") or re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", rest):
            changed |= {ROOT / path for path in re.findall(r'"((?:[^"\\]|\\.)+)"', rest)}
    return network, {path for path in changed if not path.is_relative_to("/dev") and not path.is_relative_to("/proc")}


@pytest.mark.slow
@pytest.mark.parametrize("cache", [True, False])
def test_the_command_writes_what_it_is_asked_for_and_connects_to_nobody(tmp_path: Path, cache: bool) -> None:
    outputs = {tmp_path / "answer.json", tmp_path / "sheet.png"}
    arguments = ["--output", str(tmp_path / "answer.json"), "--save", str(tmp_path / "sheet.png"), "--format", "json"]
    network, changed = traced(
        tmp_path, "action_clip.py", "--quiet", "--model", "nano", *arguments, *([] if cache else ["--no-cache"])
    )
    assert network == []
    drafts = {path for path in changed if re.fullmatch(r"\.[0-9a-f]{32}\.tmp", path.name) and path.parent == tmp_path}
    kept = {path for path in changed if path.is_relative_to(tmp_path / "kept")}
    assert changed - kept - drafts == outputs
    assert bool(kept) == cache
    assert set(os.listdir(tmp_path)) == {"answer.json", "sheet.png", "home", "kept", "temporary", "strace.log"}
    assert [*(tmp_path / "home").iterdir(), *(tmp_path / "temporary").iterdir()] == []


@pytest.mark.slow
def test_a_session_that_lasts_connects_to_nobody(tmp_path: Path) -> None:
    folders = {cache: tmp_path / cache for cache in ("cache", "none")}
    for folder in folders.values():
        folder.mkdir()
    with ThreadPoolExecutor() as pool:  # most of the time is waiting
        sessions = pool.map(lambda cache: traced(folders[cache], "-c", SESSION, cache), folders)
    for (cache, folder), (network, changed) in zip(folders.items(), sessions, strict=True):
        assert network == []
        assert all(path.is_relative_to(folder / "kept") for path in changed)
        assert bool(changed) == (cache == "cache")
        assert list((folder / "home").iterdir()) == []


def test_the_users_own_choice_of_telemetry_stands() -> None:
    code = "import os, action_clip.models; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    for chosen, expected in (({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")):
        own = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | chosen
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=own, capture_output=True, text=True)
        assert done.stdout == f"{expected}\n"
