"""TimeSformer against transformers', in every layout, and exported."""

import hashlib
import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import assert_same_network
from random_checkpoints import State, prefixed
from random_timesformer import (
    TimeSformerSizes,
    hugging_face_timesformer,
    mmaction_timesformer,
    original_state,
    timesformer_config,
)
from safetensors.torch import save_file
from torch import Tensor, nn

from action_clip.errors import ActionClipError
from action_clip.export.checkpoint_reading import Preprocessing
from action_clip.export.timesformer.checkpoints import TimeSformerCheckpoint, assemble_timesformer, read_timesformer
from action_clip.export.timesformer.networks import ATTENTIONS, TimeSformer
from action_clip.export.transformer import Attention

CLOSE = 1e-5
SIZES = TimeSformerSizes()
OTHER_SIZES = TimeSformerSizes(image_size=42, patch=14, frames=4, width=96, layers=3, hidden=100, classes=7)
# Of ViT-B; one layer is enough, they are all alike.
BASE = TimeSformerSizes(image_size=224, frames=8, width=768, layers=1, hidden=3072, classes=400)
MINE = Preprocessing(None, (0.45, 0.45, 0.45), (0.225, 0.225, 0.225))


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a checkpoint goes."""
    return tmp_path / "checkpoint.pyth"


def clips(sizes: TimeSformerSizes, count: int = 2) -> Tensor:
    return torch.randn(count, sizes.frames, 3, sizes.image_size, sizes.image_size)


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), "utf-8")


def read(path: Path, *, trust: bool = False) -> TimeSformer:
    return assemble_timesformer(read_timesformer(path, trust=trust))


def refused(path: Path) -> str:
    """The sentence that says why."""
    with pytest.raises(ActionClipError) as caught:
        read(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


# The network


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert expected.abs().max() > 0.1
    assert (found - expected).abs().max().item() < CLOSE


def states(network: TimeSformer, frames: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """What goes into the first block and what comes out of each; logits; features."""
    seen: list[Tensor] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not seen:
            seen.append(inputs[0])
        seen.append(output)

    hooks = [block.register_forward_hook(look) for block in network.resblocks]
    logits, features = network(frames)
    for hook in hooks:
        hook.remove()
    return seen, logits, features


@pytest.mark.parametrize(
    ("attention", "sizes", "heads", "epsilon"),
    [
        *((attention, SIZES, 2, 1e-6) for attention in ATTENTIONS),
        *((attention, OTHER_SIZES, 3, 1e-3) for attention in ATTENTIONS),
        pytest.param("divided_space_time", BASE, 12, 1e-6, marks=pytest.mark.slow),
    ],
)
def test_transformers_layer_for_layer(
    tmp_path: Path, attention: str, sizes: TimeSformerSizes, heads: int, epsilon: float
) -> None:
    transformers = pytest.importorskip("transformers")
    config = timesformer_config(attention, sizes, num_attention_heads=heads, layer_norm_eps=epsilon)
    model: Any = transformers.TimesformerForVideoClassification(transformers.TimesformerConfig(**config)).eval()
    model.load_state_dict(hugging_face_timesformer(original_state(attention, sizes)))
    model.save_pretrained(tmp_path)
    network = read(tmp_path)

    frames = clips(sizes)
    seen, logits, features = states(network, frames)
    reference = model(frames, output_hidden_states=True)
    assert len(reference.hidden_states) == sizes.layers + 1
    *states_before, last = reference.hidden_states
    # The last block computes the class token only.
    for found, expected in zip(seen, [*states_before, last[:, :1]], strict=True):
        assert_close(found, expected)
    if attention == "space_only":
        # transformers leaves out the mean over the frames that the original takes before its last norm.
        last = last.unflatten(0, (2, sizes.frames)).mean(1)
        assert len(reference.logits) == 2 * sizes.frames
    else:
        assert_close(logits, reference.logits)
    expected = model.timesformer.layernorm(last)[:, 0]
    assert_close(features, expected)
    assert_close(logits, model.classifier(expected))
    assert logits.shape == (2, sizes.classes)
    assert (logits[0] - logits[1]).abs().max() > 0.01


# Layouts


@dataclass(frozen=True)
class Facts:
    """What a checkpoint is found to be; the defaults are those of an original one of SIZES."""

    layout: str = "TimeSformer"
    attention: str = "divided_space_time"
    frames: int = 3
    heads: int = 2
    epsilon: float = 1e-6
    preprocessing: Preprocessing = MINE
    class_names: tuple[str, ...] | None = None


def assert_facts(checkpoint: TimeSformerCheckpoint, facts: Facts, *files: Path) -> None:
    network = assemble_timesformer(checkpoint)
    attention, norm = network.get_submodule("resblocks.1.attn"), network.get_submodule("resblocks.1.ln_2")
    assert isinstance(attention, Attention)
    assert isinstance(norm, nn.LayerNorm)
    assert norm.eps == network.norm.eps
    found = Facts(
        checkpoint.layout, network.attention, network.frames, attention.heads, norm.eps, checkpoint.preprocessing,
        checkpoint.class_names,
    )  # fmt: skip
    assert found == facts
    assert network.image_size == 32
    assert checkpoint.sha256 == hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in network.parameters())


def assert_same(found: TimeSformerCheckpoint, expected: TimeSformerCheckpoint) -> None:
    """Both are of the same network, whose outputs differ from clip to clip."""
    own, other = assemble_timesformer(found), assemble_timesformer(expected)
    assert_same_network(own, other)
    frames = torch.randn(2, other.frames, 3, 32, 32)
    for ours, theirs in zip(own(frames), other(frames), strict=True):
        assert (ours - theirs).abs().max() <= 1e-5
        assert (ours[0] - ours[1]).abs().max() > 0.01


def plain(folder: Path, state: State) -> TimeSformerCheckpoint:
    """Of these weights in float32, from a folder of Hugging Face's without anything beside them."""
    path = folder / "plain" / "model.safetensors"
    path.parent.mkdir()
    save_file({name: value.float() for name, value in hugging_face_timesformer(state).items()}, path)
    return read_timesformer(path)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("stored", ["as trained", "half", "legacy", "module"])
def test_original(file: Path, tmp_path: Path, attention: str, stored: str) -> None:
    state = original_state(attention)
    if stored == "half":
        state = {name: value.half() for name, value in state.items()}
    content = {
        "epoch": 14,
        "model_state": prefixed(state, "module.") if stored == "module" else state,
        "optimizer_state": {"state": {0: {"step": 7}}, "param_groups": [{"lr": 5e-5, "params": [0]}]},
        "cfg": "TIMESFORMER:\n  ATTENTION_TYPE: divided_space_time\n",
    }
    torch.save(content, file, _use_new_zipfile_serialization=stored != "legacy")
    checkpoint = read_timesformer(file)
    # Space-only weights do not tell how many frames there are.
    facts = Facts(attention=attention, frames=8 if attention == "space_only" else 3)
    assert_facts(checkpoint, facts, file)
    assert_same(checkpoint, plain(tmp_path, state))


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_mmaction2(file: Path, tmp_path: Path, attention: str) -> None:
    state = original_state(attention)
    torch.save({"meta": {"epoch": 15, "mmcv_version": "1.4.0"}, "state_dict": mmaction_timesformer(state)}, file)
    checkpoint = read_timesformer(file)
    facts = Facts(
        "mmaction2 TimeSformer",
        attention,
        frames=8 if attention == "space_only" else 3,
        preprocessing=Preprocessing(None, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    )
    assert_facts(checkpoint, facts, file)
    assert_same(checkpoint, plain(tmp_path, state))


def save_hugging_face(folder: Path, attention: str = "divided_space_time", **config: Any) -> None:
    save_file(hugging_face_timesformer(original_state(attention)), folder / "model.safetensors")
    write_json(folder / "config.json", timesformer_config(attention, **config))


HUGGING_FACE = Facts("Hugging Face TimeSformer")


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("given", ["folder", "file"])
def test_hugging_face_folder(tmp_path: Path, attention: str, given: str) -> None:
    save_hugging_face(tmp_path, attention, num_attention_heads=4, layer_norm_eps=1e-4)
    weights = tmp_path / "model.safetensors"
    checkpoint = read_timesformer(tmp_path if given == "folder" else weights)
    assert_facts(checkpoint, replace(HUGGING_FACE, attention=attention, heads=4, epsilon=1e-4), weights)
    expected = plain(tmp_path, original_state(attention))
    assert_same(checkpoint, replace(expected, heads=4, epsilon=1e-4, frames=3))
    frames = clips(SIZES)
    assert not torch.equal(
        assemble_timesformer(checkpoint)(frames)[0], assemble_timesformer(replace(expected, frames=3))(frames)[0]
    )


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_hugging_face_weights_alone(tmp_path: Path, attention: str) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save(hugging_face_timesformer(original_state(attention)), path)
    facts = replace(HUGGING_FACE, attention=attention, frames=8 if attention == "space_only" else 3)
    assert_facts(read_timesformer(path), facts, path)


def test_hugging_face_shards(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.TimesformerForVideoClassification(transformers.TimesformerConfig(**timesformer_config()))
    model.load_state_dict(hugging_face_timesformer(original_state()))
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    files = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(files) > 1
    checkpoint = read_timesformer(tmp_path)
    assert_facts(checkpoint, HUGGING_FACE, *files)
    assert_same(checkpoint, plain(tmp_path, original_state()))


def test_hugging_face_weights_as_pickles(tmp_path: Path) -> None:
    state = hugging_face_timesformer(original_state())
    names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    where = {name: names[place % 2] for place, name in enumerate(state)}
    for part in names:
        torch.save({name: state[name] for name in state if where[name] == part}, tmp_path / part)
    write_json(tmp_path / "pytorch_model.bin.index.json", {"weight_map": where})
    write_json(tmp_path / "config.json", {"model_type": "timesformer", "num_attention_heads": 2})
    checkpoint = read_timesformer(tmp_path)
    assert_facts(checkpoint, HUGGING_FACE, *(tmp_path / part for part in names))
    assert_same(checkpoint, plain(tmp_path, original_state()))


def test_hugging_faces_own_defaults(tmp_path: Path) -> None:
    state = original_state("space_only", TimeSformerSizes(width=96, layers=1))
    torch.save(hugging_face_timesformer(state), tmp_path / "pytorch_model.bin")
    write_json(tmp_path / "config.json", {"model_type": "timesformer", "id2label": None})
    checkpoint = read_timesformer(tmp_path)
    found = checkpoint.attention, checkpoint.heads, checkpoint.epsilon, checkpoint.frames, checkpoint.class_names
    assert found == ("divided_space_time", 12, 1e-6, 8, None)
    assert "lacks time_embed" in refused(tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "timesformer", "attention_type": "space_only"})
    assert (read(tmp_path).frames, read(tmp_path).attention) == (8, "space_only")


@pytest.mark.parametrize(
    ("own", "preprocessing"),
    [
        (
            {"size": {"shortest_edge": 40}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.25, 0.2, 0.15]},
            Preprocessing(40, (0.5, 0.4, 0.3), (0.25, 0.2, 0.15)),
        ),
        ({"size": 48, "image_mean": None}, replace(MINE, resize=48)),
        ({"size": {"height": 32, "width": 32}, "image_std": [0.5] * 3}, replace(MINE, std=(0.5, 0.5, 0.5))),
    ],
)
def test_hugging_face_preprocessing(tmp_path: Path, own: dict[str, Any], preprocessing: Preprocessing) -> None:
    save_hugging_face(tmp_path)
    write_json(tmp_path / "preprocessor_config.json", own)
    facts = replace(HUGGING_FACE, preprocessing=preprocessing)
    assert_facts(read_timesformer(tmp_path), facts, tmp_path / "model.safetensors")
    (tmp_path / "config.json").unlink()
    assert_facts(read_timesformer(tmp_path / "model.safetensors"), facts, tmp_path / "model.safetensors")


def test_hugging_face_class_names(tmp_path: Path) -> None:
    names = ("archery", "bowling", "juggling balls", "LABEL_3", "zumba")
    save_hugging_face(tmp_path, id2label={str(number): names[number] for number in (4, 0, 2, 1, 3)})
    facts = replace(HUGGING_FACE, class_names=names)
    assert_facts(read_timesformer(tmp_path), facts, tmp_path / "model.safetensors")


# What is refused


def test_weights_missing_left_over_and_of_another_shape(file: Path) -> None:
    state = original_state()
    del state["model.norm.bias"], state["model.blocks.1.temporal_attn.qkv.weight"]
    state["model.blocks.0.norm1.scale"] = torch.ones(3)
    state["model.time_embed_extra"] = torch.ones(3)
    state["model.pos_embed"] = torch.ones(1, 7, 128)
    state["model.head.bias"] = torch.ones(6)
    state["model.blocks.0.attn.qkv.bias"] = torch.ones(383)
    torch.save({"model_state": state}, file)
    weights = ", ".join(f"resblocks.1.temporal_attn.{letter}_proj.weight" for letter in "qkv")
    biases = ", ".join(f"resblocks.0.attn.{letter}_proj.bias" for letter in "qkv")
    assert refused(file) == (
        f"the checkpoint lacks {biases}, {weights}, norm.bias; it has left over resblocks.0.attn.in_proj_bias, "
        "resblocks.0.ln_1.scale, time_embed_extra; it has pos_embed 1×7×128 instead of 1×5×128, head.bias 6 instead of "
        "5: it is not of a model that is known here"
    )


def test_weights_that_contradict_the_configuration(tmp_path: Path) -> None:
    save_hugging_face(tmp_path)
    write_json(tmp_path / "config.json", timesformer_config("joint_space_time"))
    assert refused(tmp_path).startswith("the checkpoint has left over resblocks.0.temporal_attn.q_proj.bias, ")
    write_json(tmp_path / "config.json", timesformer_config("space_only"))
    assert "resblocks.1.temporal_ln.weight" in refused(tmp_path)
    assert "time_embed" in refused(tmp_path)
    save_hugging_face(tmp_path, "joint_space_time")
    write_json(tmp_path / "config.json", timesformer_config("divided_space_time"))
    assert refused(tmp_path).startswith("the checkpoint lacks resblocks.0.temporal_ln.weight, ")


def test_no_classifier(tmp_path: Path) -> None:
    # transformers' TimesformerModel: by its names, the prefix is missing too.
    state = hugging_face_timesformer(original_state())
    bare = {name.removeprefix("timesformer."): value for name, value in state.items() if "classifier" not in name}
    save_file(bare, tmp_path / "model.safetensors")
    write_json(tmp_path / "config.json", timesformer_config())
    assert refused(tmp_path).startswith("the checkpoint lacks head.weight: ")


@pytest.mark.parametrize(
    ("name", "shape", "fault"),
    [
        ("model.head.weight", (5,), "head.weight has the shape 5, not 2 dimensions"),
        ("model.pos_embed", (5, 128), "pos_embed has the shape 5×128, not 3 dimensions"),
        ("model.time_embed", (1, 0, 128), "time_embed has the shape 1×0×128, not 3 dimensions"),
        ("model.patch_embed.proj.weight", (128, 3), "conv1.weight has the shape 128×3, not 4 dimensions"),
        ("model.patch_embed.proj.weight", (128, 4, 16, 16), "conv1.weight 128×4×16×16 instead of 128×3×16×16"),
        ("model.cls_token", (128,), "cls_token 128 instead of 1×1×128"),
    ],
)
def test_weights_of_strange_shapes(file: Path, name: str, shape: tuple[int, ...], fault: str) -> None:
    torch.save({"model_state": {**original_state(), name: torch.ones(shape)}}, file)
    assert fault in refused(file)


@pytest.mark.parametrize(
    ("own", "fault"),
    [
        (
            {"model_type": "videomae"},
            "holds a model of type 'videomae', not 'timesformer': give a TimesformerForVideoClassification's folder",
        ),
        ({"model_type": None}, "holds a model of type None, not 'timesformer'"),
        ({"hidden_act": "relu"}, "has the activation 'relu': only gelu is known"),
        (
            {"attention_type": "axial"},
            "attention_type must be one of divided_space_time, joint_space_time, space_only, not 'axial'",
        ),
        ({"num_attention_heads": 0}, "num_attention_heads must be a whole number above 0, not 0"),
        ({"num_attention_heads": 3}, "a width of 128 cannot be divided among 3 attention heads"),
        ({"layer_norm_eps": "tiny"}, "layer_norm_eps must be a number, not 'tiny'"),
        ({"layer_norm_eps": 0}, "layer_norm_eps must be a number above 0, not 0"),
        ({"num_frames": 1025}, "num_frames must be a whole number from 1 to 1024, not 1025"),
        ({"id2label": ["archery"]}, "id2label must be a JSON object, not ['archery']"),
        ({"id2label": {"1": "archery"}}, "id2label must be an object of names by number, from 0 on, not {'1': "),
        ({"id2label": {"0": "archery", "1": 7}}, "id2label must be a text, not "),
        ({"id2label": {"0": "archery", "1": "bowling"}}, "the checkpoint names 2 classes but tells 5 apart"),
    ],
)
def test_configurations_that_do_not_fit(tmp_path: Path, own: dict[str, Any], fault: str) -> None:
    save_hugging_face(tmp_path, **own)
    assert fault in refused(tmp_path)
    assert fault in refused(tmp_path / "model.safetensors")


def test_preprocessing_that_does_not_fit(tmp_path: Path) -> None:
    save_hugging_face(tmp_path)
    write_json(tmp_path / "preprocessor_config.json", {"image_std": [0.2, 0, 0.2]})
    assert "image_std must be three numbers above 0, not [0.2, 0, 0.2]" in refused(tmp_path)
    write_json(tmp_path / "preprocessor_config.json", [])
    assert "preprocessor_config.json holds no JSON object" in refused(tmp_path)


def test_folders_that_hold_no_checkpoint(tmp_path: Path) -> None:
    assert refused(tmp_path / "none").startswith(f"there is no checkpoint {tmp_path / 'none'}: ")
    needs = "is no checkpoint: it needs config.json with model.safetensors or pytorch_model.bin (Hugging Face)"
    assert refused(tmp_path) == f"{tmp_path} {needs}"
    write_json(tmp_path / "config.json", timesformer_config())
    assert refused(tmp_path) == f"{tmp_path} {needs}"
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"classifier.weight": "model-1.safetensors"}})
    assert "lacks model-1.safetensors" in refused(tmp_path)


@pytest.mark.parametrize(
    "state",
    [
        {"fc.weight": torch.ones(2, 2)},
        # Of an image classifier, and of another network of mmaction2.
        {name.removeprefix("model."): value for name, value in original_state("space_only").items()},
        {"backbone.layer1.weight": torch.ones(2, 2), "cls_head.fc_cls.weight": torch.ones(5, 2)},
    ],
)
def test_unknown_layouts(file: Path, state: State) -> None:
    fault = "is not of a TimeSformer: give a checkpoint of the original code, of mmaction2 or of Hugging Face"
    for content in (state, {"state_dict": state}, {"model_state": state}):
        torch.save(content, file)
        assert refused(file) == f"{file} {fault}"


class Unsafe:
    """What the safe reader refuses."""


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ([1, 2], "holds an object of type list, not a checkpoint"),
        ({"model_state": [1, 2]}, "holds no state dict"),
        ({"model_state": {"model.cls_token": 3}}, "holds no state dict ('model.cls_token' is of type int"),
        ({"model_state": {"cfg": Unsafe()}}, "holds more than weights (test_timesformer.Unsafe)"),
    ],
)
def test_files_that_hold_something_else(file: Path, content: Any, fault: str) -> None:
    torch.save(content, file)
    assert fault in refused(file)


def test_damaged_files(file: Path) -> None:
    file.write_bytes(b"\x80\x02nothing")
    assert refused(file).startswith(f"{file} is ")
    file.write_bytes(pickle.dumps({"model_state": 3}, 2))
    assert refused(file).startswith(f"{file} is ")
    file.write_text("<!DOCTYPE html><title>Sign in</title>", "utf-8")
    assert "is a web page, not a checkpoint" in refused(file)


@pytest.mark.parametrize("trust", [False, True])
def test_objects_beside_the_weights(file: Path, trust: bool) -> None:
    torch.save({"model_state": original_state(), "cfg": Unsafe()}, file)
    assert read(file, trust=trust).frames == 3
