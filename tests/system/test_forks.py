"""Children of a process that has classified: they make sessions and locks of their own, and end by themselves."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 180.0
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")

BEGINNING = """
import gc, os, sys, threading, time
import action_clip.models.cache.session_cache, action_clip.models.store.installation
from action_clip.system import interrupts
from action_clip import ActionClip
from action_clip.commands.samples import SAMPLE_VIDEO
from action_clip.models.known_videos import KnownVideos
from action_clip.system.forks import cached_property

KnownVideos.key = lambda self, video: None  # nothing is known of videos: every answer runs the graphs

def answer(model):
    return model.classify(SAMPLE_VIDEO, ["eating", "playing piano"]).probabilities.tolist()

def same(found, expected):
    return max(abs(a - b) for a, b in zip(found, expected)) < 1e-6
"""

POOLS = """
import concurrent.futures, multiprocessing

MODEL = None

def inherited(expected):
    global MODEL
    assert same(answer(MODEL), expected)
    MODEL = None
    gc.collect()

def given(model, expected):
    assert same(answer(model), expected)
    del model
    gc.collect()

if __name__ == "__main__":
    method, threads = sys.argv[1], int(sys.argv[2])
    model = MODEL = ActionClip("nano", threads=threads)
    expected = answer(model)
    context = multiprocessing.get_context(method)
    child = context.Process(
        target=inherited if method == "fork" else given, args=(expected,) if method == "fork" else (model, expected)
    )
    child.start()
    child.join()
    assert child.exitcode == 0, child.exitcode
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        assert all(same(found, expected) for found in pool.map(answer, [model] * 3))
    assert same(answer(model), expected)
    print("done")
"""

FORKED = """
def child(model, expected):
    CHILD

begun, go_on = threading.Event(), threading.Event()

def late(act):
    def wait_and_act(*given, **named):
        begun.set()
        go_on.wait()
        return act(*given, **named)

    return wait_and_act

class Slow:
    value = cached_property(late(lambda self: None))

    def __init__(self):
        self.value

model = ActionClip("nano", threads=4)
expected = answer(model)
thread = threading.Thread()
PARENT
thread.start()
if BUSY != "nothing":
    begun.wait()
pid = os.fork()
if pid == 0:
    child(model, expected)
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
go_on.set()
thread.join()
assert same(answer(model), expected)
print("done")
"""

# What another thread of the parent does when it forks: it holds a lock, imports, or is waited for when Python ends.
BUSY = {
    "nothing": "",
    "importing": """
class Waiting:
    def find_spec(self, name, *_):
        if name == "action_clip.models.label_encoder":
            begun.set()
            time.sleep(1)

sys.meta_path.insert(0, Waiting())
del sys.modules["action_clip.models.label_encoder"]
thread = threading.Thread(target=answer, args=(model,))
""",
    "finding graphs": """
model = ActionClip("nano", threads=4)
action_clip.models.store.installation.fetch = late(action_clip.models.store.installation.fetch)
thread = threading.Thread(target=answer, args=(model,))
""",
    "making a session": """
model = ActionClip("nano", threads=4)
action_clip.models.cache.session_cache.make_session = late(action_clip.models.cache.session_cache.make_session)
thread = threading.Thread(target=answer, args=(model,))
""",
    "computing": """
interrupts._PATIENCE_S = 1e6
thread = threading.Thread(target=lambda: interrupts.run_in_thread(late(lambda: None)).result())
""",
    "computing a property": """
thread = threading.Thread(target=Slow)
""",
}
CHILD = {
    "ends": "pass",
    "drops the model": "del model, globals()['model']; gc.collect()",
    "classifies": "go_on.set(); Slow(); model.labels(['eating']); assert same(answer(model), expected)",
}


def run(program: Path, *arguments: str) -> None:
    """Run a program that says that it is done, and end it with all of its children where it hangs."""
    # From Python 3.12 on, forking with other threads is warned of.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    command = [sys.executable, str(program), *arguments]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        pytest.fail("it hangs")
    assert (process.returncode, out, meant(err)) == (0, "done\n", "")


def meant(err: str) -> str:
    """Without the note that there are fewer cores than threads."""
    return "".join(line for line in err.splitlines(keepends=True) if "threads are asked for" not in line)


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "4"])
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_children_of_every_kind_classify_and_end(tmp_path: Path, method: str, threads: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(BEGINNING + POOLS)
    run(program, method, threads)


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize(
    ("busy", "child"), [("nothing", "ends"), ("nothing", "drops the model"), *((busy, "classifies") for busy in BUSY)]
)
def test_a_forked_child_ends_by_itself(tmp_path: Path, busy: str, child: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        BEGINNING + FORKED.replace("CHILD", CHILD[child]).replace("PARENT", BUSY[busy]).replace("BUSY", repr(busy))
    )
    run(program)
