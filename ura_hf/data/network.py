"""What the Hub's client raises where nothing answers."""

from __future__ import annotations

from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

TransportError: type[Exception] = next(c for c in HfHubHTTPError.__mro__ if c.__name__ == "HTTPError")  # type: ignore[assignment]
"""The base of what its HTTP library raises; the library differs between versions of huggingface_hub."""
UNREACHABLE = (TransportError, OfflineModeIsEnabled)
