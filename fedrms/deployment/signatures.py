"""Who may speak at the gate: judged by the headers of a request, before its body is read."""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, verify_signature

from fedrms.deployment.options import UNKNOWN_KEY, public_keys

KEY, SIGNED_AT, SIGNATURE = "flwr-public-key", "flwr-timestamp", "flwr-signature"
KEPT_SECONDS = 600.0
"""How long signatures are remembered; Flower takes none that is older than five minutes."""
LONGEST = 1024
"""Most characters of a signature; those of P-384 have some 140."""


class Signatures:
    """Take each signature once, and none of a stranger's where public keys are in a folder."""

    def __init__(self, keys: Path | None) -> None:
        self._known = None if keys is None else _known(keys)
        self._seen: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def problem(self, headers: Mapping[str, str]) -> str | None:
        """Say why a request is refused by its headers, names in lower case, or return None."""
        signature = headers.get(SIGNATURE, "")
        if not signature or len(signature) > LONGEST:
            return "no signature"
        if self._known is not None:
            key = self._known.get(headers.get(KEY, ""))
            if key is None:
                return UNKNOWN_KEY
            if not _recent(headers.get(SIGNED_AT, "")):
                return "a signature of another time; are the clocks right?"
            if not _verified(key, headers[SIGNED_AT], signature):
                return "a signature that is not the key's"
        return "a signature that was used before" if self._used(signature) else None

    def _used(self, signature: str) -> bool:
        now = time.monotonic()
        while self._seen and now - next(iter(self._seen.values())) >= KEPT_SECONDS:
            self._seen.popitem(last=False)
        if signature in self._seen:
            return True
        self._seen[signature] = now
        return False


def _known(folder: Path) -> dict[str, ec.EllipticCurvePublicKey]:
    """Return the clients' keys by how they stand in a header."""
    found = {}
    for path in public_keys(folder).values():
        try:
            key = load_ssh_public_key(path.read_bytes())
        except ValueError:
            continue  # the SuperLink refuses it by name
        if isinstance(key, ec.EllipticCurvePublicKey):
            found[b64encode(public_key_to_bytes(key)).decode("ascii")] = key
    return found


def _recent(signed_at: str) -> bool:
    try:
        age = (datetime.now(UTC) - datetime.fromisoformat(signed_at)).total_seconds()
    except (ValueError, TypeError):
        return False
    return abs(age) < KEPT_SECONDS - 60


def _verified(key: ec.EllipticCurvePublicKey, signed_at: str, signature: str) -> bool:
    try:
        told = signed_at.encode("ascii")
        return bool(verify_signature(key, told, b64decode(signature, validate=True)))
    except ValueError:
        return False
