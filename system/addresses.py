"""Network addresses: which are opened, and how they are shown without passwords and tokens."""

import os
import re
from urllib.parse import urlsplit

from action_clip.errors import ActionClipError

_SHOWN_DATA = 40  # characters of an address that holds the data itself
# The values of these are secrets: in user:password@host and in ?token=…
_PASSWORD = re.compile(r"((?<=://)|(?<=[ps]:/)(?!/))([^/?#:\s]*):[^/?#\s]*(?=@)")
# The same with characters that should have been written otherwise, such as a slash; a port is no password.
_ODD_PASSWORD = re.compile(r"((?<=://)|(?<=[ps]:/)(?!/))([^/?#:\s\[]*):(?!\*\*\*@)(?!\d{1,5}(?:[/?#\s]|$))[^@\n]*(?=@)")
_SECRET = re.compile(
    r"(?i)([?&;][^=&;#\s]*(?:passw|pwd|token|secret|signature|credential|api_?key)[^=&;#\s]*="
    r"|[?&;](?:sig|key|auth|jwt|pass)=)[^&;#\s]+"
)


def is_offline() -> bool:
    """Whether ACTION_CLIP_OFFLINE forbids every connection."""
    return os.environ.get("ACTION_CLIP_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def is_address(text: str) -> bool:
    """Whether it is an http(s) address, whatever the case of its scheme, and the spaces around it."""
    return re.match(r"\s*https?://", text, re.IGNORECASE) is not None


def is_other_address(text: str) -> bool:
    """Whether it is an address of another kind, where it is no file's name."""
    return re.match(r"\s*([a-z][a-z0-9+.-]+://|(data|blob):)", text, re.IGNORECASE) is not None


def unsupported_address(address: str) -> ActionClipError:
    """The error for such an address; of a file on this machine it names the path."""
    from urllib.request import url2pathname

    here = re.match(r"file://(?:localhost)?(/.*)", address.strip(), re.IGNORECASE)
    hint = f"give its path, {url2pathname(here[1])}" if here else "give one of these or a file"
    return ActionClipError(f"the address {display_address(address)} is neither http nor https; {hint}")


def display_address(address: str) -> str:
    """An address for an error message: without its secrets, and of a data: address only the beginning."""
    address = address.strip()
    is_data = address.lower().startswith("data:")
    return f"{address[:_SHOWN_DATA]}…" if is_data and len(address) > _SHOWN_DATA else redacted(address)


def may_follow(url: str, following: str) -> bool:
    """Whether an address that `url` redirects to, or names, is opened: only http(s), and from https only https.

    Raises ValueError where `following` is no address.
    """
    allowed = ("https",) if urlsplit(url).scheme == "https" else ("http", "https")
    return urlsplit(following).scheme in allowed


def redacted(text: str) -> str:
    """The text with `***` in place of each password and token in an address."""
    for pattern in (_PASSWORD, _ODD_PASSWORD):
        text = pattern.sub(r"\1\2:***", text)
    return _SECRET.sub(r"\1***", text)


def display_name(name: str) -> str:
    """A file name unchanged; an address without its secrets."""
    return redacted(name.strip()) if is_address(name) else name
