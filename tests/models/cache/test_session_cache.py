"""The session cache: entries are used the next time and give the same outputs; damage to them costs time only."""

import errno
import itertools
import logging
import multiprocessing
import os
import shutil
import subprocess
import time
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from small_models import WIDTH, SmallModel, random_closed_model, random_model, save_closed_model, save_model

import action_clip.models.cache.session_cache
from action_clip import ActionClip, ActionClipError, TimeSformer
from action_clip.models.runtime.graph import Graph
from action_clip.models.store.home import home
from action_clip.tokenizer.bpe import default_tokenizer

MARK = "kept-by-action_clip.txt"
ROWS = default_tokenizer().encode(["eating", "riding a bicycle"])


def wide_model(seed: int) -> SmallModel:
    """Its text graph has a matrix that is large enough to be kept in a file of its own."""
    text_out = np.random.default_rng(seed).normal(size=(WIDTH, 20_000)).astype(np.float32)
    return replace(random_model(seed, 8, True), text_out=text_out)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    return save_model(wide_model(1), tmp_path / "model", frames=8) / "text.onnx"


@pytest.fixture
def kept() -> Path:
    """The folder that everything is kept in."""
    return home() / "optimised"


def run(path: Path, rows: NDArray[Any] = ROWS) -> NDArray[np.float32]:
    return Graph(path, keep=True)(rows)


def plain(path: Path, rows: NDArray[Any] = ROWS) -> NDArray[np.float32]:
    return Graph(path)(rows)


def folders(kept: Path) -> list[Path]:
    """What is kept, each whole."""
    found = sorted(kept.iterdir()) if kept.exists() else []
    for folder in found:
        assert sorted(file.name for file in folder.iterdir()) == ["graph.onnx", MARK, "seal.txt", "weights.bin"]
    return found


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("role", "shape"),
    [("text", (2, 77)), ("image", (8, 3, 32, 32)), ("fusion", (1, 8, 16)), ("video", (1, 8, 3, 32, 32))],
)
def test_an_entry_is_used_the_next_time(
    tmp_path: Path, kept: Path, opened: list[Path], role: str, shape: tuple[int, ...]
) -> None:
    if role == "video":
        save_closed_model(random_closed_model(2, 8), tmp_path)
    else:
        save_model(random_model(2, 8, True), tmp_path, frames=8)
    path = tmp_path / f"{role}.onnx"
    rows = ROWS if role == "text" else np.random.default_rng(3).normal(size=shape).astype(np.float32)

    expected = plain(path, rows)
    first = run(path, rows)
    assert opened == [path, path, *(folder / "graph.onnx" for folder in kept.iterdir())]
    opened.clear()
    later = run(path, rows)

    assert opened == [folder / "graph.onnx" for folder in kept.iterdir()]
    assert len(opened) == 1
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(later, expected)


def test_a_graph_is_found_again_under_another_path(tmp_path: Path, graph: Path, kept: Path, opened: list[Path]) -> None:
    features = run(graph)
    elsewhere = Path(shutil.copy(graph, tmp_path / "the same.onnx"))
    opened.clear()
    np.testing.assert_array_equal(run(elsewhere), features)
    assert opened == [folders(kept)[0] / "graph.onnx"]


def test_graphs_of_another_content_have_entries_of_their_own(tmp_path: Path, graph: Path, kept: Path) -> None:
    other = save_model(wide_model(2), tmp_path / "other", frames=8) / "text.onnx"
    for _ in range(2):
        np.testing.assert_allclose(run(graph), plain(graph), rtol=0, atol=1e-6)
        np.testing.assert_allclose(run(other), plain(other), rtol=0, atol=1e-6)
        assert len(folders(kept)) == 2
    # Under the same name, too.
    shutil.copy(other, graph)
    np.testing.assert_array_equal(run(graph), run(other))
    assert np.abs(run(graph) - plain(other)).max() < 1e-6


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_is_mapped_into_memory_is_aligned(tmp_path: Path, kept: Path, precision: str) -> None:
    """Processors read aligned weights fastest, and some of onnxruntime's int8 products crash on others."""
    path = products([1024, 1024, 1024, 24, 129, 300, 7, 3, 40_000, 40, 100], tmp_path / "products.onnx")
    if precision == "int8":
        quantize_dynamic(path, path, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8)
    rows = np.random.default_rng(1).normal(size=(5, 1024)).astype(np.float32)

    expected = plain(path, rows)
    run(path, rows)
    [folder] = folders(kept)
    offsets = {
        tensor.name: mapped(tensor)
        for tensor in onnx.load(folder / "graph.onnx", load_external_data=False).graph.initializer
    }
    assert max(map(len, offsets.values())) == 1
    assert {name: found for name, found in offsets.items() if any(offset % 4096 for offset in found)} == {}
    np.testing.assert_array_equal(run(path, rows), expected)


BLOCK = """
    n = LayerNormalization<axis=-1>(x, scale, scale)
    q = MatMul(n, wide)
    t = Transpose<perm=[0, 2, 1]>(n)
    a = MatMul(q, t)
    p = Softmax<axis=-1>(a)
    v = MatMul(n, wide)
    m = MatMul(p, v)
    o = MatMul(m, square)
    r = Add(x, o)
    h = MatMul(r, up)
    b = Add(h, bias)
    c = Mul(b, alpha)
    s = Sigmoid(c)
    g = Mul(b, s)
    d = MatMul(g, down)
    e = Add(r, d)
    y = Gather<axis=1>(e, zero)
"""


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_outputs_are_bit_for_bit_those_without_the_cache(tmp_path: Path, kept: Path, precision: str) -> None:
    """Of a block of a transformer, in which onnxruntime fuses operators and packs weights."""
    rng, width = np.random.default_rng(3), 768
    shapes: dict[str, tuple[int, ...]] = {
        "wide": (width, width), "square": (width, width), "up": (width, 4 * width), "down": (4 * width, width),
        "bias": (4 * width,), "scale": (width,),
    }  # fmt: skip
    weights: dict[str, NDArray[Any]] = {
        name: (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32) for name, shape in shapes.items()
    }
    weights |= {"alpha": np.array(1.702, np.float32), "zero": np.array(0)}
    graph = onnx.parser.parse_graph(f"block (float[N, 5, {width}] x) => (float[N, {width}] y) {{ {BLOCK} }}")
    graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in weights.items())
    path = tmp_path / "block.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), path)
    if precision == "int8":
        quantize_dynamic(path, path, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8)
    rows = rng.normal(size=(3, 5, width)).astype(np.float32)
    expected = plain(path, rows)
    for _ in range(2):
        np.testing.assert_array_equal(run(path, rows), expected)
    [folder] = folders(kept)
    kinds = {node.op_type for node in onnx.load(folder / "graph.onnx", load_external_data=False).graph.node}
    assert ("DynamicQuantizeMatMul" in kinds) == (precision == "int8")
    assert "QuickGelu" in kinds


def products(widths: list[int], path: Path) -> Path:
    """A graph that multiplies its rows by random matrices, from each width to the next."""
    rng = np.random.default_rng(0)
    sizes = list(itertools.pairwise(widths))
    steps = "\n".join(f"x{i + 1} = MatMul(x{i}, w{i})" for i in range(len(sizes)))
    graph = onnx.parser.parse_graph(
        f"products (float[N, {widths[0]}] x0) => (float[N, {widths[-1]}] x{len(sizes)}) {{ {steps} }}"
    )
    weights = [(rng.normal(size=size) / np.sqrt(size[0])).astype(np.float32) for size in sizes]
    graph.initializer.extend(onnx.numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights))
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def mapped(tensor: onnx.TensorProto) -> list[int]:
    """Where in the other file a weight begins, and what onnxruntime packs of it: "key|offset;length;checksum|…"."""
    facts = {entry.key: entry.value for entry in tensor.external_data}
    blobs = [blob for key in sorted(facts) if key.startswith("prepacked") for blob in facts[key].split("|")[1:]]
    return [int(offset) for offset in (facts.get("offset"), *(blob.partition(";")[0] for blob in blobs)) if offset]


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("when", ["the graph is written", "it is brought to the disk", "it gets its name"])
def test_a_full_disk_costs_a_warning_and_leaves_nothing(
    graph: Path, kept: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    expected = plain(graph)
    make = onnxruntime.InferenceSession

    def full_midway(path: Path, options: Any, **named: Any) -> Any:
        session = make(path, options, **named)
        if options.optimized_model_filepath:
            full()
        return session

    with monkeypatch.context() as disk:
        if when == "the graph is written":
            disk.setattr(onnxruntime, "InferenceSession", full_midway)
        elif when == "it is brought to the disk":
            disk.setattr(os, "fsync", full)
        else:
            disk.setattr(Path, "replace", full)
        np.testing.assert_array_equal(run(graph), expected)
    assert list(kept.iterdir()) == []
    [warning] = warnings(caplog)
    assert str(graph) in warning
    assert "No space left on device" in warning

    np.testing.assert_allclose(run(graph), expected, rtol=0, atol=1e-6)
    assert len(folders(kept)) == 1
    assert len(caplog.records) == 1


@pytest.mark.skipif(os.name == "nt", reason="no small file system to mount")
def test_a_full_disk_is_reported_once(
    tmp_path: Path, graph: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        monkeypatch.setenv("ACTION_CLIP_HOME", str(small))
        other = save_model(wide_model(2), tmp_path / "other", frames=8) / "text.onnx"
        for path in (graph, other, graph):
            np.testing.assert_array_equal(run(path), plain(path))
        assert os.listdir(small / "optimised") == []
    finally:
        subprocess.run(["umount", small], check=True)
    assert warnings(caplog) == [
        f"{graph} cannot be kept ready for this machine, so runs start slower: [Errno 28] No space left on device"
    ]


@pytest.mark.parametrize("place", ["file", "file/below", "with a file in the way"])
def test_a_home_that_cannot_be_made_costs_only_time(
    tmp_path: Path, graph: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "with a file in the way").mkdir()
    (tmp_path / "with a file in the way" / "optimised").write_text("not a folder")
    monkeypatch.setenv("ACTION_CLIP_HOME", str(tmp_path / place))
    for _ in range(2):
        np.testing.assert_array_equal(run(graph), plain(graph))
    assert warnings(caplog) == []
    assert (tmp_path / "file").read_text() == "not a folder"


def test_entries_unused_for_months_are_removed(graph: Path, tmp_path: Path, kept: Path) -> None:
    others = [save_model(wide_model(seed), tmp_path / str(seed), frames=8) / "text.onnx" for seed in (2, 3)]
    made: dict[Path, Path] = {}
    for path in others:
        run(path)
        [made[path]] = set(folders(kept)) - set(made.values())
    for folder in made.values():
        os.utime(folder, (0, 0))
    unused, used = others
    run(used)
    run(graph)
    assert made[unused] not in folders(kept)
    assert made[used] in folders(kept)
    assert len(folders(kept)) == 2


def test_entries_of_older_layouts_are_removed_after_months(graph: Path, kept: Path) -> None:
    run(graph)
    [made] = folders(kept)
    stem, _, layout = made.name.rpartition("-")
    older = [kept / f"{stem}-{number}" for number in range(3, int(layout))]
    for folder in older:
        shutil.copytree(made, folder)
        (folder / "seal.txt").unlink()  # which they had not
    os.utime(older[0], (0, 0))
    shutil.rmtree(made)
    run(graph)
    assert sorted(kept.iterdir()) == sorted([*older[1:], made])


def test_a_graph_that_is_replaced_while_its_entry_is_written_gets_none(
    graph: Path, kept: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_optimised = action_clip.models.cache.session_cache.write_optimised
    other = save_model(wide_model(2), graph.parent.with_name("other"), frames=8) / "text.onnx"
    expected = plain(other)

    def replaced(path: Path, folder: Path) -> Path:
        shutil.copy2(other, path)
        return write_optimised(path, folder)

    with monkeypatch.context() as patch:
        patch.setattr(action_clip.models.cache.session_cache, "write_optimised", replaced)
        np.testing.assert_array_equal(run(graph), expected)
    assert list(kept.iterdir()) == []
    assert warnings(caplog) == [
        f"{graph} cannot be kept ready for this machine, so runs start slower: it was replaced meanwhile"
    ]


def test_a_programming_error_is_not_reported_as_one_of_the_disk(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_: object) -> None:
        raise TypeError("a fault")

    monkeypatch.setattr(action_clip.models.cache.session_cache, "write_optimised", faulty)
    with pytest.raises(TypeError, match="a fault"):
        run(graph)


def test_another_onnxruntime_has_entries_of_its_own(
    graph: Path, kept: Path, opened: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(onnxruntime, "__version__", "0.9.1")
        run(graph)
    [old] = folders(kept)
    opened.clear()
    run(graph)
    [own] = set(folders(kept)) - {old}
    assert opened == [graph, own / "graph.onnx"]


def test_entries_of_another_processor_are_neither_used_nor_removed(
    graph: Path, kept: Path, opened: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as other:
        other.setattr(action_clip.models.cache.session_cache, "_processor", lambda: "another")
        run(graph)
    [others] = folders(kept)
    opened.clear()
    run(graph)
    [own] = set(folders(kept)) - {others}
    assert others.exists()
    assert opened == [graph, own / "graph.onnx"]


def _run_at_once(path: Path, answer: Path, ready: Barrier) -> None:
    graph = Graph(path, keep=True)
    ready.wait(60)
    np.save(answer, graph(ROWS))


@pytest.mark.slow
def test_two_processes_at_once(tmp_path: Path, graph: Path, kept: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(2)
    answers = [tmp_path / "first.npy", tmp_path / "second.npy"]
    processes = [context.Process(target=_run_at_once, args=(graph, answer, ready)) for answer in answers]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    for answer in answers:
        np.testing.assert_allclose(np.load(answer), plain(graph), rtol=0, atol=1e-6)
    assert len(folders(kept)) == 1


def test_an_entry_that_another_run_writes_first_is_used(
    graph: Path, kept: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_the_disk = os.fsync
    faster: list[NDArray[np.float32]] = []
    runs: list[int] = []

    def overtaken(number: int) -> None:
        runs.append(number)
        if len(runs) == 1:
            faster.append(run(graph))
        to_the_disk(number)

    monkeypatch.setattr(os, "fsync", overtaken)
    slower = run(graph)
    np.testing.assert_array_equal(slower, faster[0])
    assert len(folders(kept)) == 1
    assert warnings(caplog) == []


def test_a_graph_that_cannot_be_loaded_is_named_and_gets_no_entry(
    graph: Path, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    graph.write_bytes(graph.read_bytes().replace(b"ArgMax", b"ArgMix"))
    with pytest.raises(ActionClipError) as caught:
        run(graph)
    assert str(caught.value).startswith(f"the graph {graph} cannot be loaded on 'cpu' (")
    assert "ArgMix" in str(caught.value)
    assert str(kept) not in str(caught.value)
    assert list(kept.iterdir()) == []
    assert warnings(caplog) == []


def test_nothing_is_written_without_the_cache(tmp_path: Path, opened: list[Path]) -> None:
    frames = np.zeros((8, 40, 40, 3), np.uint8)
    save_model(random_model(3, 8, True), tmp_path / "free", frames=8)
    save_closed_model(random_closed_model(3, 8), tmp_path / "closed")
    ActionClip(tmp_path / "free", cache=False).classify(frames, ["eating"])
    TimeSformer(tmp_path / "closed", cache=False).classify(frames + 100)
    assert sorted(opened) == sorted([*(tmp_path / "free").glob("*"), *(tmp_path / "closed").glob("*")])
    assert list(home().iterdir()) == []


@pytest.mark.filterwarnings("ignore:Specified provider 'CUDA")
def test_nothing_is_written_for_another_device(
    graph: Path, opened: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    # Its libraries are missing here.
    with pytest.raises(ActionClipError, match="the device 'cuda' could not be started"):
        Graph(graph, device="cuda", keep=True).start()
    assert graph not in opened  # only a tiny graph was tried
    assert list(home().iterdir()) == []


def test_a_graph_with_weights_in_another_file_gets_no_entry(tmp_path: Path, kept: Path) -> None:
    for seed in (1, 2):
        path = save_model(random_model(seed, 8, False), tmp_path, frames=8) / "text.onnx"
        (tmp_path / "text.data").unlink(missing_ok=True)
        onnx.save(onnx.load(path), path, save_as_external_data=True, location="text.data", size_threshold=100)
        np.testing.assert_array_equal(Graph(path, keep=True)(ROWS), Graph(path)(ROWS))
    assert not os.listdir(kept)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes by name")
@pytest.mark.parametrize("name", ["graph.onnx", "weights.bin"])
def test_a_pipe_in_the_place_of_an_entrys_file_is_not_opened(graph: Path, name: str) -> None:
    there = action_clip.models.cache.session_cache.cached_graph(graph)
    assert there is not None
    there.with_name(name).unlink()
    os.mkfifo(there.with_name(name))
    Graph(graph, keep=True).start()
    assert there.with_name(name).is_file()


def test_drafts_of_killed_runs_are_removed_after_an_hour(graph: Path, kept: Path) -> None:
    run(graph)
    [made] = folders(kept)
    old, new = kept / f"{0:032x}.part", kept / f"{1:032x}.part"
    for draft in (old, new):
        draft.mkdir()
        shutil.copy(made / MARK, draft)
        (draft / "weights.bin").write_bytes(b"half of the")
    os.utime(old, (0, time.time() - 3700))
    shutil.rmtree(made)
    run(graph)
    assert sorted(kept.iterdir()) == sorted([made, new])


def tree(folder: Path) -> dict[str, bytes | None]:
    """What is in a folder, at any depth."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_folders_of_other_origin_are_never_removed(graph: Path, tmp_path: Path, kept: Path) -> None:
    run(graph)
    [made] = folders(kept)
    name = made.name
    (kept / "my experiments").mkdir()
    (kept / "my experiments" / "graph.onnx").write_bytes(b"of the user")
    (kept / "notes.part").mkdir()
    (kept / "notes.part" / "notes.txt").write_bytes(b"of the user")
    # With such a name, but without the mark, or with another one.
    for folder in (kept / name.replace(name[0], "f" if name[0] != "f" else "e", 1), kept / f"{2:032x}.part"):
        folder.mkdir()
        (folder / "graph.onnx").write_bytes(b"of the user")
    (kept / f"{3:032x}.part").mkdir()
    (kept / f"{3:032x}.part" / MARK).write_bytes(b"of the user")
    (kept / f"{4:032x}.part").write_bytes(b"of the user")
    # With the mark, but another name.
    shutil.copytree(made, kept / "a copy")
    # Somewhere else, where a link leads.
    shutil.copytree(made, tmp_path / "elsewhere")
    os.utime(tmp_path / "elsewhere", (0, 0))
    (kept / f"{5:032x}.part").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    for path in kept.iterdir():
        os.utime(path, (0, 0))
    before = tree(kept), tree(tmp_path / "elsewhere")

    shutil.rmtree(made)
    run(graph)
    assert (tree(kept), tree(tmp_path / "elsewhere")) == before
    assert (kept / f"{5:032x}.part").is_symlink()


@pytest.mark.parametrize("why", ["unused", "damaged"])
def test_files_that_a_user_puts_into_an_entry_stay(
    graph: Path, tmp_path: Path, kept: Path, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    expected = run(graph)
    [made] = folders(kept)
    (made / "mine.txt").write_bytes(b"of the user")
    (made / "below").mkdir()
    (made / "below" / "weights.bin").write_bytes(b"of the user")
    mine: dict[str, bytes | None] = {
        "mine.txt": b"of the user",
        "below": None,
        str(Path("below", "weights.bin")): b"of the user",
    }
    if why == "unused":
        os.utime(made, (0, 0))
        run(save_model(wide_model(2), tmp_path / "other", frames=8) / "text.onnx")
    else:
        (made / "graph.onnx").write_bytes(b"garbage")
        run(graph)
    assert tree(made) == mine
    # There is no place for the graph, but an answer.
    np.testing.assert_allclose(run(graph), expected, rtol=0, atol=1e-6)
    assert str(made) in warnings(caplog)[-1]
    assert tree(made) == mine


def test_the_warning_is_one_line(
    graph: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = onnxruntime.InferenceSession

    def full(path: Path, options: onnxruntime.SessionOptions, **named: Any) -> Any:
        if options.optimized_model_filepath:
            raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : graph.cc:5511\nFailed to write\n")
        return make(path, options, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", full)
    Graph(graph, keep=True).start()
    assert [record.message for record in caplog.records] == [
        f"{graph} cannot be kept ready for this machine, so runs start slower: [ONNXRuntimeError] : 1 : FAIL : "
        "graph.cc:5511"
    ]
