"""What a training begins with: networks of checkpoints of several layouts, new heads, and new networks."""

from pathlib import Path

import pytest
import torch
from random_checkpoints import Sizes, fusion_state, openai_state, prefixed, with_openai_facts
from torch import nn

from action_clip.errors import ActionClipError
from action_clip.export.choices import FUSIONS
from action_clip.training.finetune.beginning import Wanted, from_checkpoint, from_scratch, new_fusion
from action_clip.training.finetune.sizes import SIZES
from action_clip.training.finetune.towers import Towers

SMALL = Sizes(width=64, layers=1, text_layers=1)


def test_an_official_checkpoint_and_mmaction2s_keep_their_fusion(tmp_path: Path) -> None:
    clip, fusion = openai_state(SMALL), fusion_state("Transf", SMALL.embedding)
    torch.save({"model_state_dict": clip, "fusion_model_state_dict": fusion}, tmp_path / "official.pt")
    torch.save({"state_dict": prefixed(clip, "clip.") | prefixed(fusion, "adapter.")}, tmp_path / "mmaction.pth")
    for name, uniform in (("official.pt", "segments"), ("mmaction.pth", "midpoints")):
        beginning = from_checkpoint(str(tmp_path / name), Wanted(frames=6))
        networks = beginning.networks
        assert beginning.log_scale == 4.5
        assert (networks.fusion_name, networks.frames, networks.checkpoint.uniform) == ("Transf", 6, uniform)
        assert torch.equal(networks.text.token_embedding.weight, clip["token_embedding.weight"])
        places = networks.fusion.get_parameter("frame_position_embeddings.weight")
        assert torch.equal(places, fusion["frame_position_embeddings.weight"])
    with pytest.raises(ActionClipError, match="the checkpoint's fusion is Transf, not LSTM"):
        from_checkpoint(str(tmp_path / "official.pt"), Wanted(fusion="LSTM"))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_clip_gets_a_new_fusion_and_actionclips_evaluation(tmp_path: Path, fusion: str) -> None:
    torch.save(with_openai_facts(openai_state(SMALL)), tmp_path / "clip.pt")
    networks = from_checkpoint(str(tmp_path / "clip.pt"), Wanted(fusion=fusion, frames=5)).networks
    assert (networks.fusion_name, networks.frames, networks.resize, networks.logit_scale) == (fusion, 5, 36, 100.0)
    features = torch.randn(2, 5, SMALL.embedding)
    assert networks.fusion(features).shape == (2, SMALL.embedding)


def test_a_new_fusion_has_the_weights_that_the_published_code_begins_with() -> None:
    fusion = new_fusion("Transf", 256, 8, 4, 3, seed=0)
    for name, weight in fusion.named_parameters():
        if "ln_" in name:
            assert bool((weight == (1.0 if name.endswith("weight") else 0.0)).all())
        elif name.endswith("bias"):
            assert bool((weight == 0).all())
        elif name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
            # Xavier's, over the matrix of all three.
            assert weight.abs().max() <= (6 / (256 + 3 * 256)) ** 0.5
            assert weight.std().item() == pytest.approx((6 / 1024 / 3) ** 0.5, rel=0.02)
        else:
            assert weight.std().item() == pytest.approx(0.02, rel=0.03)
    shift = new_fusion("Conv_1D", 8, 8, 4, 3, seed=0).get_parameter("shift.weight")[:, 0]
    assert shift.tolist() == [[1, 0, 0]] * 2 + [[0, 1, 0]] * 4 + [[0, 0, 1]] * 2
    same, other = (new_fusion("LSTM", 8, 8, 1, 1, seed=seed) for seed in (0, 1))
    first = new_fusion("LSTM", 8, 8, 1, 1, seed=0)
    name = "lstm_visual.weight_ih_l0"
    assert torch.equal(first.get_parameter(name), same.get_parameter(name))
    assert not torch.equal(first.get_parameter(name), other.get_parameter(name))


def test_new_networks_of_a_size() -> None:
    state = torch.random.get_rng_state()
    beginning = from_scratch(SIZES["tiny"], Wanted(frames=6, seed=3))
    assert torch.equal(torch.random.get_rng_state(), state)
    networks = beginning.networks
    assert beginning.log_scale == pytest.approx(2.659, abs=1e-3)
    assert networks.text.token_embedding.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert networks.image.proj.std().item() == pytest.approx(0.125, rel=0.05)
    blocks = [tower.transformer.resblocks[0] for tower in (networks.text, networks.image)]
    for block in blocks:
        assert isinstance(block, nn.Module)
        assert block.get_parameter("attn.q_proj.weight").std().item() == pytest.approx(64**-0.5, rel=0.05)
        assert block.get_parameter("attn.out_proj.weight").std().item() == pytest.approx(256**-0.5, rel=0.05)
        assert block.get_parameter("mlp.c_fc.weight").std().item() == pytest.approx(128**-0.5, rel=0.05)
        assert block.get_parameter("mlp.c_proj.weight").std().item() == pytest.approx(256**-0.5, rel=0.05)
    towers = Towers(networks, beginning.log_scale)
    pixels = torch.zeros(2, 6, 32, 32, 3, dtype=torch.uint8)
    videos, texts, scale = towers(pixels, torch.tensor([[49406, 320, 49407], [49406, 5, 49407]]))
    assert videos.shape == texts.shape == (2, 64)
    assert scale.item() == pytest.approx(1 / 0.07)


@pytest.mark.parametrize(
    ("name", "weights"), [("vit-b-32", 151_277_312), ("vit-b-16", 149_620_736), ("vit-l-14", 427_616_512)]
)
def test_sizes_are_those_of_openais_models(name: str, weights: int) -> None:
    with torch.device("meta"):
        networks = from_scratch(SIZES[name], Wanted(fusion="meanP")).networks
    # The learned factor of cosines is the one that is not in the towers.
    assert sum(weight.numel() for tower in (networks.text, networks.image) for weight in tower.parameters()) == weights


def test_weights_in_training_are_their_own(tmp_path: Path) -> None:
    torch.save(with_openai_facts(openai_state(SMALL)), tmp_path / "clip.pt")
    beginning = from_checkpoint(str(tmp_path / "clip.pt"), Wanted())
    towers = Towers(beginning.networks, beginning.log_scale)
    storages = [weight.untyped_storage() for weight in towers.parameters()]
    assert len({storage.data_ptr() for storage in storages}) == len(storages)
    for weight, storage in zip(towers.parameters(), storages, strict=True):
        assert storage.nbytes() == 4 * weight.numel()
        assert weight.requires_grad
    assert towers.training
