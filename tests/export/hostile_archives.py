"""TorchScript archives that run code of their own when they are loaded."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from random_checkpoints import module_of
from torch import Tensor, nn

Saved = tuple[Tensor, bool, str]


class _Writes(nn.Module):
    """Writes a file when it is loaded."""

    weight: Tensor

    def __init__(self, target: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.target = target

    def forward(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> Saved:
        return self.weight, self.training, self.target

    @torch.jit.export
    def __setstate__(self, state: Saved) -> None:
        self.weight = state[0]
        self.training = state[1]
        self.target = state[2]
        torch.save(state[0], self.target)


class _Fills(_Writes):
    """Creates a file of any bytes when it is loaded."""

    @torch.jit.export
    def __setstate__(self, state: Saved) -> None:
        self.training = state[1]
        self.target = state[2]
        self.weight = torch.from_file(self.target, True, 4).fill_(1.0)


class _Loops(_Writes):
    """Writes a file, and then is never loaded."""

    @torch.jit.export
    def __setstate__(self, state: Saved) -> None:
        self.weight = state[0]
        self.training = state[1]
        self.target = state[2]
        torch.save(state[0], self.target)
        while True:
            self.weight = self.weight + 1


class _Note:
    """An object that is no module, and writes a file when it is loaded."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __getstate__(self) -> str:
        return self.target

    def __setstate__(self, target: str) -> None:
        self.target = target
        torch.save(torch.ones(3), target)


class _Carries(nn.Module):
    """A module with such an object among its attributes."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.note = _Note(target)

    def forward(self, x: Tensor) -> Tensor:
        return x


HOSTILE = {"writes": _Writes, "fills": _Fills, "loops": _Loops}


def save_hostile(state: Mapping[str, Tensor], path: Path, kind: str, target: Path) -> None:
    """An archive of a module with these weights and one more, which runs its code when it is loaded.

    Args:
        state: of the module; see module_of.
        path: of the archive.
        kind: one of HOSTILE, or "carries", where what runs code is no module.
        target: the file that it writes.
    """
    with warnings.catch_warnings():
        # TorchScript is on its way out, its archives are not.
        warnings.simplefilter("ignore")
        module = module_of(state)
        if kind == "carries":
            torch.jit.script(_Note)
            module.add_module("carrier", _Carries(str(target)))
        else:
            module.add_module("hostile", HOSTILE[kind](str(target)))
        torch.jit.save(torch.jit.script(module), path)
