"""An authority, a server certificate and clients' keys, for a trial or a small federation.

X.509 on the curve P-256 for TLS; for clients a pair of P-256 keys in OpenSSH's format, which is
what Flower reads. Keys on P-384 work as well, and cost a server fifty times as much for each
connection, a stranger's too, and twelve times for each signature. Private keys are readable by
their owner alone.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedrms.deployment.options import NAME
from fedrms.errors import ConfigError


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key as PEM, not encrypted."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_authority(days: int = 365) -> Pair:
    """Make a self-signed certificate authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedrms authority")])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, name, key, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate, key)


def make_server_pair(authority: Pair, hosts: Sequence[str], days: int = 365) -> Pair:
    """Make a server certificate, signed by the authority, for these names and IP addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedrms server")])
    issuer = authority.certificate.subject
    names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
    known_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    certificate = (
        _builder(name, issuer, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(known_by, critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return Pair(certificate, key)


def make_client_key() -> tuple[bytes, bytes]:
    """Make a client's private and public key, both in OpenSSH's format."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


def write_certificates(
    folder: Path, *, hosts: Sequence[str], clients: Sequence[str], days: int = 365
) -> list[Path]:
    """Make everything that a server with TLS and its clients need, and return what was written.

    That is ``ca.crt``, ``ca.key``, ``server.crt`` and ``server.key``, for each client its private
    key ``NAME``, and ``clients/NAME.pub``. Nothing is written if one of the files is there already.
    ``hosts`` are names and addresses that clients call the server by.
    """
    _check(hosts, clients, days)
    names = ["ca.crt", "ca.key", "server.crt", "server.key"]
    paths = [folder / name for name in (*names, *clients)]
    paths += [folder / "clients" / f"{name}.pub" for name in clients]
    for path in paths:
        if path.exists():
            raise ConfigError(
                "out", f"{path} is there already", "choose another folder, or remove it yourself"
            )
    authority = make_authority(days)
    server = make_server_pair(authority, hosts, days)
    (folder / "clients").mkdir(parents=True, exist_ok=True)
    write_new(folder / "ca.crt", authority.certificate_pem)
    write_new(folder / "ca.key", authority.key_pem, private=True)
    write_new(folder / "server.crt", server.certificate_pem)
    write_new(folder / "server.key", server.key_pem, private=True)
    for name in clients:
        private, public = make_client_key()
        write_new(folder / name, private, private=True)
        write_new(folder / "clients" / f"{name}.pub", public + b"\n")
    return paths


def write_new(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file that must not exist; a private one is never readable by others."""
    mode = 0o600 if private else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # clocks differ a little
        .not_valid_after(now + timedelta(days=days))
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _check(hosts: Sequence[str], clients: Iterable[str], days: int) -> None:
    if not hosts:
        raise ConfigError("hosts", "there is none", "name what clients call the server by")
    if days < 1:
        raise ConfigError("days", f"is {days}", "set 1 or more")
    seen: set[str] = {"ca.crt", "ca.key", "server.crt", "server.key", "clients"}
    for name in clients:
        if not NAME.fullmatch(name) or name in seen:
            raise ConfigError(
                "clients",
                f"{name!r} cannot be a client's name, or is taken",
                "use letters, digits, '.', '_' and '-', each name once",
            )
        seen.add(name)
