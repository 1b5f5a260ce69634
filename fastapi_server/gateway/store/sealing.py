"""Entries of servers as they are stored: sealed, for they hold tokens and passwords."""

import base64
import json
import os
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fastapi_server.mcp import ConfigError

_MEMBER = "sealed"
_NONCE_BYTES = 12


class Seal:
    """Seals with AES-256-GCM, each entry for the name of its server: one that somebody else put there does not open.

    Args:
        secret: Of the gateway; the key is derived from it.
    """

    def __init__(self, secret: str) -> None:
        key = HKDF(SHA256(), length=32, salt=None, info=b"mcp-gateway servers").derive(secret.encode())
        self._cipher = AESGCM(key)

    def sealed(self, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        """An entry as it is stored."""
        nonce = os.urandom(_NONCE_BYTES)
        text = self._cipher.encrypt(nonce, json.dumps(dict(entry)).encode(), name.encode())
        return {_MEMBER: base64.b64encode(nonce + text).decode()}

    def opened(self, name: str, stored: Mapping[str, Any]) -> dict[str, Any]:
        """An entry as it was.

        Raises:
            ConfigError: It was sealed under another secret, or for another name, or not at all.
        """
        try:
            box = base64.b64decode(stored[_MEMBER], validate=True)
            return json.loads(self._cipher.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], name.encode()))
        except (InvalidTag, KeyError, TypeError, ValueError):
            raise ConfigError(
                f"server {name!r} was stored under another secret than this one (GATEWAY_SECRET): replace or remove it"
            ) from None
