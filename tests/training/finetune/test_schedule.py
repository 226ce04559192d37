"""Learning rates over the epochs, and which weights are trained when."""

import pytest

from action_clip.training.finetune.beginning import Wanted, from_scratch
from action_clip.training.finetune.schedule import make_strategy, rate_factor
from action_clip.training.finetune.sizes import SIZES
from action_clip.training.finetune.towers import Towers, make_optimiser


def test_rates_rise_and_fall_along_a_cosine() -> None:
    found = [rate_factor(epoch, 50, 5) for epoch in (0, 1, 2.5, 5, 27.5, 50, 51)]
    assert found == pytest.approx([0, 0.2, 0.5, 1, 0.5, 0, 0], abs=1e-12)
    assert rate_factor(0, 10, 0) == 1
    assert rate_factor(1.5, 2, 2) == 0.75


@pytest.fixture(scope="module")
def towers() -> Towers:
    beginning = from_scratch(SIZES["tiny"], Wanted())
    return Towers(beginning.networks, beginning.log_scale)


LAST_LAYER = {
    *("text.ln_final.weight", "text.ln_final.bias", "text.text_projection"),
    *("image.ln_post.weight", "image.ln_post.bias", "image.proj"),
}


def trained(towers: Towers) -> set[str]:
    return {name for name, weight in towers.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize(
    ("name", "milestones", "layers", "parts"),
    [
        ("no_freeze", (), None, ["all", "all", "all"]),
        ("freeze", (), None, ["fusion", "fusion", "fusion"]),
        ("freeze_unfreeze", (1,), None, ["fusion", "all", "all"]),
        ("unfreeze_milestones", (1, 2), 1, ["fusion", "last", "all"]),
    ],
)
def test_strategies(
    towers: Towers, name: str, milestones: tuple[int, ...], layers: int | None, parts: list[str]
) -> None:
    every = {name for name, _ in towers.named_parameters()}
    fusion = {name for name in every if name.startswith("fusion.")} | {"logit_scale"}
    last = {name for name in every if ".transformer.resblocks.1." in name} | LAST_LAYER | fusion
    strategy = make_strategy(name, milestones, layers, 4)
    for epoch, part in enumerate(parts):
        strategy.apply(towers, epoch)
        assert trained(towers) == {"all": every, "fusion": fusion, "last": last}[part]


def test_each_weight_has_one_rate(towers: Towers) -> None:
    optimiser = make_optimiser(towers, 1e-4, 2e-4, 3e-3, 0.1)
    rates = {id(weight): group["base_rate"] for group in optimiser.param_groups for weight in group["params"]}
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(rates)
    expected = {"text": 1e-4, "image": 2e-4, "fusion": 3e-3, "logit_scale": 1e-4}
    for name, weight in towers.named_parameters():
        assert rates[id(weight)] == expected[name.partition(".")[0]]
    assert all(group["weight_decay"] == 0.1 and group["betas"] == (0.9, 0.98) for group in optimiser.param_groups)
