"""Network addresses: which of them are opened, and showing them without passwords and tokens."""

import os
import re
from urllib.parse import urlsplit

from action_clip.errors import ActionClipError

_SHOWN_DATA = 40  # characters shown of a data: address
# The password in user:password@host. _SECRET finds values such as that of ?token=….
_PASSWORD = re.compile(r"((?<=://)|(?<=[ps]:/)(?!/))([^/?#:\s]*):[^/?#\s]*(?=@)")
# A password with characters that should have been escaped, such as a slash; a port number is no password.
_ODD_PASSWORD = re.compile(r"((?<=://)|(?<=[ps]:/)(?!/))([^/?#:\s\[]*):(?!\*\*\*@)(?!\d{1,5}(?:[/?#\s]|$))[^@\n]*(?=@)")
_SECRET = re.compile(
    r"(?i)([?&;][^=&;#\s]*(?:passw|pwd|token|secret|signature|credential|api_?key)[^=&;#\s]*="
    r"|[?&;](?:sig|key|auth|jwt|pass)=)[^&;#\s]+"
)


def is_offline() -> bool:
    """Return whether ACTION_CLIP_OFFLINE forbids every connection."""
    return os.environ.get("ACTION_CLIP_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def is_address(text: str) -> bool:
    """Return whether `text` is an http(s) address, with its scheme in any case and with or without spaces around it."""
    return re.match(r"\s*https?://", text, re.IGNORECASE) is not None


def is_live_address(text: str) -> bool:
    """Return whether `text` is an address of a live stream by its scheme, in any case."""
    return re.match(r"\s*(rtsps?|rtmps?|udp)://", text, re.IGNORECASE) is not None


def is_other_address(text: str) -> bool:
    """Return whether `text`, which is neither an http(s) address nor an existing file, is an address at all."""
    return re.match(r"\s*([a-z][a-z0-9+.-]+://|(data|blob):)", text, re.IGNORECASE) is not None


def unsupported_address(address: str) -> ActionClipError:
    """Return the error for an address that no video is read from; for a file: address it names the path."""
    from urllib.request import url2pathname

    if is_live_address(address):
        return ActionClipError(
            f"{display_address(address)} is a live stream, which has no end: name it alone with --video, or in Python "
            "call watch()"
        )
    here = re.match(r"file://(?:localhost)?(/.*)", address.strip(), re.IGNORECASE)
    hint = f"give its path, {url2pathname(here[1])}" if here else "give one of these or a file"
    return ActionClipError(f"the address {display_address(address)} is neither http nor https; {hint}")


def display_address(address: str) -> str:
    """Return an address for an error message: without its secrets; a data: address is cut after its beginning."""
    address = address.strip()
    is_data = address.lower().startswith("data:")
    return f"{address[:_SHOWN_DATA]}…" if is_data and len(address) > _SHOWN_DATA else redacted(address)


def may_follow(url: str, following: str) -> bool:
    """Return whether an address that `url` redirects to, or names, may be opened: http(s), and from https only https.

    Raises ValueError where `following` is no address.
    """
    allowed = ("https",) if urlsplit(url).scheme == "https" else ("http", "https")
    return urlsplit(following).scheme in allowed


def redacted(text: str) -> str:
    """Return the text with `***` in place of each password and token in an address."""
    for pattern in (_PASSWORD, _ODD_PASSWORD):
        text = pattern.sub(r"\1\2:***", text)
    return _SECRET.sub(r"\1***", text)


def display_name(name: str) -> str:
    """Return a file name unchanged, an address without its secrets."""
    return redacted(name.strip()) if is_address(name) or is_other_address(name) else name
