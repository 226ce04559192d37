"""How many threads to use: one for each core that this process may use, which can be far fewer than there are."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

_ROOT = Path("/")
_GROUP = re.compile(r"^\d+:([^:]*):(.*)$", re.MULTILINE)
"""A cgroup: its controllers (none in version 2) and its path."""
_MOUNT = re.compile(r"^\S+ \S+ \S+ (\S+) (\S+) .*- (cgroup2?) \S+ (\S+)$", re.MULTILINE)
"""A mounted tree of cgroups: its root in the hierarchy, the mount point, the version, the options with controllers."""


def usable_cores(root: Path = _ROOT) -> int:
    """Return how many cores this process may use: the least of its affinity, its cgroups' quotas, PYTHON_CPU_COUNT.

    Affinity and quotas are known on Linux only; quotas are read once. PYTHON_CPU_COUNT counts from Python 3.13 on.

    Args:
        root: folder in which /proc and the mounted cgroups are looked for.
    """
    counts = [os.cpu_count() or 1, *_quotas(root)]
    if hasattr(os, "process_cpu_count"):
        counts.append(os.process_cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        counts.append(len(os.sched_getaffinity(0)))
    return min(counts)


def graph_threads(root: Path = _ROOT) -> int:
    """Return how many threads compute a product of matrices: one for each physical core that this process may use.

    Two hardware threads that share a core's units are no faster than one. Where the system does not say which of them
    do, the result is that of `usable_cores`.
    """
    usable = usable_cores(root)
    if not hasattr(os, "sched_getaffinity"):
        return usable
    return min(usable, len({_siblings(root, core) for core in os.sched_getaffinity(0)}))


def _siblings(root: Path, core: int) -> str:
    """Return the list of the hardware threads that share the core's units, the same text for each of them."""
    try:
        return (root / f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text("ascii").strip()
    except (OSError, ValueError):
        return str(core)


@cache
def _quotas(root: Path) -> tuple[int, ...]:
    """Return the quota, in cores and rounded up, of each cgroup of this process and each one above it that has one."""
    quotas = []
    for folder, mount, read in _cgroups(root):
        for group in (folder, *folder.parents):
            with suppress(OSError, ValueError):  # there is no quota, or it is the word max
                quota, period = map(int, read(group))
                if quota > 0 and period > 0:
                    quotas.append(-(-quota // period))
            if group == mount:
                break
    return tuple(quotas)


def _cgroups(root: Path) -> Iterator[tuple[Path, Path, Callable[[Path], Sequence[str]]]]:
    """Yield, for each cgroup of this process that may bound processor time, its folder, the mount point above it, and
    the function that reads its quota and period."""
    try:
        groups = _GROUP.findall(_read(root / "proc/self/cgroup"))
        mounts = _MOUNT.findall(_read(root / "proc/self/mountinfo"))
    except OSError:
        return
    paths = {
        "cgroup" if controllers else "cgroup2": path
        for controllers, path in groups
        if not controllers or "cpu" in controllers.split(",")
    }
    for part, point, kind, options in mounts:
        if kind in paths and (kind == "cgroup2" or "cpu" in options.split(",")):
            folder = root / _unescaped(point).lstrip("/")
            # In a container, only a part of the tree may be mounted, and the group may be outside of that part.
            within = os.path.relpath(paths[kind], _unescaped(part))
            inside = not within.startswith(os.pardir)
            yield (folder / within if inside else folder), folder, _version_2 if kind == "cgroup2" else _version_1


def _version_2(group: Path) -> Sequence[str]:
    return _read(group / "cpu.max").split()


def _version_1(group: Path) -> Sequence[str]:
    return [_read(group / f"cpu.cfs_{name}_us") for name in ("quota", "period")]


def _read(path: Path) -> str:
    return path.read_text("utf-8", "surrogateescape")


def _unescaped(field: str) -> str:
    """Return a path of mountinfo without its escapes: \\040 is a space."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), field)
