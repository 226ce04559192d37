"""Folders that only look like models: whatever is in them, one sentence within seconds, and nothing else is touched."""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser
from protobuf_writer import message
from small_models import random_closed_model, random_model, save_closed_model, save_model

from action_clip import ActionClip, TimeSformer, main
from action_clip.errors import ActionClipError
from action_clip.models.catalog.structure import check_graph

OPSET = helper.make_opsetid("", 18)
FEATURES = "float[N, 3, 32, 32] frames) => (float[N, 16] features"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_model(random_model(1, 8, False), tmp_path / "model", frames=8)


def refusal(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says."""
    code = main(["--model", str(folder), "--text", "eating", "--text", "drinking"])
    out, err = capsys.readouterr()
    assert (code, out) == (1, "")
    assert err.startswith("action_clip: error: ")
    assert err.count("\n") == 1
    assert "something went wrong" not in err
    assert len(err) < 1000
    return err.strip()


def change(path: Path, **facts: str) -> None:
    model = onnx.load(path)
    helper.set_model_props(model, {p.key: p.value for p in model.metadata_props} | facts)
    onnx.save(model, path)


NUMBER = "9" * 5000


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"prompts": json.dumps([f"{{}} {i}" for i in range(100_000)])}, "a list of at most 1000 templates"),
        ({"prompts": json.dumps([f"{{}} {i}" for i in range(1_000_000)])}, "more metadata than any model needs"),
        ({"frames": "1000000000"}, "a whole number from 1 to 1024"),
        ({"frames": NUMBER}, "must be a whole number"),
        ({"frames": "[" * 100_000}, "must be a whole number"),
        ({"frames": "1024", "image_size": "4096", "resize": "4096"}, "1024 frames of 4096 pixels"),
        ({"image_size": "1000000000", "resize": "1000000000"}, "a whole number from 1 to 4096"),
        ({"resize": "1000000000"}, "a whole number from 1 to 4096"),
        ({"resize": NUMBER[:4000]}, "a whole number from 1 to 4096"),
        ({"mean": f"[{NUMBER[:4000]}, 0, 0]"}, "must be a number"),
        ({"logit_scale": NUMBER}, "must be a number"),
        ({"logit_scale": "1e999"}, "must be a number"),
        ({"model": "a" * 5000}, "a text of at most 1000 characters"),
        ({"licence": "a" * 5_000_000}, "more metadata than any model needs"),
    ],
)
def test_metadata_that_no_model_has(
    folder: Path, capsys: pytest.CaptureFixture[str], facts: dict[str, str], said: str
) -> None:
    change(folder / "image.onnx", **facts)
    text = refusal(folder, capsys)
    assert said in text
    assert "image.onnx" in text


def test_metadata_of_a_gigabyte_is_not_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "image.onnx"
    size = 1 << 30
    entry = message([(1, b"licence")]) + b"\x12" + varint(size)
    with path.open("ab") as file:
        file.write(b"\x72" + varint(len(entry) + size) + entry)
        file.truncate(file.tell() + size)  # a hole, which takes no place
    assert "image.onnx has more metadata than any model needs" in refusal(folder, capsys)


def varint(value: int) -> bytes:
    return message([(1, value)])[1:]


def test_names_cannot_break_the_lines_of_the_answer(tmp_path: Path) -> None:
    classes = ["eating\n  1  100.0 %  drinking", "\tdancing\r", *"abcde"]
    save_closed_model(random_closed_model(1, 8), tmp_path / "closed", classes=classes)
    change(tmp_path / "closed" / "video.onnx", model="small\nmodel", licence="none\r\nat all")
    model = TimeSformer(tmp_path / "closed")
    assert model.spec.classes == ("eating 1 100.0 % drinking", "dancing", *"abcde")
    assert (model.spec.name, model.spec.licence) == ("small model", "none at all")
    classes[0] = "half of a pair \ud83d"
    change(tmp_path / "closed" / "video.onnx", classes=json.dumps(classes))
    with pytest.raises(ActionClipError, match="must be a list of names"):
        TimeSformer(tmp_path / "closed")


def test_a_name_that_looks_like_json_is_a_name(folder: Path) -> None:
    change(folder / "image.onnx", model="123", licence="true")
    assert (ActionClip(folder).spec.name, ActionClip(folder).spec.licence) == ("123", "true")
    change(folder / "image.onnx", model=" ", licence="")
    assert (ActionClip(folder).spec.name, ActionClip(folder).spec.licence) == ("model", "not stated")


def test_what_is_no_file_is_not_opened(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "folder.onnx").mkdir()
    (folder / "nowhere.onnx").symlink_to(folder / "nothing")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "a pipe.onnx")
    if os.path.exists("/dev/zero"):
        (folder / "zeros.onnx").symlink_to("/dev/zero")
    frames = np.zeros((8, 40, 40, 3), np.uint8)
    frames[:, :20] = 200
    ActionClip(folder).classify(frames, ["eating", "drinking"])
    (folder / "image.onnx").unlink()
    assert "no graph in it says that it is the image graph" in refusal(folder, capsys)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="there is no such device")
def test_a_graph_that_becomes_a_device(folder: Path) -> None:
    model = ActionClip(folder)
    (folder / "image.onnx").unlink()
    (folder / "image.onnx").symlink_to("/dev/zero")
    with pytest.raises(ActionClipError, match=r"image\.onnx cannot be loaded on 'cpu' \(it is no file\)"):
        model.classify(np.zeros((8, 40, 40, 3), np.uint8), ["eating"])


def test_many_files_are_not_all_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(1001):
        (tmp_path / f"{number}.onnx").touch()
    assert "has more than 1000 ONNX files: name a folder with one model" in refusal(tmp_path, capsys)


def subgraph(text: str) -> onnx.GraphProto:
    graph: onnx.GraphProto = parser.parse_graph(text)
    return graph


def looping() -> onnx.ModelProto:
    """Counts for ever."""
    body = subgraph(
        "body (int64 i, bool going, float x) => (bool goes, float y) { goes = Identity(going) y = Identity(x) }"
    )
    graph = subgraph(f"image ({FEATURES}) {{ on = Constant<value_int=1>() go = Cast<to=9>(on) }}")
    graph.node.append(helper.make_node("Loop", ["", "go", "one"], ["never"], body=body))
    graph.initializer.append(helper.make_tensor("one", TensorProto.FLOAT, (), [1.0]))
    graph.node.extend(subgraph(f"g ({FEATURES}) {{ flat = Flatten(frames) features = Add(flat, never) }}").node)
    return helper.make_model(graph, opset_imports=[OPSET], ir_version=9)


def branching(then: onnx.GraphProto, number: int) -> onnx.GraphProto:
    """A branch that takes this one, always; names of nested ones must differ."""
    other = subgraph(f"other{number} () => (float z{number}) {{ z{number} = Constant<value_float=1.0>() }}")
    steps = f"a{number} = Constant<value_int=1>() b{number} = Cast<to=9>(a{number})"
    graph = subgraph(f"branch{number} () => (float y{number}) {{ {steps} }}")
    graph.node.append(helper.make_node("If", [f"b{number}"], [f"y{number}"], then_branch=then, else_branch=other))
    return graph


def looping_inside_if() -> onnx.ModelProto:
    loop = looping().graph
    branch = subgraph("branch () => (float never) { }")
    branch.node.extend(loop.node[:3])
    branch.initializer.extend(loop.initializer)
    return adding(branching(branch, 0).node, name="y0")


def nested_ifs() -> onnx.ModelProto:
    branch = subgraph("branch () => (float y) { y = Constant<value_float=1.0>() }")
    for number in range(15):
        branch = branching(branch, number)
    return adding(branch.node, name="y14")


def adding(nodes: Iterable[onnx.NodeProto] = (), name: str = "y", **weight: Any) -> onnx.ModelProto:
    """A graph that adds a value to the pixels: what these nodes make of nothing, or a weight."""
    graph = subgraph(f"image ({FEATURES}) {{ flat = Flatten(frames) }}")
    graph.node.extend(nodes)
    graph.node.append(helper.make_node("Add", ["flat", name], ["features"]))
    if weight:
        graph.initializer.append(TensorProto(name=name, data_type=TensorProto.FLOAT, **weight))
    return helper.make_model(graph, opset_imports=[OPSET], ir_version=9)


def laughing() -> onnx.ModelProto:
    """Functions that call each other twice: unfolded, 2⁴⁰ operators."""
    model = adding(subgraph("g () => (float y) { x = Constant<value_float=1.0>() y = own.f0(x) }").node)
    model.opset_import.append(helper.make_opsetid("own", 1))
    for number in range(40):
        called, domain = (f"f{number + 1}", "own") if number < 39 else ("Identity", "")
        nodes = [helper.make_node(called, [a], [b], domain=domain) for a, b in (("x", "y"), ("y", "z"))]
        opsets = [OPSET, helper.make_opsetid("own", 1)]
        model.functions.append(helper.make_function("own", f"f{number}", ["x"], ["z"], nodes, opsets))
    return model


def constant() -> onnx.ModelProto:
    value = TensorProto(name="value", data_type=TensorProto.FLOAT, dims=[1 << 40], raw_data=b"1")
    return adding([helper.make_node("Constant", [], ["y"], value=value)])


def sparse() -> onnx.ModelProto:
    model = adding()
    values = helper.make_tensor("y", TensorProto.FLOAT, (1,), [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, (1,), [5])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 40]))
    return model


def plain(body: str, declared: str = FEATURES) -> onnx.ModelProto:
    return helper.make_model(subgraph(f"image ({declared}) {{ {body} }}"), opset_imports=[OPSET], ir_version=9)


def outside(location: str) -> onnx.ModelProto:
    entry = onnx.StringStringEntryProto(key="location", value=location)
    return adding(dims=[4], data_location=TensorProto.EXTERNAL, external_data=[entry])


HOSTILE: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "an endless loop": (looping, "it has the operator 'Loop', which may never end"),
    "an endless loop inside If": (looping_inside_if, "it has the operator 'Loop', which may never end"),
    "If in If in …": (nested_ifs, "it has graphs within graphs, more than any model needs"),
    "functions": (laughing, "it has functions of its own"),
    "a weight without its numbers": (
        lambda: adding(dims=[1 << 40], raw_data=b"1234"),
        "its weight 'y' is said to be larger than the file that it is in",
    ),
    "a weight of many axes": (lambda: adding(dims=[1000] * 1000), "its weight 'y' is said to be larger"),
    "a weight of less than nothing": (lambda: adding(dims=[-1]), "its weight 'y' is said to be larger"),
    "a constant": (constant, "its weight 'value' is said to be larger than the file that it is in"),
    "sparse weights": (sparse, "it has sparse weights, whose size is not that of the file"),
    "weights above": (lambda: outside("../secret"), "its weights are in the file '../secret', which is outside"),
    "weights far above": (lambda: outside("../../../../../../../../etc/passwd"), "which is outside of its folder"),
    "weights elsewhere": (lambda: outside(os.path.abspath("LICENSE")), "which is outside of its folder"),
    "weights behind a link": (lambda: outside("link"), "its weights are in the file 'link', which is outside"),
    "weights in memory": (lambda: outside("*/_ORT_MEM_ADDR_/*"), "_ORT_MEM_ADDR_/*', which is missing"),
    "weights that are not there": (lambda: outside("a\x1b[31m\nb"), r"in the file 'a\x1b[31m\nb', which is missing"),
    "weights in a folder": (lambda: outside("."), "its weights are in the file '.', which is outside"),
    "weights larger than their file": (
        lambda: outside("small"),
        "its weight 'y' is said to be larger than the file that it is in",
    ),
    "an operator of a device": (
        lambda: plain("features = com.microsoft.EPContext<ep_cache_context=\"x\">(frames)"),
        "it has the operator 'EPContext'",
    ),
    "an operator of nobody's": (lambda: plain("features = evil.Run(frames)"), "cannot be loaded on 'cpu' ("),
    "a terabyte": (
        lambda: plain(
            "s = Constant<value_ints=[1000000000000]>() z = ConstantOfShape(s) m = ReduceMax<keepdims=0>(z) "
            "flat = Flatten(frames) features = Add(flat, m)"
        ),
        " on 'cpu' (",
    ),
    "a batch that is too large": (
        lambda: plain("features = Flatten(frames)", "float[1000000000, 3, 32, 32] frames) => (float[B, F] features"),
        "takes [1000000000, 3, 32, 32], which is too much",
    ),
    "a single number": (lambda: plain("features = Identity(x)", "float x) => (float features"), "not one tensor"),
    "too few rows": (
        lambda: plain("y = ReduceMean<keepdims=1>(frames)", "float[N,3,32,32] frames) => (float[a,b,c,d] y"),
        "gives (1, 1, 1, 1) for 8 rows, not as many of features",
    ),
    "no tensor": (
        lambda: plain(
            "flat = Flatten(frames) features = SequenceConstruct(flat)",
            "float[N,3,32,32] frames) => (seq(float[N, F]) features",
        ),
        "gives something else than numbers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_graphs_that_no_model_has(folder: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    make, said = HOSTILE[kind]
    model = make()
    onnx.helper.set_model_props(model, {p.key: p.value for p in onnx.load(folder / "image.onnx").metadata_props})
    (folder / "image.onnx").write_bytes(model.SerializeToString())
    (folder.parent / "secret").write_bytes(bytes(64))
    (folder / "link").symlink_to(folder.parent / "secret")
    (folder / "small").write_bytes(b"")
    text = refusal(folder, capsys)
    assert said in text
    assert "image.onnx" in text


@pytest.mark.slow
def test_more_parts_than_any_model_has(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outer, inner = message([(1, 9)]), message([(1, b"")] * 1_100_000)
    props = onnx.load(folder / "image.onnx").metadata_props
    (folder / "image.onnx").write_bytes(
        outer + message([(7, inner)]) + b"".join(message([(14, p.SerializeToString())]) for p in props)
    )
    assert "it has more parts than any model needs" in refusal(folder, capsys)


def test_what_helps_depends_on_where_the_graph_is_from(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "fusion.onnx"
    path.write_bytes(path.read_bytes().replace(b"ReduceMean", b"ReduceMoan"))
    text = refusal(folder, capsys)
    assert f"the graph {path} cannot be loaded on 'cpu' (" in text
    assert text.endswith(": export it again, or get it anew from where it is from")


def test_weights_beside_the_graph_are_used_through_links_too(folder: Path, tmp_path: Path) -> None:
    """As a download cache lays them out: both are links into a folder of blobs."""
    path = folder / "image.onnx"
    expected = ActionClip(folder).encode_clips(np.ones((1, 8, 3, 32, 32), np.float32)).features
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="image.data", size_threshold=100)
    assert check_graph(path)
    features = ActionClip(folder).encode_clips(np.ones((1, 8, 3, 32, 32), np.float32)).features
    np.testing.assert_array_equal(features, expected)
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for name in ("image.onnx", "image.data"):
        shutil.move(folder / name, blobs / name)
        (folder / name).symlink_to(blobs / name)
    assert check_graph(path) == ("image.data",)


def test_an_if_is_no_loop(tmp_path: Path) -> None:
    then, other = (subgraph(f"{name} () => (float y) {{ y = Constant<value_float=1.0>() }}") for name in "ab")
    graph = subgraph("image (bool go) => (float y) { }")
    graph.node.append(helper.make_node("If", ["go"], ["y"], then_branch=then, else_branch=other))
    onnx.save(helper.make_model(graph, opset_imports=[OPSET], ir_version=9), tmp_path / "if.onnx")
    assert check_graph(tmp_path / "if.onnx") == ()
