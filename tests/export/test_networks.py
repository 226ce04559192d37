"""The networks against transformers' and open_clip's CLIP, and ActionCLIP's parts against PyTorch's own modules."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip_model import reference_clip
from random_checkpoints import Sizes, State, fusion_state, openai_state, prefixed, with_temporal_shift
from reference_networks import reference_blocks
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from action_clip.export.clip.assemble import Networks, assemble
from action_clip.export.clip.checkpoints import read_checkpoint
from action_clip.export.clip.networks import ImageTower, TextTower
from action_clip.export.transformer import Transformer, TransformerConfig, gelu

CLOSE = 1e-5
START, END = 49406, 49407
# Sizes of the towers' layers in ViT-B/32 and ViT-L/14; one layer of each is enough, they are all alike.
B_32 = {"vision": (768, 1, 12, 3072, 224, 32), "text": (512, 1, 8, 2048), "embedding": 512}
L_14 = {"vision": (1024, 1, 16, 4096, 224, 14), "text": (768, 1, 12, 3072), "embedding": 768}


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert expected.abs().max() > 0.1
    assert (found - expected).abs().max().item() < CLOSE


def texts(*lengths: int, padded: int = 77) -> Tensor:
    """Random texts of these lengths, start and end among them, zeros behind."""
    tokens = torch.zeros(len(lengths), padded, dtype=torch.int64)
    for row, length in zip(tokens, lengths, strict=True):
        row[:length] = torch.randint(1, START, (length,))
        row[0], row[length - 1] = START, END
    return tokens


def stirred(model: nn.Module) -> nn.Module:
    """With random weights as large as in trained networks, nothing left at its initial zero or one."""
    for name, weight in model.named_parameters():
        if weight.ndim < 2 or "embedding" in name:
            weight.add_(torch.randn_like(weight), alpha=0.2)
        else:
            weight.copy_(torch.randn_like(weight) * weight[0].numel() ** -0.5)
    return model.eval()


def states(blocks: nn.Module, run: Callable[[], Tensor]) -> tuple[list[Tensor], Tensor]:
    """What goes into the first block and what comes out of each, and what `run` returns."""
    seen: list[Tensor] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not seen:
            seen.append(inputs[0])
        seen.append(output)

    hooks = [block.register_forward_hook(look) for block in blocks.children()]
    result = run()
    for hook in hooks:
        hook.remove()
    return seen, result


def own_states(tower: TextTower | ImageTower, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
    return states(tower.transformer.resblocks, lambda: tower(inputs))


def assert_all_close(
    found: tuple[list[Tensor], Tensor], expected: tuple[Sequence[Tensor], Tensor], position: int | Tensor
) -> None:
    """All states before the last block, what the last block makes of the position that is read, and the result."""
    *states, last = expected[0]
    assert len(found[0]) == len(states) + 1
    last = last[torch.arange(len(last)), position][:, None]
    for ours, theirs in zip([*found[0], found[1]], [*states, last, expected[1]], strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("activation", "sizes", "end"),
    [
        ("quick_gelu", {"vision": (128, 3, 4, 512, 32, 16), "text": (64, 2, 2, 256), "embedding": 48}, END),
        ("gelu", {"vision": (96, 2, 3, 200, 42, 14), "text": (128, 3, 1, 512), "embedding": 64}, 2),
        ("quick_gelu", {"vision": (64, 4, 8, 256, 64, 32), "text": (64, 4, 8, 64), "embedding": 96}, 2),
        pytest.param("quick_gelu", B_32, 2, marks=pytest.mark.slow),
        pytest.param("gelu", L_14, END, marks=pytest.mark.slow),
    ],
    ids=["16", "14", "32", "ViT-B/32", "ViT-L/14"],
)
def test_transformers_clip_layer_for_layer(tmp_path: Path, activation: str, sizes: dict[str, Any], end: int) -> None:
    transformers = pytest.importorskip("transformers")
    width, layers, heads, hidden, image_size, patch = sizes["vision"]
    text_width, text_layers, text_heads, text_hidden = sizes["text"]
    config = transformers.CLIPConfig(
        projection_dim=sizes["embedding"],
        vision_config={
            "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
            "intermediate_size": hidden, "image_size": image_size, "patch_size": patch, "hidden_act": activation,
        },
        text_config={
            "hidden_size": text_width, "num_hidden_layers": text_layers, "num_attention_heads": text_heads,
            "intermediate_size": text_hidden, "hidden_act": activation, "eos_token_id": end, "vocab_size": 49408,
            "max_position_embeddings": 77,
        },
    )  # fmt: skip
    model: Any = stirred(transformers.CLIPModel(config))
    model.save_pretrained(tmp_path)
    networks = assemble(read_checkpoint(tmp_path))

    tokens = texts(3, 9, 30, 77)
    reference = model.text_model(tokens, output_hidden_states=True)
    expected = reference.hidden_states, model.text_projection(reference.pooler_output)
    assert len(expected[0]) == text_layers + 1
    assert_all_close(own_states(networks.text, tokens), expected, tokens.argmax(1))

    frames = torch.randn(3, 3, image_size, image_size)
    reference = model.vision_model(frames, output_hidden_states=True)
    expected = reference.hidden_states, model.visual_projection(reference.pooler_output)
    assert len(expected[0]) == layers + 1
    assert_all_close(own_states(networks.image, frames), expected, 0)


@pytest.mark.parametrize(
    ("quick_gelu", "vision", "text", "embedding"),
    [
        (False, {"width": 128, "layers": 3, "image_size": 32, "patch_size": 16}, {"width": 64, "heads": 2}, 48),
        (
            True,
            {"width": 104, "layers": 2, "head_width": 26, "mlp_ratio": 4.9231, "image_size": 42, "patch_size": 14},
            {"width": 128, "heads": 8},
            64,
        ),
        (True, {"width": 768, "layers": 1, "image_size": 224, "patch_size": 32}, {"width": 512, "heads": 8}, 512),
    ],
    ids=["gelu", "quickgelu", "ViT-B/32"],
)
def test_open_clip_layer_for_layer(
    tmp_path: Path, quick_gelu: bool, vision: dict[str, Any], text: dict[str, Any], embedding: int
) -> None:
    text = {**text, "layers": 2, "vocab_size": 49408, "context_length": 77}
    try:
        model: Any = stirred(reference_clip(embedding, vision, text, quick_gelu=quick_gelu))
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    config = {"embed_dim": embedding, "vision_cfg": vision, "text_cfg": text, "quick_gelu": quick_gelu}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}), "utf-8")
    networks = assemble(read_checkpoint(tmp_path))

    tokens = texts(3, 9, 30, 77)
    expected = states(model.transformer.resblocks, lambda: model.encode_text(tokens))
    assert_all_close(own_states(networks.text, tokens), expected, tokens.argmax(1))

    frames = torch.randn(3, 3, vision["image_size"], vision["image_size"])
    expected = states(model.visual.transformer.resblocks, lambda: model.encode_image(frames))
    assert_all_close(own_states(networks.image, frames), expected, 0)


@pytest.mark.parametrize("norm_last", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("position", [0, 4, torch.tensor([6, 0, 3])], ids=["first", "fifth", "each its own"])
def test_a_position_alone_has_the_state_that_it_has_among_all(
    norm_last: bool, masked: bool, position: int | Tensor
) -> None:
    transformer = stirred(Transformer(TransformerConfig(32, 2, 4, 48), gelu, 1e-5, norm_last))
    x = torch.randn(3, 7, 32)
    mask = torch.full((7, 7), float("-inf")).triu(1) if masked else None
    expected = transformer(x, mask)[torch.arange(3), position]
    found = transformer(x, mask, position)
    assert found.shape == (3, 1, 32)
    assert (found[:, 0] - expected).abs().max().item() < 1e-6 * expected.abs().max().item()


SIZES = Sizes(text_width=128, text_layers=1, embedding=64)


def official(tmp_path: Path, clip: State, fusion: State, frames: int | None = None) -> Networks:
    """The networks of an official checkpoint with these weights."""
    path = tmp_path / "official.pt"
    torch.save({"model_state_dict": clip, "fusion_model_state_dict": fusion}, path)
    return assemble(read_checkpoint(path), frames=frames)


@pytest.fixture(scope="module")
def clip() -> State:
    return openai_state(SIZES)


def test_mean_over_the_frames(tmp_path: Path, clip: State) -> None:
    features = torch.randn(2, 5, SIZES.embedding)
    networks = official(tmp_path, clip, {})
    assert networks.fusion_name == "meanP"
    assert_close(networks.fusion(features), torch.einsum("ntd->nd", features) / 5)


@pytest.mark.parametrize("frames", [3, 8])
def test_convolution_reads_its_input_untransposed(tmp_path: Path, clip: State, frames: int) -> None:
    fusion = fusion_state("Conv_1D", SIZES.embedding)
    features = torch.randn(2, frames, SIZES.embedding)
    networks = official(tmp_path, clip, fusion)
    assert networks.fusion_name == "Conv_1D"

    width = SIZES.embedding
    convolution = nn.Conv1d(width, width, 3, padding=1, groups=width, bias=False)
    convolution.load_state_dict({"weight": fusion["shift.weight"]})
    mixed = convolution(features.view(-1, width, frames)).permute(0, 2, 1)
    assert_close(networks.fusion(features), torch.mean(mixed + features, dim=1))


def test_lstm_added_to_the_frames(tmp_path: Path, clip: State) -> None:
    fusion = fusion_state("LSTM", SIZES.embedding)
    features = torch.randn(3, 6, SIZES.embedding)
    networks = official(tmp_path, clip, fusion)
    assert networks.fusion_name == "LSTM"

    cell = nn.LSTMCell(SIZES.embedding, SIZES.embedding)
    cell.load_state_dict(
        {n[12:-3]: value for n, value in fusion.items() if n.startswith("lstm_visual.") and n.endswith("_l0")}
    )
    state = torch.zeros(3, SIZES.embedding), torch.zeros(3, SIZES.embedding)
    total = torch.zeros(3, SIZES.embedding)
    for frame in features.unbind(1):
        state = cell(frame, state)
        total += state[0] + frame
    assert_close(networks.fusion(features), total / 6)


@pytest.mark.parametrize(("layout", "epsilon"), [("ActionCLIP", 1e-12), ("mmaction2 ActionCLIP", 1e-5)])
def test_transformer_over_the_frames(tmp_path: Path, clip: State, layout: str, epsilon: float) -> None:
    fusion = fusion_state("Transf", SIZES.embedding, positions=77 if layout == "ActionCLIP" else 8)
    # So small that the norms' epsilon shows.
    fusion["frame_position_embeddings.weight"] *= 0.01
    features = torch.randn(2, 8, SIZES.embedding) * 0.005
    if layout == "ActionCLIP":
        networks = official(tmp_path, clip, fusion)
    else:
        torch.save({"state_dict": prefixed(clip, "clip.") | prefixed(fusion, "adapter.")}, tmp_path / "mmaction.pth")
        networks = assemble(read_checkpoint(tmp_path / "mmaction.pth"))
    assert (networks.fusion_name, networks.checkpoint.layout, networks.frames) == ("Transf", layout, 8)

    def reference(epsilon: float) -> Tensor:
        x = (features + fusion["frame_position_embeddings.weight"][:8]).transpose(0, 1)
        # As many heads as the text tower: 128 / 64, though the fusion is 64 wide.
        for block in reference_blocks(fusion, "transformer.", 6, 2, epsilon):
            x = block(x)
        return (x.transpose(0, 1) + features).mean(1)

    assert_close(networks.fusion(features), reference(epsilon))
    assert (reference(1e-12) - reference(1e-5)).abs().max() > 0.01


def test_transformer_with_a_class_token(tmp_path: Path, clip: State) -> None:
    fusion = fusion_state("Transf_cls", SIZES.embedding, frames=5)
    features = torch.randn(3, 5, SIZES.embedding)
    networks = official(tmp_path, clip, fusion)
    assert (networks.fusion_name, networks.frames) == ("Transf_cls", 5)

    width = SIZES.embedding
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(width, 8), 6, nn.LayerNorm(width), enable_nested_tensor=False
    )
    prefix = "transformer.transformer_enc."
    encoder.eval().load_state_dict({n.removeprefix(prefix): v for n, v in fusion.items() if n.startswith(prefix)})
    token, places = fusion["transformer.cls_token"][0], fusion["transformer.pos_embed"][0]
    sequences = torch.stack([torch.cat([token, clip_features]) + places for clip_features in features], dim=1)
    assert_close(networks.fusion(features), encoder(sequences)[0])


def reference_embedding(state: State, frame: Tensor) -> Tensor:
    """(3, S, S) → (1 + P, W): class token and patches with their places."""
    patch = state["visual.conv1.weight"].shape[-1]
    pixels = functional.unfold(frame[None], patch, stride=patch)[0]
    patches = (state["visual.conv1.weight"].flatten(1) @ pixels).T
    return torch.cat([state["visual.class_embedding"][None], patches]) + state["visual.positional_embedding"]


def reference_norm(state: State, name: str, x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


@pytest.mark.parametrize("frames", [2, 4])
def test_temporal_shift(tmp_path: Path, clip: State, frames: int) -> None:
    fold = SIZES.width // 8
    clips = torch.randn(2 * frames, 3, SIZES.image_size, SIZES.image_size)
    networks = official(tmp_path, with_temporal_shift(clip), {}, frames)
    assert (networks.image.temporal, networks.frames) == ("shift", frames)

    expected = []
    for start in (0, frames):
        # One (1 + P, W) for each frame of the clip.
        x = [
            reference_norm(clip, "visual.ln_pre", reference_embedding(clip, clips[start + frame]))
            for frame in range(frames)
        ]
        for block in reference_blocks(clip, "visual.transformer.", SIZES.layers, 2, 1e-5):
            shifted = [state.clone() for state in x]
            for frame, state in enumerate(shifted):
                state[1:, :fold] = x[frame + 1][1:, :fold] if frame + 1 < frames else 0
                state[1:, fold : 2 * fold] = x[frame - 1][1:, fold : 2 * fold] if frame else 0
            x = [block(state[:, None])[:, 0] for state in shifted]
        expected += [reference_norm(clip, "visual.ln_post", state[0]) @ clip["visual.proj"] for state in x]
    assert_close(networks.image(clips), torch.stack(expected))


def test_joint_attention(tmp_path: Path, clip: State) -> None:
    frames = 3
    clip = {**clip, "visual.time_embedding": torch.randn(frames, SIZES.width)}
    clips = torch.randn(2 * frames, 3, SIZES.image_size, SIZES.image_size)
    networks = official(tmp_path, clip, {})
    assert (networks.image.temporal, networks.frames) == ("joint", frames)

    expected = []
    for start in (0, frames):
        embedded = [reference_embedding(clip, clips[start + frame]) for frame in range(frames)]
        rows = [embedded[0][0]]
        for time, frame in zip(clip["visual.time_embedding"], embedded, strict=True):
            rows += [patch + time for patch in frame[1:]]
        x = reference_norm(clip, "visual.ln_pre", torch.stack(rows))[:, None]
        for block in reference_blocks(clip, "visual.transformer.", SIZES.layers, 2, 1e-5):
            x = block(x)
        expected += [reference_norm(clip, "visual.ln_post", x[0, 0]) @ clip["visual.proj"]] * frames
    found = networks.image(clips)
    assert_close(found, torch.stack(expected))
    assert_close(networks.fusion(found.reshape(2, frames, -1)), torch.stack([expected[0], expected[frames]]))


def test_tokens_in_both_types(tmp_path: Path, clip: State) -> None:
    text = official(tmp_path, clip, {}).text
    tokens = texts(4, 12, 77)
    assert torch.equal(text(tokens), text(tokens.int()))


def test_a_text_is_read_at_its_end_and_not_behind(tmp_path: Path, clip: State) -> None:
    text = official(tmp_path, clip, {}).text
    tokens = texts(7, 12, padded=20)
    features = text(tokens)
    behind = tokens.clone()
    behind[0, 7:], behind[1, 12:] = 320, 5000
    assert_close(text(behind), features)
    assert_close(text(functional.pad(tokens, (0, 57))), features)
    assert_close(text(tokens[:, :12]), features)
    before = tokens.clone()
    before[:, 1] = 320
    changed = (text(before) - features).abs().amax(1)
    assert (changed > 0.01).all()
