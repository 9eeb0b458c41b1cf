"""The address of a server, and the model that answers there."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from laptime.engines.client import refused, session
from laptime.errors import LaptimeError


def endpoint_url(url: str, api: str) -> str:
    """The address of an API from the server's: http://host:8000, .../v1 or the whole address.

    Raises LaptimeError for anything but http and https with a host.
    """
    wrong = _wrong_address(url)
    if wrong is not None:
        shown = url if "@" not in url else f"...@{url.rpartition('@')[2]}"  # a password is never shown
        raise LaptimeError(f"{shown}: no address of a server: {wrong}")
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    ending = "/chat/completions" if api == "chat" else "/completions"
    if not path.endswith("/completions"):
        path = (path or "/v1") + ending
    return f"{parts.scheme}://{parts.netloc}{path}"


def _wrong_address(url: str) -> str | None:
    """What keeps a text from being the address of a server, and how to mend it; None where nothing does."""
    example = "write it as http://localhost:8000"
    if "@" in url:
        return (
            "a name or a password stands in it; leave it out, and name the key's variable with "
            "--api-key-env (in Python give headers)"
        )
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:  # brackets that never close
        return example
    if "://" not in url:
        return f"http:// or https:// is missing; {example}"
    if parts.scheme not in ("http", "https"):
        return f"it begins with {parts.scheme or 'nothing'}://, and only http:// and https:// are known; {example}"
    if not host:
        return f"it names no host; {example}"
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        return f"a port is a number from 1 to 65535; {example}"
    if parts.query or parts.fragment:
        return "it has a ? or a #; leave that and what follows out"
    return None


async def model_of(url: str, headers: dict[str, str]) -> str | None:
    """The one model that an endpoint offers; None where it doesn't say. Raises LaptimeError if there are several."""
    base = url.removesuffix("/chat/completions").removesuffix("/completions")
    try:
        async with session() as opened:
            limit = aiohttp.ClientTimeout(total=10)
            async with opened.get(f"{base}/models", headers=headers, timeout=limit, allow_redirects=False) as response:
                offered: Any = msgspec.json.decode(await response.read()) if response.status == 200 else {}
    except aiohttp.ClientConnectorError as error:
        raise LaptimeError(
            f"{url}: no server answers there ({refused(error)}); start it, or correct the address"
        ) from None
    except (aiohttp.ClientError, asyncio.TimeoutError, msgspec.DecodeError):
        return None
    listed = offered.get("data") if isinstance(offered, dict) else None
    names = [one["id"] for one in listed or [] if isinstance(one, dict) and isinstance(one.get("id"), str)]
    if len(names) > 1:
        raise LaptimeError(f"{url}: offers {', '.join(names[:8])}; name one with `model`")
    return names[0] if names else None
