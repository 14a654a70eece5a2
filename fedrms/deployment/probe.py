"""Look whether a server is there, and say in words why not."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx

from fedrms.deployment.options import Address
from fedrms.errors import RunError


def server_answers(address: Address, authority: Path | None) -> bool:
    """Say whether a server answers at an address.

    What waiting does not mend is a `RunError`: a certificate that the authority did not sign,
    encryption on one side only.
    """
    scheme = "http" if authority is None else "https"
    verify = True if authority is None else ssl.create_default_context(cafile=authority)
    try:
        answer = httpx.get(
            f"{scheme}://{address}/health", verify=verify, timeout=5.0, trust_env=False
        )
    except httpx.ConnectError as error:
        _explain(str(error), address, authority)
        return False
    except httpx.RemoteProtocolError as error:
        raise RunError(
            f"the server at {address} speaks TLS, or is no server\n"
            "  -> set client.tls to its authority's certificate (ca.crt)"
        ) from error
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK


def _explain(error: str, address: Address, authority: Path | None) -> None:
    if "CERTIFICATE_VERIFY_FAILED" in error:
        why = error.split("CERTIFICATE_VERIFY_FAILED]")[-1].split("(_ssl")[0].strip()
        raise RunError(
            f"the server at {address} does not prove that it is the one: {why}\n"
            f"  -> client.tls={authority} must be its authority's certificate, and the server's "
            "must name the address (fedrms-certs hosts=...)"
        )
    if "WRONG_VERSION_NUMBER" in error or "RECORD_LAYER" in error:
        raise RunError(
            f"the server at {address} does not speak TLS\n  -> leave client.tls out, or set "
            "server.tls there"
        )
