"""Connecting to other hosts: whether that is allowed, and redirects that never leave https."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

if TYPE_CHECKING:
    import requests

REDIRECTS = 5


class RedirectError(Exception):
    """The server redirects to where we do not go; the text is the reason."""


def is_offline() -> bool:
    """Whether ACTION_CLIP_OFFLINE forbids every connection."""
    return os.environ.get("ACTION_CLIP_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def get(url: str, headers: Mapping[str, str], timeout_s: tuple[float, float]) -> "requests.Response":
    """The answer after redirects, its body not yet read; the caller closes it.

    Args:
        url: http or https; what begins as https stays https.
        headers: of every request.
        timeout_s: seconds to connect, and between any two bytes.

    Raises:
        RedirectError: a redirect from https to something else, to neither http nor https, or too many of them.
        requests.RequestException: the request fails.
    """
    import requests

    for _ in range(REDIRECTS + 1):
        response = requests.get(url, headers=headers, stream=True, allow_redirects=False, timeout=timeout_s)
        if not response.is_redirect:
            return response
        response.close()
        following = urljoin(url, response.headers["Location"])
        allowed = ("https",) if urlsplit(url).scheme == "https" else ("http", "https")
        if urlsplit(following).scheme not in allowed:
            raise RedirectError(f"the server redirects to {following}, which is not {' or '.join(allowed)}")
        url = following
    raise RedirectError(f"the server redirects more than {REDIRECTS} times")
