"""Turns, whole processes, and that what the cases name exists; no time is looked at."""

import inspect
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from benchmarks import cases, video
from benchmarks.contestants import (
    ALONE,
    FILM_ALONE,
    PEERS,
    PREPROCESS,
    SCORE_AVERAGED,
    SCRIPTS,
    STAGES,
    VIDEO_LENGTHS_S,
    Contestant,
    find,
)
from benchmarks.inputs import ABSENT, ROOT, Inputs
from benchmarks.measure import Command, Raw, processes, turns, workers
from benchmarks.work import UNIFORM, flops, products

pytestmark = pytest.mark.slow


def python(code: str, home: Path, *, is_exact: bool = True, forget: tuple[Path, ...] = ()) -> Command:
    return Command([sys.executable, "-c", code], home, forget, is_exact)


def answering(*probabilities: float) -> str:
    """Return code that answers for the videos 0.mp4, 1.mp4, …"""
    lines = []
    for number, probability in enumerate(probabilities):
        predictions = [{"label": "eating", "probability": probability}]
        content = {"video": f"{number}.mp4", "predictions": predictions, "timings_s": {"image": 0.5}}
        lines.append(json.dumps(content))
    return f"print('a warning', *{lines!r}, sep='\\n')"


def test_turns() -> None:
    assert "".join(turns("abc", 4)) == "abc" + "bca" + "cab" + "abc"
    assert list(turns("", 4)) == []


def test_processes_run_in_turns(tmp_path: Path) -> None:
    log = tmp_path / "log"
    write = f"import os; open({str(log)!r}, 'a').write(%r + os.environ['ACTION_CLIP_HOME'][-1])"
    raw = processes({name: python(write % name, tmp_path / name) for name in "ab"}, 3)
    assert log.read_text() == "aabb" + "bbaa" + "aabb"
    assert {name: len(samples) for name, samples in raw.samples.items()} == {"a": 3, "b": 3}
    assert all(sample.peak_mb and sample.peak_mb > 1 for samples in raw.samples.values() for sample in samples)


def test_what_is_to_be_forgotten_is(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "bank").touch()
    code = f"import os; assert not os.path.exists({str(tmp_path / 'home')!r})"
    processes({"a": python(code, tmp_path / "home", forget=(tmp_path / "home", tmp_path / "home" / "bank"))}, 1)


def test_answers_are_compared(tmp_path: Path) -> None:
    commands = {"a": python(answering(0.5), tmp_path), "b": python(answering(0.501), tmp_path)}
    raw = processes(commands, 1)
    assert raw.answers == {"a": "Δp ≤ 0", "b": "Δp ≤ 0.001"}
    assert raw.samples["b"][0].stages == {"image": 0.5}
    with pytest.raises(RuntimeError, match="c answers"):
        processes({**commands, "c": python(answering(0.6), tmp_path)}, 1)
    assert processes({**commands, "c": python(answering(0.6), tmp_path, is_exact=False)}, 1).answers["c"] == "Δp ≤ 0.1"


def test_answers_for_each_video_are_compared(tmp_path: Path) -> None:
    commands = {"a": python(answering(0.5, 0.7), tmp_path), "b": python(answering(0.501, 0.7, 0.1), tmp_path)}
    raw = processes(commands, 1)
    assert raw.answers == {"a": "Δp ≤ 0", "b": "Δp ≤ 0.001"}
    assert raw.samples["a"][0].stages == {}  # of two videos at once
    with pytest.raises(RuntimeError, match=r"c answers \{'eating': 0\.6\} for 1\.mp4, a \{'eating': 0\.7\}"):
        processes({**commands, "c": python(answering(0.5, 0.6), tmp_path)}, 1)
    with pytest.raises(RuntimeError, match=r"c answers None for 1\.mp4"):
        processes({**commands, "c": python(answering(0.5), tmp_path)}, 1)


def test_a_process_that_measures_itself(tmp_path: Path) -> None:
    code = "print('{\"seconds\": 1234.5}')"
    assert processes({"a": python(code, tmp_path)}, 1).samples["a"][0].seconds == 1234.5


def test_a_process_that_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        processes({"a": python("1 / 0", tmp_path)}, 1)


def test_a_peer_that_is_not_installed(tmp_path: Path) -> None:
    code = f"import sys; print('No module named x', file=sys.stderr); sys.exit({ABSENT})"
    raw = processes({"a": python("pass", tmp_path), "b": python(code, tmp_path)}, 2)
    assert raw.absent == {"b": "No module named x"}
    assert set(raw.samples) == {"a"}


def test_workers(tmp_path: Path) -> None:
    names = (PREPROCESS, SCORE_AVERAGED)
    contestants = [find(STAGES["small"], name) for name in names]
    raw = workers("small", contestants, tmp_path, 2)
    assert {name: len(samples) for name, samples in raw.samples.items()} == dict.fromkeys(names, 2)
    assert not raw.answers
    with pytest.raises(RuntimeError, match=f"{SCORE_AVERAGED} answers otherwise than {PREPROCESS}"):
        workers("small", [replace(contestant, is_exact=True) for contestant in contestants], tmp_path, 1)
    with pytest.raises(RuntimeError, match="ended with 1"):
        workers("small", [Contestant("nothing", "work:nothing")], tmp_path, 1)


@pytest.mark.parametrize(
    "contestant", [*PEERS, *ALONE, *FILM_ALONE, *chain(*STAGES.values())], ids=lambda contestant: contestant.name
)
def test_every_contestant_can_be_called_with_its_arguments(contestant: Contestant) -> None:
    first = (Inputs(Path()), None) if contestant in PEERS else (Inputs(Path()),)
    inspect.signature(contestant.load()).bind(*first, *contestant.arguments)
    if contestant.make == "work:read_video":
        length, reader = contestant.arguments
        assert length in VIDEO_LENGTHS_S
        inspect.signature(getattr(video, reader)).bind(Path(), UNIFORM, 1)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_has_a_reader_and_a_peer(name: str) -> None:
    reader, peer = SCRIPTS[name]
    inspect.signature(getattr(video, reader)).bind(Path(), UNIFORM, 1)
    find(PEERS, peer)


def test_the_runner_stays_small() -> None:
    code = "import sys, benchmarks.__main__; assert not {'numpy', 'onnxruntime', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_every_stage_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = set()

    def known(stage: str, contestants: Sequence[Contestant], work: Path, rounds: int) -> Raw:
        assert contestants == STAGES[stage]
        stages.add(stage)
        return Raw()

    monkeypatch.setattr(cases, "workers", known)
    for key, case in cases.CASES.items():
        if key in ("clip", "text", "small", "gpu") or key.startswith("video"):
            case.measure(Inputs(tmp_path), 1)
    assert stages == set(STAGES)


def test_flops(tmp_path: Path) -> None:
    weights = {"patches": (768, 3, 32, 32), "matrix": (768, 512)}
    image = """image (float[N, 3, 224, 224] frames) => (float[N, 49, 49] products) {
        shape = Constant<value_ints=[0, 768, 49]>()
        patched = Conv<strides=[32, 32]>(frames, patches)
        rows = Reshape(patched, shape)
        columns = Transpose<perm=[0, 2, 1]>(rows)
        embedded = MatMul(columns, matrix)
        turned = Transpose<perm=[0, 2, 1]>(embedded)
        products = MatMul(embedded, turned)
    }"""
    for role, body in (
        ("image", image),
        ("fusion", "fusion (float[B, T, 512] frames) => (float[B, T, 512] x) { x = Identity(frames) }"),
    ):
        graph = parser.parse_graph(body)
        used = {name for node in graph.node for name in node.input}
        zeros = {name: np.zeros(shape, np.float32) for name, shape in weights.items() if name in used}
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in zeros.items())
        (tmp_path / "fp32").mkdir(exist_ok=True)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
        onnx.save(model, tmp_path / "fp32" / f"{role}.onnx")
    shapes = [(1, 8 * 49, 3 * 32 * 32, 768), (1, 8 * 49, 768, 512), (8, 49, 512, 49)]
    assert products(Inputs(tmp_path)) == shapes
    assert flops(Inputs(tmp_path)) == sum(2 * a * b * c * d for a, b, c, d in shapes)
