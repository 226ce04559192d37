"""Providers that this machine does not have."""

import pytest
from fake_providers import Change, Providers, install


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Providers:
    """Give onnxruntime providers, as `install` does."""

    def providers(**kinds: Change | None) -> list[str]:
        return install(monkeypatch, kinds)

    return providers
