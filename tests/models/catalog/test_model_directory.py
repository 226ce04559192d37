"""A folder as a model: its metadata is read, and what is wrong with it is named."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from small_models import CLASSES, random_closed_model, random_model, save_closed_model, save_model

from action_clip.errors import ActionClipError
from action_clip.models.catalog.metadata import read_metadata
from action_clip.models.catalog.model_directory import read_model_directory
from action_clip.models.runtime.devices import provider
from action_clip.models.runtime.graph import Graph, encode_tokens
from action_clip.tokenizer.bpe import default_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_model(random_model(1, 8, False), tmp_path / "model", frames=8, prompts=["{} – so"])


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    return save_closed_model(random_closed_model(1, frames=4), tmp_path / "closed")


def change(path: Path, **facts: str) -> None:
    """Replace metadata of a graph; an empty value removes the key."""
    model = onnx.load(path)
    kept = {p.key: p.value for p in model.metadata_props} | facts
    onnx.helper.set_model_props(model, {key: value for key, value in kept.items() if value})
    onnx.save(model, path)


def test_metadata_is_what_onnx_reads(folder: Path) -> None:
    for path in folder.glob("*.onnx"):
        assert read_metadata(path) == {p.key: p.value for p in onnx.load(path).metadata_props}
    assert read_metadata(folder / "text.onnx")["prompts"] == '["{} \\u2013 so"]'


def test_a_folder_says_all_that_a_catalog_entry_does(folder: Path) -> None:
    spec, paths = read_model_directory(folder)
    assert (spec.name, spec.frames, spec.image_size, spec.resize, spec.logit_scale) == ("small", 8, 32, 40, 10.0)
    assert (spec.mean, spec.std) == ((0.4, 0.5, 0.6), (0.3, 0.25, 0.2))
    assert spec.prompts == ("{} – so",)
    assert paths == {role: folder / f"{role}.onnx" for role in ("text", "image", "fusion")}


def test_graphs_are_found_by_role_whatever_their_names(folder: Path) -> None:
    (folder / "text.onnx").rename(folder / "a.onnx")
    (folder / "fusion.onnx").rename(folder / "text.onnx")
    _, paths = read_model_directory(folder)
    assert paths == {"text": folder / "a.onnx", "fusion": folder / "text.onnx", "image": folder / "image.onnx"}


@pytest.mark.parametrize("content", [b"", b"words", bytes(8), b"\x3a\xff\xff\xff\xff\x0fabc", None])
def test_what_is_no_onnx_file_is_named(folder: Path, content: bytes | None) -> None:
    path = folder / "image.onnx"
    path.write_bytes(path.read_bytes()[:1000] if content is None else content)
    with pytest.raises(ActionClipError, match=r"image\.onnx is not an ONNX graph"):
        read_model_directory(folder)


def test_a_role_twice_is_an_error(folder: Path) -> None:
    (folder / "other.onnx").write_bytes((folder / "text.onnx").read_bytes())
    with pytest.raises(ActionClipError, match=r"two text graphs, other\.onnx and text\.onnx: keep one"):
        read_model_directory(folder)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"frames": ""}, "lacks the metadata key 'frames'"),
        ({"frames": "0"}, "has '0' as metadata key 'frames'"),
        ({"mean": "[1, 2]"}, "as metadata key 'mean'"),
        ({"std": "narrow"}, "as metadata key 'std'"),
        ({"logit_scale": "[]"}, "as metadata key 'logit_scale', which must be a number"),
        ({"logit_scale": "NaN"}, "which must be a number"),
        ({"logit_scale": "-5"}, "which must be a number above 0"),
        ({"std": "[0, 1, 1]"}, "which must be three numbers above 0"),
        ({"frames": "100000000"}, "which must be a whole number from 1 to 1024"),
        ({"resize": "16"}, "a resize of 16 below its image_size"),
        ({"prompts": "[1, 2]"}, "which must be a list of templates with one {} each"),
        ({"prompts": '["no place"]'}, "as metadata key 'prompts'"),
    ],
)
def test_metadata_that_is_wrong_is_named(folder: Path, facts: dict[str, str], message: str) -> None:
    change(folder / "image.onnx", **facts)
    with pytest.raises(ActionClipError, match=r"image\.onnx") as caught:
        read_model_directory(folder)
    assert message in str(caught.value)


def test_a_closed_set_is_one_graph_that_names_its_classes(closed: Path) -> None:
    (closed / "video.onnx").rename(closed / "model.onnx")
    spec, paths = read_model_directory(closed)
    assert paths == {"video": closed / "model.onnx"}
    assert (spec.name, spec.kind, spec.classes, spec.prompts) == ("small-closed", "closed-set", CLASSES, ())
    assert (spec.frames, spec.image_size, spec.resize, spec.uniform) == (4, 32, 40, "linspace")
    assert (spec.mean, spec.std) == ((0.4, 0.5, 0.6), (0.3, 0.25, 0.2))
    assert [(file.role, file.name) for file in spec.files] == [("video", "model.onnx")]
    assert spec.size == (closed / "model.onnx").stat().st_size


def test_without_a_rule_uniform_is_the_official_one(closed: Path, folder: Path) -> None:
    change(closed / "video.onnx", uniform="")
    assert read_model_directory(closed)[0].uniform == "segments"
    assert read_model_directory(folder)[0].uniform == "segments"
    change(folder / "image.onnx", uniform="linspace")
    assert read_model_directory(folder)[0].uniform == "linspace"


@pytest.mark.parametrize("kept", [("text", "image", "fusion"), ("text",), ("image", "fusion")])
def test_graphs_of_both_kinds_are_not_one_model(folder: Path, closed: Path, kept: tuple[str, ...]) -> None:
    for role in kept:
        (folder / f"{role}.onnx").rename(closed / f"{role}.onnx")
    with pytest.raises(ActionClipError) as caught:
        read_model_directory(closed)
    foreign = " and the ".join(sorted(kept))
    assert str(caught.value) == f"{closed} has a video graph and the {foreign} graph: keep one model"


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"classes": ""}, "lacks the metadata key 'classes'"),
        ({"classes": "[]"}, "as metadata key 'classes', which must be a list of names"),
        ({"classes": "drinking"}, "as metadata key 'classes', which must be a list of names"),
        ({"classes": '["drinking", " "]'}, "as metadata key 'classes', which must be a list of names"),
        ({"classes": '["drinking", 1]'}, "as metadata key 'classes', which must be a list of names"),
        (
            {"uniform": "dense"},
            "has 'dense' as metadata key 'uniform', which must be one of 'segments', 'midpoints', 'linspace'",
        ),
        ({"frames": ""}, "lacks the metadata key 'frames'"),
    ],
)
def test_metadata_of_a_closed_set_that_is_wrong_is_named(closed: Path, facts: dict[str, str], message: str) -> None:
    change(closed / "video.onnx", **facts)
    with pytest.raises(ActionClipError, match=r"video\.onnx") as caught:
        read_model_directory(closed)
    assert message in str(caught.value)


def test_a_text_longer_than_a_fixed_length_is_an_error(tmp_path: Path) -> None:
    save_model(random_model(1, 8, False), tmp_path, frames=8, length=6)
    graph = Graph(tmp_path / "text.onnx")
    tokens = default_tokenizer().encode(["eating", "riding a very old bicycle"])
    assert encode_tokens(graph, tokens[:1]).shape == (1, 16)
    with pytest.raises(ActionClipError, match="takes 6 tokens, a label has 7: shorten it"):
        encode_tokens(graph, tokens)


def test_many_texts_come_back_in_their_order(tmp_path: Path) -> None:
    model = random_model(2, 8, False)
    save_model(model, tmp_path, frames=8)
    texts = [" ".join(["word"] * (1 + i % 7)) + f" {i}" for i in range(600)]
    tokens = default_tokenizer().encode(texts)
    np.testing.assert_allclose(encode_tokens(Graph(tmp_path / "text.onnx"), tokens), model.text(tokens), atol=1e-5)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_device_that_does_not_start_is_no_silent_cpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a machine with onnxruntime-gpu but without the CUDA libraries looks like.
    import onnxruntime

    claimed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: claimed)
    graph = Graph(folder / "fusion.onnx", device="cuda")
    with pytest.raises(ActionClipError, match="the device 'cuda' could not be started, only CPUExecutionProvider"):
        graph(np.zeros((1, 8, 16), np.float32))


def test_devices_are_named_as_users_know_them() -> None:
    assert provider("cpu") == provider("CPU") == "CPUExecutionProvider"
    with pytest.raises(ActionClipError, match="the device 'azure' is not there"):
        provider("azure")
