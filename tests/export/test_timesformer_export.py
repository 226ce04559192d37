"""TimeSformer through the exporter as it is typed, and through the program with what it wrote."""

import contextlib
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_once import made_once
from fault_server import FaultServer
from numpy.typing import NDArray
from random_checkpoints import Sizes, openai_state
from random_timesformer import (
    TimeSformerSizes,
    hugging_face_timesformer,
    mmaction_timesformer,
    original_state,
    timesformer_config,
)
from small_exports import command, probabilities

import action_clip
from action_clip import TimeSformer, TimeSformerOperator
from action_clip.commands.samples import SAMPLE_VIDEO
from action_clip.export.command import main
from action_clip.export.timesformer.checkpoints import assemble_timesformer, read_timesformer
from action_clip.export.timesformer.networks import DIVIDED, JOINT, SPACE_ONLY
from action_clip.models.catalog.metadata import read_metadata
from action_clip.models.catalog.specs import ModelSpec, find
from action_clip.video.preprocess import clip_tensor
from action_clip.video.reader import Clip, read_clip
from action_clip.video.sampling import linspace_indices, uniform_indices

ROOT = Path(__file__).parents[2]
NAMES = ("archery", "bowling", "juggling balls", "läuft", "zumba")
NUMBERS = tuple(f"class {number}" for number in range(5))
SIZES = TimeSformerSizes()


@dataclass(frozen=True)
class Case:
    """A random checkpoint, how it is exported, and what can be told of it beforehand."""

    attention: str
    layout: str
    sizes: TimeSformerSizes = SIZES
    classes: tuple[str, ...] = NUMBERS
    resize: int = SIZES.image_size
    mean: tuple[float, ...] = (0.45,) * 3
    std: tuple[float, ...] = (0.225,) * 3
    arguments: tuple[str, ...] = ()
    file: str = ""
    """Inside a folder, the weights."""
    pack: Callable[[Any], Any] = field(default=lambda state: state)

    def save(self, path: Path, seed: int = 0) -> None:
        """Write the checkpoint; a folder where it has a file inside."""
        state = self.pack(original_state(self.attention, self.sizes, seed))
        if self.file:
            path.mkdir()
            # In another order than that of the logits.
            names = {str(number): self.classes[number] for number in (4, 0, 2, 1, 3)}
            config = timesformer_config(self.attention, self.sizes, id2label=names)
            size = {"shortest_edge": self.resize}
            own = {"size": size, "image_mean": list(self.mean), "image_std": list(self.std)}
            for name, content in (("config.json", config), ("preprocessor_config.json", own)):
                (path / name).write_text(json.dumps(content), encoding="utf-8")
        torch.save(state, path / self.file)


CASES = {
    "hugging": Case(
        DIVIDED, "Hugging Face TimeSformer", SIZES, NAMES, 40, (0.5, 0.4, 0.3), (0.25, 0.2, 0.15),
        file="pytorch_model.bin", pack=hugging_face_timesformer,
    ),
    "original.pyth": Case(
        JOINT, "TimeSformer", replace(SIZES, image_size=42, patch=14, frames=4, width=64), resize=42,
        arguments=("--licence", "ours"), pack=lambda state: {"model_state": state, "epoch": 15},
    ),
    "mmaction2.pth": Case(
        SPACE_ONLY, "mmaction2 TimeSformer", replace(SIZES, frames=5), mean=(0.5,) * 3, std=(0.5,) * 3,
        arguments=("--frames", "5"), pack=lambda state: {"state_dict": mmaction_timesformer(state)},
    ),
}  # fmt: skip
every_case = pytest.mark.parametrize(
    "name", ["hugging", "original.pyth", pytest.param("mmaction2.pth", marks=pytest.mark.slow)]
)


@dataclass(frozen=True)
class Exported:
    """A case after its export."""

    case: Case
    checkpoint: Path
    folder: Path
    printed: str

    @property
    def graph(self) -> Path:
        return self.folder / "video.onnx"

    def network(self) -> torch.nn.Module:
        checkpoint = read_timesformer(self.checkpoint)
        return assemble_timesformer(replace(checkpoint, frames=self.case.sizes.frames))


Exports = Callable[[str], Exported]


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """The cases, each exported when it is first requested."""

    @cache
    def export(name: str) -> Exported:
        case = CASES[name]

        def fill(place: Path) -> None:
            case.save(place / name)
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                out = str(place / f"{name}-graphs")
                assert main(["timesformer", str(place / name), "--out", out, *case.arguments]) == 0
            (place / "printed.txt").write_text(printed.getvalue(), "utf-8")

        place = made_once(tmp_path_factory, f"timesformer-{name}", fill)
        return Exported(case, place / name, place / f"{name}-graphs", (place / "printed.txt").read_text("utf-8"))

    return export


# The graph


@torch.no_grad()
def said(network: torch.nn.Module, frames: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Logits and features, by PyTorch."""
    return [output.numpy() for output in network(torch.from_numpy(frames))]


@every_case
def test_the_graph_says_what_pytorch_says(exports: Exports, name: str) -> None:
    exported = exports(name)
    network, sizes = exported.network(), exported.case.sizes
    assert [path.name for path in exported.folder.iterdir()] == ["video.onnx"]
    session = onnxruntime.InferenceSession(exported.graph, providers=["CPUExecutionProvider"])
    for batch in (1, 2, 5):
        shape = (batch, sizes.frames, 3, sizes.image_size, sizes.image_size)
        frames = np.random.default_rng(batch).normal(size=shape).astype(np.float32)
        wanteds = said(network, frames)
        assert [expected.shape for expected in wanteds] == [(batch, sizes.classes), (batch, sizes.width)]
        founds = session.run(["logits", "features"], {"frames": frames})
        for found, expected in zip(founds, wanteds, strict=True):
            assert found.shape == expected.shape
            assert np.abs(found - expected).max() < 1e-4
            # Rows are told apart, or nothing would be shown by their being equal.
            assert batch == 1 or np.abs(found[0] - found[-1]).max() > 0.01


def axes(value: onnx.ValueInfoProto) -> tuple[str | int, ...]:
    """Sizes, those that are free by their names."""
    return tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)


@every_case
def test_the_graph_is_standard_and_only_its_batch_free(exports: Exports, name: str) -> None:
    exported = exports(name)
    sizes = exported.case.sizes
    model = onnx.load(exported.graph)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version >= 17) for entry in model.opset_import] == [("", True)]
    assert {node.domain for node in model.graph.node} == {""}
    assert len(model.functions) == 0
    values = [*model.graph.input, *model.graph.output]
    assert [(value.name, axes(value)) for value in values] == [
        ("frames", ("batch", sizes.frames, 3, sizes.image_size, sizes.image_size)),
        ("logits", ("batch", sizes.classes)),
        ("features", ("batch", sizes.width)),
    ]
    assert {value.type.tensor_type.elem_type for value in values} == {onnx.TensorProto.FLOAT}
    assert str(ROOT).encode() not in model.SerializeToString()


@every_case
def test_metadata(exports: Exports, name: str) -> None:
    exported = exports(name)
    case = exported.case
    weights = exported.checkpoint / case.file
    found = {entry.key: entry.value for entry in onnx.load(exported.graph).metadata_props}
    numbers = ("frames", "image_size", "resize", "mean", "std", "classes")
    assert {key: json.loads(value) if key in numbers else value for key, value in found.items()} == {
        "role": "video",
        "model": exported.folder.name,
        "frames": case.sizes.frames,
        "image_size": case.sizes.image_size,
        "resize": case.resize,
        "mean": list(case.mean),
        "std": list(case.std),
        "uniform": "linspace",
        "classes": list(case.classes),
        "licence": "ours" if case.arguments[:1] == ("--licence",) else "not stated",
        "attention": case.attention,
        "precision": "fp32",
        "checkpoint": case.layout,
        "checkpoint_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "exporter": f"action_clip {action_clip.__version__}",
    }


def difference_rows(printed: str) -> list[tuple[str, int, int, float, float, bool]]:
    """Output, rows, length, max |Δ|, cosine and whether that is too much."""
    pattern = r"^(video \w+) +(\d+) +(\d+) +(nan|[\d.]+e[+-]\d+) +(nan|-?[\d.]+)(  too much)?$"
    return [
        (output, int(rows), int(length), float(difference), float(cosine), bool(mark))
        for output, rows, length, difference, cosine, mark in re.findall(pattern, printed, re.MULTILINE)
    ]


@every_case
def test_the_tables(exports: Exports, name: str) -> None:
    exported = exports(name)
    frames = exported.case.sizes.frames
    assert re.match(r"nodes +video\n", exported.printed)
    nodes = len(onnx.load(exported.graph).graph.node)
    assert re.search(rf"^all +{nodes} → \d+$", exported.printed, re.MULTILINE)
    rows = difference_rows(exported.printed)
    outputs = ("video logits", "video features")
    assert [row[:3] for row in rows] == [(output, count, frames) for count in (2, 3, 1) for output in outputs]
    for row in rows:
        assert 0 <= row[3] < 1e-5
        assert row[4] > 0.999999
        assert not row[5]
    assert any(row[3] > 0 for row in rows)
    assert exported.printed.endswith(f"\nwrote {exported.folder}: action-clip --model {exported.folder} --video …\n")


# The program


def sample(count: int) -> Clip:
    return read_clip(SAMPLE_VIDEO, partial(linspace_indices, count=count))


def by_hand(network: torch.nn.Module, case: Case) -> NDArray[np.float64]:
    """The sample's probabilities, by PyTorch."""
    frames = clip_tensor(sample(case.sizes.frames).frames, case.sizes.image_size, case.mean, case.std, case.resize)
    logits = torch.from_numpy(said(network, frames[None])[0][0])
    probabilities: NDArray[np.float64] = torch.softmax(logits.double(), 0).numpy()
    return probabilities


@every_case
def test_the_program_says_what_pytorch_says(exports: Exports, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    exported = exports(name)
    case = exported.case
    expected = by_hand(exported.network(), case)
    video = ("--video", str(SAMPLE_VIDEO), "--format", "json")
    code, answer, err = command(capsys, "--model", str(exported.folder), *video)
    assert (code, err) == (0, "")
    found = json.loads(answer)
    assert found["model"] == exported.folder.name
    assert np.abs(probabilities(answer) - expected).max() < 1e-4
    assert 0.25 < expected.max() < 0.999
    best = [case.classes[index] for index in np.argsort(-expected)]
    assert [line["label"] for line in found["predictions"]] == best

    model = action_clip.load(exported.folder)
    assert isinstance(model, TimeSformer)
    assert model.classes == case.classes
    prediction = model.classify(SAMPLE_VIDEO)
    total = read_clip(SAMPLE_VIDEO, lambda count: [count - 1]).indices[0] + 1
    assert list(prediction.frame_indices) == linspace_indices(total, case.sizes.frames)
    assert list(prediction.frame_indices) != uniform_indices(total, case.sizes.frames)


def test_the_operator_says_the_same(exports: Exports) -> None:
    exported = exports("hugging")
    case = exported.case
    frames = sample(case.sizes.frames).frames
    labels, scores, features = TimeSformerOperator(str(exported.folder), topk=2)(frames)
    prediction = TimeSformer(exported.folder).classify(SAMPLE_VIDEO)
    assert labels == [line.label for line in prediction.ranked[:2]]
    assert labels[0] == NAMES[int(by_hand(exported.network(), case).argmax())]
    np.testing.assert_allclose(scores, [line.probability for line in prediction.ranked[:2]], atol=1e-6)
    np.testing.assert_allclose(features, prediction.video_features, atol=1e-6)
    tensor = clip_tensor(frames, case.sizes.image_size, case.mean, case.std, case.resize)
    given = TimeSformerOperator(str(exported.folder), skip_preprocess=True)(tensor[None])
    assert given[0][:2] == labels


# --check and precisions


def checked(folder: Path, checkpoint: Path) -> int:
    return main(["--check", str(folder), "--against", str(checkpoint)])


@every_case
def test_check(
    exports: Exports,
    tmp_path: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    exported = exports(name)
    before = exported.graph.read_bytes()
    capsys.readouterr()
    assert checked(exported.folder, exported.checkpoint) == 0
    captured = capsys.readouterr()
    assert difference_rows(captured.out) == difference_rows(exported.printed)
    assert captured.out.strip() in exported.printed
    assert captured.err == ""
    assert exported.graph.read_bytes() == before

    other = tmp_path / name
    exported.case.save(other, seed=5)
    caplog.clear()
    assert checked(exported.folder, other) == 1
    assert capsys.readouterr() == (
        "",
        "the video graph differs from PyTorch by more than fp32 allows (max |Δ| below 1e-05, cosine at least "
        "0.999999): try another precision\n",
    )
    assert f"{exported.folder} was exported from another file than {other}: their sha256 differ" in caplog.messages
    assert [row[5] for row in difference_rows(caplog.messages[-1])] == [True] * 6


def test_check_against_what_does_not_fit(exports: Exports, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported = exports("original.pyth")
    sizes = exported.case.sizes
    for own, sentence in (
        ({"frames": 3}, "the checkpoint is for 3 frames, not 4: give another checkpoint or leave out --frames"),
        ({"image_size": 28}, f"the graph {exported.graph} cannot be run on what the checkpoint takes ("),
        ({"classes": 6}, "the video graph differs from PyTorch by more than fp32 allows (max |Δ| below 1e-05"),
    ):
        other = tmp_path / "other.pyth"
        replace(exported.case, sizes=replace(sizes, **own)).save(other)
        assert checked(exported.folder, other) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith(sentence)
        assert (captured.err.count("\n"), captured.out) == (1, "")


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "share", "apart"), [("fp16", 0.6, 0.01), ("int8", 0.45, 0.1)])
def test_precisions(
    exports: Exports,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    precision: str,
    share: float,
    apart: float,
) -> None:
    exported = exports("hugging")
    folder = tmp_path / precision
    capsys.readouterr()
    assert main(["timesformer", str(exported.checkpoint), "--precision", precision, "--out", str(folder)]) == 0
    rows = difference_rows(capsys.readouterr().out)
    assert len(rows) == 6
    assert not any(row[5] for row in rows)
    assert min(row[4] for row in rows) >= {"fp16": 0.9999, "int8": 0.99}[precision]
    # Something was rounded.
    assert max(row[3] for row in rows) > 1e-5
    graph = folder / "video.onnx"
    assert read_metadata(graph)["precision"] == precision
    assert graph.stat().st_size < share * exported.graph.stat().st_size
    kinds = {node.op_type for node in onnx.load(graph).graph.node}
    assert ("MatMulInteger" in kinds) == (precision == "int8")
    expected = by_hand(exported.network(), exported.case)
    assert 0 < np.abs(TimeSformer(folder).classify(SAMPLE_VIDEO).probabilities - expected).max() < apart
    assert checked(folder, exported.checkpoint) == 0
    assert difference_rows(capsys.readouterr().out) == rows


# The catalog


@dataclass
class Mirror:
    """The hosts of the catalog's checkpoints, on this machine."""

    server: FaultServer
    home: Path

    def add(self, case: Case) -> ModelSpec:
        """Serve a checkpoint as that of the catalog."""
        spec = find("timesformer_k400_8x224")
        assert spec is not None
        assert spec.checkpoint is not None
        content = io.BytesIO()
        torch.save(hugging_face_timesformer(original_state(case.attention, case.sizes)), content)
        self.server.add(urlsplit(spec.checkpoint.url or "").path, content.getvalue())
        return spec


@pytest.fixture
def mirror(_own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with FaultServer() as server:
        monkeypatch.setenv("ACTION_CLIP_MIRROR", server.url)
        yield Mirror(server, _own_home)


KINETICS = TimeSformerSizes(image_size=224, patch=112, frames=8, width=64, layers=1, hidden=64, classes=400)


@pytest.mark.slow
def test_the_model_of_the_catalog(mirror: Mirror, capsys: pytest.CaptureFixture[str]) -> None:
    case = Case(DIVIDED, "Hugging Face TimeSformer", KINETICS, resize=224)
    spec = mirror.add(case)
    assert spec.checkpoint is not None
    folder = mirror.home / spec.name
    ask = ("--model", spec.name)
    code, out, err = command(capsys, *ask, "--format", "json")
    assert (code, out) == (1, "")
    assert f"the graphs of {spec.name} are not on this disk yet: run action-clip export timesformer_k400_8x224" in err
    assert not folder.exists()
    assert re.search(rf"no: \S.* export {spec.name} ", command(capsys, "--list-models")[1])

    capsys.readouterr()
    assert main([spec.name]) == 0
    printed = capsys.readouterr().out
    assert [row[1:3] for row in difference_rows(printed)] == [(2, 8), (2, 8), (3, 8), (3, 8), (1, 8), (1, 8)]
    assert printed.endswith(f"\ninstalled {spec.name}: action-clip --model {spec.name} --video …\n")
    files = sorted([".lock", "video.onnx", spec.checkpoint.name])
    assert sorted(path.name for path in folder.iterdir()) == files
    assert [path for path, _ in mirror.server.requests] == [urlsplit(spec.checkpoint.url or "").path]
    metadata = read_metadata(folder / "video.onnx")
    assert (metadata["model"], metadata["licence"]) == (spec.name, "CC-BY-NC-4.0: not for commercial use")
    assert metadata["checkpoint"] == "Hugging Face TimeSformer"

    network = assemble_timesformer(read_timesformer(folder / spec.checkpoint.name))
    expected = by_hand(network, case)
    code, answer, err = command(capsys, *ask, "--format", "json", "--top-k", "400")
    assert (code, err) == (0, "")
    assert np.abs(probabilities(answer) - expected).max() < 1e-4
    assert expected.max() > 5 / 400
    kinetics = (ROOT / "models" / "catalog" / "kinetics400.txt").read_text("utf-8").splitlines()
    best = [kinetics[index] for index in np.argsort(-expected)[:5]]
    code, text, err = command(capsys, *ask)
    assert (code, err) == (0, "")
    places = [text.index(name) for name in best]
    assert places == sorted(places)
    assert [line["label"] for line in json.loads(command(capsys, *ask, "--format", "json")[1])["predictions"]] == best
    code, verified, _ = command(capsys, "--verify", *ask)
    assert (code, verified.count("equal to first use")) == (0, 1)
    assert re.search(rf"^{spec.name} +8 +486 MB +yes ", command(capsys, "--list-models")[1], re.MULTILINE)


@pytest.mark.parametrize(
    ("own", "sentence"),
    [
        ({"classes": 5}, "tells 5 classes apart, the catalog says 400: delete it to download it again"),
        ({"image_size": 112}, "takes images of 112 pixels, the catalog says 224: delete it to download it again"),
        ({"frames": 4}, "the checkpoint is for 4 frames, not 8: give another checkpoint or leave out --frames"),
    ],
)
def test_a_checkpoint_that_is_not_what_the_catalog_says(
    mirror: Mirror, capsys: pytest.CaptureFixture[str], own: dict[str, int], sentence: str
) -> None:
    spec = mirror.add(Case(DIVIDED, "", replace(KINETICS, **own)))
    assert main([spec.name]) == 1
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert not list((mirror.home / spec.name).glob("*.onnx"))


# What is refused


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The sentence that says why."""
    capsys.readouterr()
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err.rstrip("\n")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkpoint of TimeSformer."""
    path = tmp_path / "video.pyth"
    CASES["original.pyth"].save(path)
    return path


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--fusion", "Transf"), "a TimeSformer has no --fusion to choose: leave it out"),
        (("--activation", "gelu"), "a TimeSformer has no --activation to choose: leave it out"),
        (("--frames", "8"), "the checkpoint is for 4 frames, not 8: give another checkpoint or leave out --frames"),
    ],
)
def test_what_a_timesformer_has_no_choice_of(
    source: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    out = source.parent / "out"
    assert refused(capsys, "timesformer", str(source), "--out", str(out), *arguments) == sentence
    assert list(source.parent.iterdir()) == [source]


def test_checkpoints_of_another_kind(exports: Exports, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", str(source.parent / "out"))
    clip = source.parent / "clip.pt"
    torch.save(openai_state(Sizes(layers=1, text_layers=1)), clip)
    no_timesformer = (
        f"{clip} is not of a TimeSformer: give a checkpoint of the original code, of mmaction2 or of Hugging Face"
    )
    assert refused(capsys, "timesformer", str(clip), *out) == no_timesformer
    assert refused(capsys, "--check", str(exports("hugging").folder), "--against", str(clip)) == no_timesformer
    for video in (source, *(exports(name).checkpoint for name in CASES)):
        assert refused(capsys, str(video), *out) == (
            f"{video} is of a TimeSformer, not of a CLIP: action-clip export timesformer {video} exports it"
        )
    # What is neither is still said to be so.
    torch.save({"conv1.weight": torch.zeros(3)}, clip)
    assert refused(capsys, str(clip), *out).startswith("the checkpoint lacks visual.conv1.weight, ")
    assert not (source.parent / "out").exists()


def test_a_folder_of_another_model(
    exports: Exports, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "graphs"
    shutil.copytree(exports("hugging").folder, folder)
    shutil.copy(folder / "video.onnx", folder / "image.onnx")
    assert refused(capsys, "timesformer", str(source), "--out", str(folder)) == (
        f"{folder} already holds image.onnx: name a folder of its own"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "give a checkpoint, a name of the catalog, or nano"),
        (("video.pyth",), "--out FOLDER is needed"),
        (("vit-b-16-8f",), "vit-b-16-8f is no TimeSformer: leave out the word timesformer"),
        (("timesformer_k400_8x224", "--frames", "8"), "leave out --frames: the catalog says it of timesformer_k400"),
    ],
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["timesformer", *arguments])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"action-clip export timesformer: error: {sentence}")
