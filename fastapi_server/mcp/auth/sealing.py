"""The format of the token file. Needs `cryptography`.

    "MCPTOKENS" · version (1 byte) · key id (8) · nonce (12) · AES-256-GCM ciphertext and tag

All before the nonce is the associated data. The key of the cipher and the key id are derived from the user's key (HKDF,
RFC 5869, 2.3), each for its own purpose; the id tells a wrong key from a damaged file and is of no use to find the key.
"""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

_MAGIC = b"MCPTOKENS"
_VERSION = b"\x01"
_START = _MAGIC + _VERSION
_ID_BYTES = 8
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEADER_BYTES = len(_START) + _ID_BYTES
_PURPOSE = b"mcp-client-factory token file 1: "


class SealError(Exception):
    """The content cannot be had; says why and what to do, without the path."""


class Seal:
    """Wraps and unwraps with one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(_derived(key, b"encryption", 32))
        self._header = _START + _derived(key, b"key id", _ID_BYTES)

    def wrap(self, content: bytes) -> bytes:
        """Under a new random nonce."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._header + nonce + self._cipher.encrypt(nonce, content, self._header)

    def unwrap(self, sealed: bytes) -> bytes:
        """What was wrapped.

        Raises:
            SealError: It is cut short, was changed, or was wrapped with another key or by a later version.
        """
        self._check_header(sealed)
        nonce, ciphertext = sealed[_HEADER_BYTES:][:_NONCE_BYTES], sealed[_HEADER_BYTES + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, ciphertext, self._header)
        except InvalidTag:
            raise SealError("was changed or damaged; delete it and sign in again") from None

    def _check_header(self, sealed: bytes) -> None:
        if not sealed.startswith(_MAGIC[: len(sealed)]):
            raise SealError("is no token file of this package; choose another path, or delete it and sign in again")
        if len(sealed) < _HEADER_BYTES + _NONCE_BYTES + _TAG_BYTES:
            raise SealError("is cut short; delete it and sign in again")
        if not sealed.startswith(_START):
            raise SealError("has a format that this version does not know; use the version that wrote it")
        if not sealed.startswith(self._header):
            raise SealError("was encrypted with another key; give that key, or delete the file and sign in again")


def _derived(key: bytes, purpose: bytes, length: int) -> bytes:
    return HKDFExpand(SHA256(), length, _PURPOSE + purpose).derive(key)
