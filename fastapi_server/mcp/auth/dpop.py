"""Proof of possession (RFC 9449): a key pair of the client's, and the proofs it signs."""

import base64
import hashlib
import json
import random
import time
import uuid
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from yarl import URL

MOST_NONCES = 20
"""For one request: how often a server may want another nonce than the one that it was sent (RFC 9449, 8 and 9)."""
_FIRST_WAIT, _LONGEST_WAIT = 0.01, 2.0
_ALGORITHM = "ES256"


class ProofKey:
    """A P-256 key, which never leaves this process and the token store.

    Args:
        pem: A key kept earlier; left out, a new one is made.

    Raises:
        ValueError: It is none.
    """

    def __init__(self, pem: str | None = None) -> None:
        if pem is None:
            self._key = ec.generate_private_key(ec.SECP256R1())
        else:
            self._key = _loaded(pem)
        jwk: dict[str, Any] = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        self._jwk = {name: str(jwk[name]) for name in ("crv", "kty", "x", "y")}

    def __repr__(self) -> str:
        return f"<ProofKey {self.thumbprint}>"

    @property
    def pem(self) -> str:
        """The private key, for the token store."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    @property
    def thumbprint(self) -> str:
        """Of the public key (RFC 7638): what tokens are bound to."""
        return _digest(json.dumps(self._jwk, sort_keys=True, separators=(",", ":")))

    def proof(self, method: str, url: str, *, nonce: str | None = None, token: str | None = None) -> str:
        """A proof for one request (RFC 9449, 4.2).

        Args:
            method: Of the request.
            url: Of the request; its query and fragment are left out.
            nonce: The last one that the server gave.
            token: The access token that goes with it, whose hash becomes `ath`.
        """
        claims: dict[str, Any] = {
            "jti": str(uuid.uuid4()),
            "htm": method,
            "htu": str(URL(url, encoded=True).with_query(None).with_fragment(None)),
            "iat": int(time.time()),
        }
        if nonce is not None:
            claims["nonce"] = nonce
        if token is not None:
            claims["ath"] = _digest(token)
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM, headers={"typ": "dpop+jwt", "jwk": self._jwk})


def _loaded(pem: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("no P-256 key")
    return key


def wait_before_nonce(tried: int) -> float:
    """Seconds to wait before a request is sent with the next nonce.

    Every other one is sent at once, since it is as new as can be. Where that is too old on arrival, since many send at
    once, the many keep out of one another's way.

    Args:
        tried: How many nonces have been tried for the request, the next one included.
    """
    return 0.0 if tried % 2 else random.uniform(0, min(_FIRST_WAIT * 2**tried, _LONGEST_WAIT))  # noqa: S311


def nonce_in(proof: str | None) -> str | None:
    """The nonce that a proof was made with."""
    return None if proof is None else jwt.decode(proof, options={"verify_signature": False}).get("nonce")


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
