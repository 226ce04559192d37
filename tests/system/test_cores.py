"""As many threads as this process has cores for: its affinity, quotas of its cgroups, which cores are one."""

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from small_models import random_model, save_model
from stand_in import without_notice

import action_clip.export.command
import action_clip.video.source
from action_clip import ActionClip
from action_clip.system.cores import graph_threads, usable_cores

ROOT = Path(__file__).parents[2]
MANY = 64
ONE_CORE = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
FACTS = """
import os
from action_clip.system.cores import graph_threads, usable_cores
from pathlib import Path
print(usable_cores(), graph_threads())
"""
V1, V2 = "cgroup cgroup rw,cpu,cpuacct", "cgroup2 cgroup2 rw,nsdelegate"
on_linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes are not bound to cores there")
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may do this")


def tree(root: Path, groups: str, mounts: Mapping[str, str], files: Mapping[str, str]) -> Path:
    """A system: /proc/self/cgroup, what is mounted by "part of the tree, place", and files."""
    lines = [
        f"{number} 20 0:{number} {place} rw,nosuid - {source}" for number, (place, source) in enumerate(mounts.items())
    ]
    for name, text in {**files, "proc/self/cgroup": groups, "proc/self/mountinfo": "\n".join(lines)}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


@pytest.fixture
def _many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many that whatever bounds them shows."""
    for name in ("cpu_count", "process_cpu_count"):
        monkeypatch.setattr(os, name, lambda: MANY, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MANY)), raising=False)


@pytest.mark.usefixtures("_many_cores")
@pytest.mark.parametrize(
    ("groups", "mounts", "files", "cores"),
    [
        pytest.param("0::/", {"/ /sys/fs/cgroup": V2}, {"sys/fs/cgroup/cpu.max": "max 100000"}, MANY, id="no quota"),
        pytest.param("0::/", {"/ /sys/fs/cgroup": V2}, {"sys/fs/cgroup/cpu.max": "200000 100000"}, 2, id="two"),
        pytest.param("0::/", {"/ /sys/fs/cgroup": V2}, {"sys/fs/cgroup/cpu.max": "210000 100000"}, 3, id="rounded up"),
        pytest.param("0::/", {"/ /sys/fs/cgroup": V2}, {"sys/fs/cgroup/cpu.max": "1000 100000"}, 1, id="a hundredth"),
        pytest.param(
            "0::/a.slice/b/c",
            {"/ /sys/fs/cgroup": V2},
            {
                "sys/fs/cgroup/a.slice/b/c/cpu.max": "max 100000",
                "sys/fs/cgroup/a.slice/b/cpu.max": "500000 100000",
                "sys/fs/cgroup/a.slice/cpu.max": "600000 100000",
            },
            5,
            id="of a parent",
        ),
        pytest.param(
            "0::/other", {"/ /sys/fs/cgroup": V2}, {"sys/fs/cgroup/mine/cpu.max": "100000 100000"}, MANY, id="another's"
        ),
        pytest.param(
            "3:cpu,cpuacct:/mine\n2:cpuset:/else\n0::/",
            {"/ /sys/fs/cgroup/cpu": V1, "/ /sys/fs/cgroup/unified": V2},
            {
                "sys/fs/cgroup/cpu/mine/cpu.cfs_quota_us": "150000",
                "sys/fs/cgroup/cpu/mine/cpu.cfs_period_us": "50000",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            3,
            id="version 1",
        ),
        pytest.param(
            "4:cpu,cpuacct:/docker/1f2e",
            {"/docker/1f2e /sys/fs/cgroup/cpu": V1},
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            4,
            id="a part is mounted",
        ),
        pytest.param(
            "0::/../outside",
            {"/ /sys/fs/cgroup": V2},
            {"sys/fs/cgroup/cpu.max": "700000 100000"},
            7,
            id="outside of the namespace",
        ),
        pytest.param("0::/x y", {r"/ /a\040b": V2}, {"a b/x y/cpu.max": "800000 100000"}, 8, id="a name with a space"),
        pytest.param("0::/", {"/ /sys/fs/cgroup": V2}, {"sys/fs/cgroup/cpu.max": "nonsense"}, MANY, id="nonsense"),
        pytest.param("0::/", {"/ /sys/fs/cgroup": V2}, {"sys/fs/cgroup/cpu.max": "200000 0"}, MANY, id="no period"),
        pytest.param("0::/", {}, {}, MANY, id="nothing mounted"),
        pytest.param("", {}, {}, MANY, id="no cgroup"),
    ],
)
def test_quotas_bound_the_cores(
    tmp_path: Path, groups: str, mounts: Mapping[str, str], files: Mapping[str, str], cores: int
) -> None:
    assert usable_cores(tree(tmp_path, groups, mounts, files)) == cores


@pytest.mark.usefixtures("_many_cores")
def test_where_nothing_is_said_of_cgroups_there_is_no_quota(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == MANY


@on_linux
def test_cores_are_those_that_the_process_is_bound_to() -> None:
    assert facts_of(sys.executable, "-c", ONE_CORE + FACTS) == "1 1\n"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="from Python 3.13 on")
def test_cores_can_be_chosen_in_the_environment() -> None:
    assert facts_of(sys.executable, "-X", "cpu_count=1", "-c", FACTS) == "1 1\n"


@as_root
@on_linux
def test_a_quota_of_the_kernel_is_seen() -> None:
    with_quota = {
        Path("/sys/fs/cgroup/cpu"): {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "60000"},
        Path("/sys/fs/cgroup"): {"cpu.max": "60000 100000"},
    }
    for mount, files in with_quota.items():
        group = mount / f"action_clip-{uuid.uuid4().hex}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            for name, text in files.items():
                (group / name).write_text(text)
            enter = f"import os; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()));"
            assert facts_of(sys.executable, "-c", enter + FACTS) == "1 1\n"
            return
        except OSError:
            continue
        finally:
            group.rmdir()
    pytest.skip("no cgroup with a quota can be made here")


def facts_of(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.usefixtures("_many_cores")
def test_a_product_of_matrices_takes_one_thread_for_cores_that_share_their_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 5, 6, 7}, raising=False)
    for core, siblings in enumerate(["0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6"]):  # of the last it says nothing
        folder = tmp_path / f"sys/devices/system/cpu/cpu{core}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{siblings}\n")
    assert (usable_cores(tmp_path), graph_threads(tmp_path)) == (6, 4)


@pytest.mark.parametrize(("threads", "expected"), [(None, graph_threads()), (1, 1)])
def test_each_session_is_told_how_many_threads_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int | None, expected: int
) -> None:
    """Else it binds one to each core of the machine."""
    told = []
    make = onnxruntime.InferenceSession

    def watched(path: Path, options: Any, **named: Any) -> Any:
        told.append((bool(options.optimized_model_filepath), options.intra_op_num_threads))
        assert options.inter_op_num_threads == 1
        return make(path, options, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    model = ActionClip(save_model(random_model(1, 8, True), tmp_path, frames=8), threads=threads)
    model.classify(np.zeros((8, 40, 40, 3), np.uint8), ["eating", "drinking"])
    assert sorted(told) == [(False, expected)] * 3 + [(True, 1)] * 3


@pytest.mark.parametrize(("asked", "decoding"), [(0, 3), (2, 2), (99, 99)])
def test_as_many_threads_decode_as_there_are_cores(monkeypatch: pytest.MonkeyPatch, asked: int, decoding: int) -> None:
    monkeypatch.setattr(action_clip.video.source, "usable_cores", lambda: 3)
    with (
        action_clip.video.source.locate(ROOT / "samples" / "sample.gif") as source,
        action_clip.video.source.opened(source, asked) as opened,
    ):
        assert opened.stream.codec_context.thread_count == decoding


def test_exporting_takes_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    monkeypatch.setattr(action_clip.export.command, "usable_cores", lambda: 1)
    try:
        torch.set_num_threads(2)
        assert action_clip.export.command.main(["missing.pt", "--out", "folder"]) == 1
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)


def larger_machine(folder: Path, cores: int) -> list[str]:
    """What runs a command as in a container on a machine of so many cores, of which it may use those of this one."""
    with open("/proc/cpuinfo") as file:
        first = file.read().partition("\n\n")[0]
    alike = re.sub(r"^(cpu cores|siblings)(\s*: ).*$", rf"\g<1>\g<2>{cores}", first, flags=re.MULTILINE)
    numbered = r"^(processor|core id|apicid|initial apicid)(\s*: ).*$"
    blocks = [re.sub(numbered, rf"\g<1>\g<2>{core}", alike, flags=re.MULTILINE) for core in range(cores)]
    (folder / "cpuinfo").write_text("\n\n".join([*blocks, ""]))
    (folder / "cores").write_text(f"0-{cores - 1}\n")
    mounts = [f"mount --bind {folder}/cpuinfo /proc/cpuinfo"]
    mounts += [
        f"mount --bind {folder}/cores /sys/devices/system/cpu/{name}" for name in ("online", "possible", "present")
    ]
    return ["unshare", "-m", "sh", "-c", " && ".join([*mounts, 'exec "$0" "$@"'])]


@pytest.mark.slow
@as_root
@on_linux
@pytest.mark.parametrize("more", [(), ("--save", "sheet.png"), ("--threads", "1")], ids=["", "sheet", "threads"])
def test_a_container_that_sees_more_cores_than_it_may_use_uses_those(tmp_path: Path, more: tuple[str, ...]) -> None:
    container = larger_machine(tmp_path, 32 + (os.cpu_count() or 1))
    try:
        seen = subprocess.run(
            [*container, sys.executable, "-c", "import os; print(os.cpu_count())"],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if seen.returncode or int(seen.stdout) != 32 + (os.cpu_count() or 1):
        pytest.skip("nothing can be mounted here")
    command = [*container, sys.executable, str(ROOT / "action_clip.py"), "--model", "nano", *more]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, without_notice(done.stderr)) == (0, "")
    assert "playing piano" in done.stdout
