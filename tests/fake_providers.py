"""Providers that this machine does not have, played by the CPU's."""

from collections.abc import Callable
from typing import Any

import onnxruntime
import pytest

CPU = "CPUExecutionProvider"
Providers = Callable[..., list[str]]
Change = Callable[[list[Any]], list[Any]]


class Session:
    """A session on the CPU that says it is on another provider, and gives `outputs` where there are some."""

    def __init__(self, session: Any, name: str, outputs: Change) -> None:
        self._session = session
        self._name = name
        self._outputs = outputs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def get_providers(self) -> list[str]:
        return [self._name, CPU]

    def run(self, *arguments: Any) -> list[Any]:
        return self._outputs(self._session.run(*arguments))

    def io_binding(self) -> Any:
        return Binding(self._session.io_binding(), self._outputs)

    def run_with_iobinding(self, binding: "Binding", *arguments: Any) -> None:
        self._session.run_with_iobinding(binding.binding, *arguments)


class Binding:
    """A binding on the CPU whose outputs are those that `outputs` makes of them."""

    def __init__(self, binding: Any, outputs: Change) -> None:
        self.binding = binding
        self._outputs = outputs

    def __getattr__(self, name: str) -> Any:
        return getattr(self.binding, name)

    def copy_outputs_to_cpu(self) -> list[Any]:
        return self._outputs(self.binding.copy_outputs_to_cpu())


def install(monkeypatch: pytest.MonkeyPatch, kinds: dict[str, Change | None]) -> list[str]:
    """Give onnxruntime providers, each with what its sessions do, or None where none can be made; → those tried."""
    make = onnxruntime.InferenceSession
    tried = []

    def session(graph: Any, options: Any, *, providers: list[str], **named: Any) -> Any:
        [name] = providers
        if name == CPU:
            return make(graph, options, providers=providers, **named)
        tried.append(name)
        outputs = kinds[name]
        if outputs is None:
            raise RuntimeError("libcublasLt.so.12: cannot open shared object file")
        return Session(make(graph, options, providers=[CPU], **named), name, outputs)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*kinds, "AzureExecutionProvider", CPU])
    return tried
