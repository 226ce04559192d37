"""What is said of checkpoints that cannot be read, and of weights, options and configurations that do not fit."""

import argparse
import importlib
import math
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import (
    SIZES,
    assert_same,
    hugging_face_config,
    open_clip_config,
    plain,
    read,
    refused,
    save_legacy,
    write_json,
)
from random_checkpoints import (
    State,
    fusion_state,
    hugging_face_state,
    module_of,
    openai_state,
    save_torchscript,
    with_openai_facts,
)
from safetensors.torch import save_file

from action_clip.errors import ActionClipError
from action_clip.export.clip.model import clip_model
from action_clip.export.source_model import ExportOptions


@pytest.fixture(scope="module")
def clip() -> State:
    return openai_state(SIZES)


@pytest.fixture(scope="module")
def hollow() -> State:
    """Weights that are all zero, for what is refused whatever they are."""
    return openai_state(SIZES, seed=None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a checkpoint goes."""
    return tmp_path / "checkpoint.pt"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.pt", b"", "is empty: download it again"),
        ("a.safetensors", b"", "is empty: download it again"),
        ("a.pt", b"<!DOCTYPE html><html><body>404</body></html>", "is a web page, not a checkpoint"),
        ("a.pth", b"\n <html>\n", "is a web page, not a checkpoint"),
        ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        ("a.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run git lfs pull in its folder"),
        ("a.pt", b"Access denied\n", "is not a PyTorch checkpoint: download it again"),
        ("a.pt", b"{}", "is not a PyTorch checkpoint: download it again"),
        ("a.safetensors", b"\xff" * 100, "is damaged or no checkpoint"),
        ("a.pt", b"PK\x03\x04" + bytes(50), "is damaged or no checkpoint (File is not a zip file)"),
        ("a.pt", b"PK\x05\x06" + b"\xff" * 16 + bytes(2), "is damaged or no checkpoint"),
        ("a.pt", b"PK\x05\x06" + bytes(4) + b"\1\0\1\0" + b"\xff\0\0\0" * 2 + bytes(2), "is damaged or no checkpoint"),
        ("a.pt", b"PK\x05\x06" + bytes(18), "is not a PyTorch checkpoint: download it again"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    said = refused(tmp_path / name)
    assert said.startswith(f"{tmp_path / name} ")
    assert sentence in said


@pytest.mark.parametrize(
    ("suffix", "save"),
    [(".pt", torch.save), (".pt", save_legacy), (".safetensors", save_file), (".pt", save_torchscript)],
    ids=["zip", "legacy", "safetensors", "TorchScript"],
)
@pytest.mark.parametrize("kept", [0.999, 0.5, 0.001])
def test_truncated_files(clip: State, tmp_path: Path, suffix: str, save: Callable[..., None], kept: float) -> None:
    path = tmp_path / f"part{suffix}"
    save(clip, path)
    os.truncate(path, int(path.stat().st_size * kept))
    assert "download it again" in refused(path)


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent.pt").startswith(f"there is no checkpoint {tmp_path / 'absent.pt'}")
    assert "cannot be read (File name too long): check the file" in refused(tmp_path / ("x" * 300))
    assert "is no checkpoint: it needs config.json with model.safetensors" in refused(tmp_path)
    write_json(tmp_path / "config.json", hugging_face_config())
    assert "is no checkpoint: it needs config.json with model.safetensors" in refused(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes with names there")
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "/dev/zero"])
def test_pipes_and_devices(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.parent == tmp_path:
        os.mkfifo(path)
    assert refused(path) == f"{path} is a pipe or a device, not a checkpoint: give a file or a folder"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pipes with names there")
@pytest.mark.parametrize("name", ["config.json", "pytorch_model.bin"])
def test_pipes_in_a_folder(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert f"{folder} is no checkpoint: it needs config.json with" in refused(folder)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (torch.zeros(3), "holds an object of type Tensor, not a checkpoint: give a state dict"),
        ([torch.zeros(3)], "holds an object of type list, not a checkpoint"),
        (7, "holds an object of type int, not a checkpoint"),
        ({}, "the checkpoint lacks visual.conv1.weight, visual.positional_embedding, visual.proj"),
        ({"model": {"a": torch.zeros(3)}}, "holds no state dict ('model' is of type dict, not a plain tensor)"),
        ({"state_dict": [torch.zeros(3)]}, "holds no state dict (names and tensors)"),
        ({"model_state_dict": 3}, "holds no state dict (names and tensors)"),
        ({"a": torch.zeros(3).to_sparse()}, "holds no state dict ('a' is of type Tensor, not a plain tensor)"),
        ({"a": torch.zeros(3, dtype=torch.complex64)}, "holds no state dict ('a' is of type Tensor"),
        ({"vision_model.x": torch.zeros(3)}, "has Hugging Face's layout: put its config.json beside it"),
        ({3: torch.zeros(3)}, "the checkpoint lacks visual.conv1.weight"),
    ],
)
def test_pickles_of_something_else(file: Path, content: Any, sentence: str) -> None:
    torch.save(content, file)
    assert sentence in refused(file)


class Runs:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._folder),)


@pytest.mark.parametrize("save", [torch.save, save_legacy])
def test_code_is_run_only_where_trusted(
    clip: State, file: Path, tmp_path: Path, save: Callable[[Any, Path], None]
) -> None:
    save({"state_dict": {**clip, "callback": Runs(tmp_path / "made")}}, file)
    said = refused(file, activation="quickgelu")
    assert "holds more than weights (posix.mkdir), and reading that may run any code" in said
    assert "give --trust if you trust where it comes from" in said
    assert not (tmp_path / "made").exists()

    assert "'callback' is of type NoneType" in refused(file, trust=True)
    assert (tmp_path / "made").is_dir()


def test_a_plain_pickle_runs_nothing(tmp_path: Path) -> None:
    for protocol in range(6):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps(Runs(tmp_path / "made"), protocol))
        assert "is not a PyTorch checkpoint: download it again" in refused(path)
        assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("trust", [False, True])
def test_what_other_trainers_put_beside_the_weights(clip: State, file: Path, tmp_path: Path, trust: bool) -> None:
    torch.save({"state_dict": clip, "meta": argparse.Namespace(epoch=3), "callback": Runs(tmp_path / "made")}, file)
    assert_same(read(file, trust=trust, activation="quickgelu"), plain(tmp_path, clip))
    assert not (tmp_path / "made").exists()


def test_a_whole_module_is_read_where_trusted(clip: State, file: Path, tmp_path: Path) -> None:
    torch.save(module_of(with_openai_facts(clip)), file)
    assert "holds more than weights (random_checkpoints.Shell)" in refused(file)
    assert_same(read(file, trust=True), plain(tmp_path, clip))


def test_code_that_is_not_here(clip: State, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trainer_of_theirs.py").write_text("class Settings:\n    pass\n", "utf-8")
    with monkeypatch.context() as there:
        there.syspath_prepend(tmp_path)
        settings = importlib.import_module("trainer_of_theirs").Settings()
        torch.save({"state_dict": {**clip, "settings": settings}}, file)
    del sys.modules["trainer_of_theirs"]
    said = refused(file, trust=True, activation="gelu")
    assert "needs code that is not here (No module named 'trainer_of_theirs'): install it" in said


# Weights that do not fit


def test_all_that_is_wrong_is_listed_at_once(hollow: State, file: Path) -> None:
    fusion = fusion_state("Transf", SIZES.embedding)
    del fusion["transformer.resblocks.3.ln_2.bias"]
    fusion["transformer.resblocks.5.mlp.c_proj.weight"] = torch.zeros(64, 100)
    fusion["transformer.extra"] = torch.zeros(2)
    towers = dict(hollow)
    del towers["visual.ln_post.weight"], towers["ln_final.bias"]
    towers["visual.conv1.weight"] = torch.zeros(128, 3, 16, 8)
    towers["transformer.resblocks.0.ln_1.weight"] = torch.zeros(())
    towers["visual.adapter.weight"] = towers["logit_bias"] = torch.zeros(2)
    torch.save({"model_state_dict": towers, "fusion_model_state_dict": fusion}, file)
    assert refused(file) == (
        "the checkpoint lacks ln_final.bias, visual.ln_post.weight, fusion: transformer.resblocks.3.ln_2.bias; "
        "it has left over logit_bias, visual.adapter.weight, fusion: transformer.extra; "
        "it has transformer.resblocks.0.ln_1.weight () instead of 64, "
        "visual.conv1.weight 128×3×16×8 instead of 128×3×8×8, "
        "fusion: transformer.resblocks.5.mlp.c_proj.weight 64×100 instead of 64×256: "
        "it is not of a model that is known here"
    )


def test_a_layer_that_is_not_there(hollow: State, file: Path) -> None:
    moved = {
        name.replace("visual.transformer.resblocks.0", "visual.transformer.resblocks.1"): hollow[name]
        for name in hollow
    }
    torch.save(hollow | {n: v for n, v in moved.items() if ".1.ln_1" in n}, file)
    said = refused(file, activation="gelu")
    assert "lacks visual.transformer.resblocks.1.attn.q_proj.weight" in said.replace("the checkpoint ", "")
    torch.save(moved, file)
    said = refused(file, activation="gelu")
    assert said.startswith("the checkpoint lacks visual.transformer.resblocks.0.mlp.c_fc.weight")


def changed(name: str, value: Any) -> Callable[[State], State]:
    return lambda state: {**state, name: value(state.get(name)) if callable(value) else value}


def without(start: str) -> Callable[[State], State]:
    return lambda state: {name: value for name, value in state.items() if not name.startswith(start)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (changed("visual.layer1.0.conv1.weight", torch.zeros(1)), "is a CLIP with a ResNet: only those with a vision"),
        (changed("token_embedding.weight", lambda w: w[:32000]), "has 32000 tokens and texts of 77: only CLIP's own"),
        (changed("positional_embedding", lambda w: w[:64]), "has 49408 tokens and texts of 64: only CLIP's own"),
        (changed("text_projection", lambda w: w[:, 0]), "text_projection has the shape 64, not 2 dimensions"),
        (changed("text_projection", lambda w: w[:, :32]), "images are embedded in 64 dimensions, texts in 32"),
        (changed("visual.proj", lambda w: w[None]), "visual.proj has the shape 1×128×64, not 2 dimensions"),
        (changed("visual.proj", lambda w: w[:60]), "a width of 60 cannot be divided among 0 attention heads"),
        (changed("visual.conv1.weight", torch.zeros(128)), "visual.conv1.weight has the shape 128, not 4 dimensions"),
        (changed("visual.conv1.weight", lambda w: w[..., :0]), "visual.conv1.weight has the shape 128×3×16×0"),
        (changed("visual.positional_embedding", torch.zeros(())), "visual.positional_embedding has the shape ()"),
        (
            changed("visual.positional_embedding", lambda w: w[:1]),
            "visual.positional_embedding 1×128 instead of 2×128",
        ),
        (
            changed("visual.positional_embedding", lambda w: w[:4]),
            "visual.positional_embedding 4×128 instead of 2×128",
        ),
        (
            changed("transformer.resblocks.0.attn.in_proj_weight", lambda w: w[:100]),
            "has left over transformer.resblocks.0.attn.in_proj_weight",
        ),
        (
            changed("visual.transformer.resblocks.0.attn.in_proj_bias", torch.zeros(())),
            "lacks visual.transformer.resblocks.0.attn.q_proj.bias",
        ),
        (
            changed("transformer.resblocks.0.attn.in_proj_bias", lambda w: w[:6]),
            "transformer.resblocks.0.attn.q_proj.bias 2 instead of 64",
        ),
        (
            changed("transformer.resblocks.0.mlp.c_fc.weight", torch.zeros(0)),
            "transformer.resblocks.0.mlp.c_fc.weight has the shape 0, not 2 dimensions",
        ),
        (changed("logit_scale", torch.tensor([4.0, 5.0])), "logit_scale is not one number below 20"),
        (changed("logit_scale", torch.tensor(math.nan)), "logit_scale is not one number below 20"),
        (changed("logit_scale", torch.tensor(1e4)), "logit_scale is not one number below 20"),
        (changed("logit_scale_of_mine", torch.tensor(1.0)), "has left over logit_scale_of_mine"),
        (without("visual.transformer."), "lacks visual.transformer.resblocks.0.mlp.c_fc.weight"),
        (without("transformer."), "lacks transformer.resblocks.0.mlp.c_fc.weight"),
        (without("visual."), "lacks visual.conv1.weight, visual.positional_embedding, visual.proj: check"),
    ],
)
def test_towers_that_do_not_fit(hollow: State, file: Path, change: Callable[[State], State], sentence: str) -> None:
    torch.save(change(hollow), file)
    assert sentence in refused(file, activation="gelu")


def test_more_than_any_model_has(hollow: State, file: Path) -> None:
    first = {n: v for n, v in hollow.items() if n.startswith("transformer.resblocks.0.ln_1")}
    layers = {n.replace(".0.", f".{layer}."): v for n, v in first.items() for layer in range(300)}
    torch.save(hollow | layers, file)
    assert refused(file, activation="gelu") == (
        "the checkpoint has 300 layers: it is not of a model that is known here"
    )
    torch.save(hollow | {f"left.{number}": torch.zeros(()) for number in range(1000)}, file)
    said = refused(file, activation="gelu")
    assert "it has left over left.0, left.1," in said.replace("the checkpoint", "it")
    assert "left.29 and 970 more: it is not of a model" in said
    # 70 × 70 patches of 100 pixels; of so few numbers that the file is small.
    large = {"visual.conv1.weight": torch.zeros(128, 3, 1, 100), "visual.positional_embedding": torch.zeros(4901, 128)}
    torch.save(hollow | large, file)
    said = refused(file, activation="gelu")
    assert said.startswith("the checkpoint takes images of 7000 pixels in 70×70 patches, 1 at once: it is not of a")


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("Transf_cls", changed("transformer.pos_embed", torch.zeros(9)), "pos_embed has the shape 9, not 3 dimensions"),
        (
            "Transf_cls",
            changed("transformer.pos_embed", torch.zeros(1, 1, 64)),
            "pos_embed has no position for a frame",
        ),
        ("Transf_cls", without("transformer.pos_embed"), "lacks pos_embed"),
        ("Transf_cls", without("transformer.transformer_enc"), "lacks transformer.resblocks.0.mlp.c_fc.weight"),
        ("Transf", without("frame_position"), "lacks frame_position_embeddings.weight"),
        (
            "Transf",
            changed("frame_position_embeddings.weight", torch.zeros(())),
            "frame_position_embeddings.weight has the shape (), not 2 dimensions",
        ),
        ("Conv_1D", changed("shift.weight", torch.zeros(64, 1, 5)), "fusion: shift.weight 64×1×5 instead of 64×1×3"),
        ("LSTM", without("lstm_visual.bias_hh"), "lacks fusion: lstm_visual.bias_hh_l0"),
        ("meanP", changed("classifier.weight", torch.zeros(2)), "has left over fusion: classifier.weight"),
    ],
)
def test_heads_that_do_not_fit(
    hollow: State, file: Path, name: str, change: Callable[[State], State], sentence: str
) -> None:
    torch.save({"model_state_dict": hollow, "fusion_model_state_dict": change(fusion_state(name, 64))}, file)
    assert sentence in refused(file)


def test_a_time_embedding_that_does_not_fit(hollow: State, file: Path) -> None:
    towers = {**hollow, "visual.time_embedding": torch.zeros(128)}
    torch.save({"model_state_dict": towers, "fusion_model_state_dict": {}}, file)
    assert "visual.time_embedding has the shape 128, not 2 dimensions" in refused(file)


# ExportOptions that contradict the weights


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("Transf", {"fusion": "LSTM"}, "the checkpoint's fusion is Transf, not LSTM: give another"),
        ("meanP", {"fusion": "Transf"}, "the checkpoint's fusion is meanP, not Transf: give another"),
        ("Transf_cls", {"frames": 4}, "the checkpoint's weights are for 5 frames, not 4: give another"),
        ("Transf", {"frames": 78}, "has positions for 77 frames: give --frames 77 or fewer"),
        ("LSTM", {"activation": "gelu"}, "the checkpoint's activation is quickgelu, not gelu: give another"),
    ],
)
def test_options_that_contradict(hollow: State, file: Path, name: str, options: dict[str, Any], sentence: str) -> None:
    torch.save({"model_state_dict": hollow, "fusion_model_state_dict": fusion_state(name, 64, frames=5)}, file)
    assert sentence in refused(file, **options)


@pytest.mark.parametrize(
    ("name", "requested", "sentence"),
    [
        ("meanP", 8, "the checkpoint's weights are for 3 frames, not 8: give another"),
        ("Transf_cls", None, "fusion: pos_embed 1×6×64 instead of 1×4×64"),
    ],
)
def test_joint_attention_fixes_the_frames(
    hollow: State, file: Path, name: str, requested: int | None, sentence: str
) -> None:
    towers = {**hollow, "visual.time_embedding": torch.zeros(3, 128)}
    torch.save({"model_state_dict": towers, "fusion_model_state_dict": fusion_state(name, 64, frames=5)}, file)
    assert sentence in refused(file, frames=requested)


@pytest.mark.parametrize("requested", [None, "Transf", "LSTM"])
def test_an_official_checkpoint_without_its_fusion(hollow: State, file: Path, requested: str | None) -> None:
    torch.save({"model_state_dict": hollow}, file)
    said = refused(file, fusion=requested)
    assert "has a model_state_dict but no fusion_model_state_dict: give one with both, or say --fusion meanP" in said


# Folders


@pytest.fixture
def folder(hollow: State, tmp_path: Path) -> Path:
    """Of Hugging Face, with one file of weights."""
    torch.save(hugging_face_state(hollow), tmp_path / "pytorch_model.bin")
    write_json(tmp_path / "config.json", hugging_face_config())
    return tmp_path


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model_type": "siglip"}, "holds a model of type 'siglip', not 'clip': give a CLIPModel's folder"),
        ({"model_type": None}, "holds a model of type None, not 'clip'"),
        ({"text_config": {"hidden_act": "relu"}}, "has the activations ['quick_gelu', 'relu']: only quick_gelu or"),
        ({"text_config": {"hidden_act": "gelu"}}, "has the activations ['gelu', 'quick_gelu']"),
        ({"text_config": {"hidden_act": ["gelu"]}}, "config.json: hidden_act must be a text, not ['gelu']"),
        ({"text_config": "small"}, "config.json: text_config must be a JSON object, not 'small'"),
        ({"vision_config_dict": [1]}, "config.json: vision_config_dict must be a JSON object, not [1]"),
        (
            {"text_config": {"num_attention_heads": "8"}},
            "config.json: num_attention_heads must be a whole number above 0, not '8': download it again",
        ),
        ({"text_config": {"num_attention_heads": 0}}, "num_attention_heads must be a whole number above 0, not 0"),
        ({"text_config": {"num_attention_heads": 3}}, "a width of 64 cannot be divided among 3 attention heads"),
        ({"vision_config": {"layer_norm_eps": 0}}, "layer_norm_eps must be a number above 0, not 0"),
    ],
)
def test_hugging_face_configurations(folder: Path, change: dict[str, Any], sentence: str) -> None:
    write_json(folder / "config.json", hugging_face_config() | change)
    assert sentence in refused(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b'{"a":' * 100_000])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_configurations_that_are_not_json(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    assert refused(folder) == f"{folder / name} is not valid JSON: download it again"


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors.index.json"])
def test_configurations_without_end(folder: Path, name: str) -> None:
    (folder / "pytorch_model.bin").unlink()
    if name != "model.safetensors.index.json":
        save_file({"a": torch.zeros(1)}, folder / "model.safetensors")
    (folder / name).touch()
    os.truncate(folder / name, 1 << 40)
    assert refused(folder) == f"{folder / name} is longer than any configuration: download it again"


def test_configurations_that_are_no_object(folder: Path) -> None:
    write_json(folder / "config.json", ["clip"])
    assert refused(folder) == f"{folder / 'config.json'} holds no JSON object: download it again"


@pytest.mark.parametrize(
    ("own", "sentence"),
    [
        ({"size": "224"}, "size must be a whole number above 0, not '224'"),
        ({"size": {"shortest_edge": 0}}, "size must be a whole number above 0, not 0"),
        ({"size": 10**9}, "size must be a whole number from 1 to 4096, not 1000000000"),
        ({"image_mean": [0.5, 0.5]}, "image_mean must be three numbers, not [0.5, 0.5]"),
        ({"image_std": [0.5, 0.5, 0]}, "image_std must be three numbers above 0, not [0.5, 0.5, 0]"),
    ],
)
def test_preprocessing_that_makes_no_sense(folder: Path, own: dict[str, Any], sentence: str) -> None:
    write_json(folder / "preprocessor_config.json", own)
    assert f"{folder / 'preprocessor_config.json'}: {sentence}: download it again" == refused(folder)


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        (
            {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}},
            "lacks model-2.safetensors: download",
        ),
        # No name leads out of the folder, though there is such a file.
        ({"weight_map": {"a": "../outside.safetensors"}}, "lacks outside.safetensors: download the folder again"),
        ({"weight_map": {"a": "sub/model.safetensors"}}, "lacks model.safetensors: download the folder again"),
        ({"weight_map": {}}, "has no weight_map: download the folder again"),
        ({"weight_map": {"a": 1}}, "has no weight_map: download the folder again"),
        ({"weight_map": ["model-1.safetensors"]}, "weight_map must be a JSON object, not ['model-1.safetensors']"),
        ({"metadata": {}}, "has no weight_map: download the folder again"),
    ],
)
def test_shards_that_are_not_there(hollow: State, tmp_path: Path, index: dict[str, Any], sentence: str) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for place in ("model-1.safetensors", "sub/model.safetensors", "../outside.safetensors"):
        save_file({"logit_scale": torch.zeros(())}, folder / place)
    write_json(folder / "config.json", hugging_face_config())
    write_json(folder / "model.safetensors.index.json", index)
    assert sentence in refused(folder)


def test_a_shard_is_read_once(folder: Path) -> None:
    (folder / "pytorch_model.bin").rename(folder / "part.bin")
    names = {f"a{times}": "./" * times + "part.bin" for times in range(900)}
    index = folder / "pytorch_model.bin.index.json"
    write_json(index, {"weight_map": names})
    assert refused(folder) == f"{index} names a file twice: download the folder again"
    write_json(index, {"weight_map": {f"a{number}": f"part{number}.bin" for number in range(1001)}})
    assert refused(folder) == f"{index} names more than 1000 files: download the folder again"


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_shard_by_other_names(folder: Path) -> None:
    (folder / "pytorch_model.bin").rename(folder / "part.bin")
    (folder / "link.bin").symlink_to("part.bin")
    write_json(folder / "pytorch_model.bin.index.json", {"weight_map": {"a": "part.bin", "b": "link.bin"}})
    assert "names a file twice: download the folder again" in refused(folder)


def test_frames_that_no_model_has(file: Path, hollow: State) -> None:
    towers = {**hollow, "visual.time_embedding": torch.zeros(2000, 128)}
    torch.save({"model_state_dict": towers, "fusion_model_state_dict": {}}, file)
    with pytest.raises(ActionClipError, match="takes 2000 frames of 32 pixels: it is not of a model that is known"):
        clip_model(file, ExportOptions()).spec("", "")


def test_an_absolute_shard_is_not_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    outside = (folder / "pytorch_model.bin").rename(tmp_path / "elsewhere" / "pytorch_model.bin")
    write_json(folder / "pytorch_model.bin.index.json", {"weight_map": {"a": str(outside)}})
    assert "lacks pytorch_model.bin: download the folder again" in refused(folder)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({}, "has no model_cfg: download it again"),
        ({"model_cfg": []}, "model_cfg must be a JSON object, not []"),
        (open_clip_config(vision_cfg="ViT"), "vision_cfg must be a JSON object, not 'ViT'"),
        (open_clip_config(text_cfg={"heads": 2.0}), "heads must be a whole number above 0, not 2.0"),
        (open_clip_config(vision_cfg={"width": 128, "head_width": 0}), "head_width must be a whole number above 0"),
        (open_clip_config() | {"preprocess_cfg": {"mean": 0.5}}, "mean must be three numbers, not 0.5"),
        # The same weights in another network.
        (open_clip_config(vision_cfg={"pool_type": "avg"}), "sets pool_type: such variants of CLIP are not known here"),
        (open_clip_config(text_cfg={"pool_type": "last", "no_causal_mask": True}), "sets no_causal_mask, pool_type:"),
        (open_clip_config(text_cfg={"norm_kwargs": {"eps": 1e-6}}), "sets norm_kwargs: such variants"),
    ],
)
def test_open_clip_configurations(hollow: State, tmp_path: Path, config: dict[str, Any], sentence: str) -> None:
    torch.save(hollow, tmp_path / "open_clip_pytorch_model.bin")
    write_json(tmp_path / "open_clip_config.json", config)
    assert sentence in refused(tmp_path)
    assert refused(tmp_path / "open_clip_pytorch_model.bin").startswith(str(tmp_path / "open_clip_config.json"))


def test_unsafe_weights_in_a_folder(hollow: State, folder: Path) -> None:
    content = {**hugging_face_state(hollow), "callback": Runs(folder / "made")}
    torch.save(content, folder / "pytorch_model.bin")
    assert f"{folder / 'pytorch_model.bin'} holds more than weights" in refused(folder)
    assert not (folder / "made").exists()
