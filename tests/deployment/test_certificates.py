"""Certificates and keys hold, are private, and are never overwritten."""

import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from cryptography.x509.verification import PolicyBuilder, Store

from fedrms.deployment.certificates import make_authority, make_server_pair, write_certificates
from fedrms.errors import ConfigError


@pytest.fixture
def made(tmp_path):
    folder = tmp_path / "certs"
    written = write_certificates(
        folder, hosts=["fl.example.org", "10.0.0.5", "::1"], clients=["a", "b"]
    )
    return folder, written


def test_what_is_written_is_what_is_returned(made):
    folder, written = made
    assert sorted(written) == sorted(path for path in folder.rglob("*") if path.is_file())


def test_private_keys_are_readable_by_their_owner_alone(made):
    folder, _ = made
    for name in ("ca.key", "server.key", "a", "b"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    for name in ("ca.crt", "server.crt", "clients/a.pub"):
        assert stat.S_IMODE((folder / name).stat().st_mode) & 0o022 == 0


def test_a_clients_keys_are_a_pair_on_p256_in_openssh_format(made):
    folder, _ = made
    private = load_ssh_private_key((folder / "a").read_bytes(), None)
    public = load_ssh_public_key((folder / "clients" / "a.pub").read_bytes())
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.curve.name == "secp256r1"
    assert private.public_key() == public
    assert public != load_ssh_public_key((folder / "clients" / "b.pub").read_bytes())


def test_the_authority_vouches_for_the_server_by_every_name(made):
    folder, _ = made
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    server = x509.load_pem_x509_certificate((folder / "server.crt").read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fl.example.org"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.5", "::1"]
    verifier = (
        PolicyBuilder()
        .store(Store([authority]))
        .build_server_verifier(x509.DNSName("fl.example.org"))
    )
    assert verifier.verify(server, [])[0] == server
    other = PolicyBuilder().store(Store([make_authority().certificate]))
    with pytest.raises(x509.verification.VerificationError):
        other.build_server_verifier(x509.DNSName("fl.example.org")).verify(server, [])


def test_certificates_hold_for_the_days_that_are_asked_for():
    pair = make_server_pair(make_authority(), ["localhost"], days=30)
    left = pair.certificate.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < left <= timedelta(days=30)


def test_nothing_is_overwritten_and_then_nothing_is_written(made):
    folder, _ = made
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"out: .*ca\.crt is there already"):
        write_certificates(folder, hosts=["localhost"], clients=["c"])
    (folder / "ca.crt").unlink()
    with pytest.raises(ConfigError, match="is there already"):
        write_certificates(folder, hosts=["localhost"], clients=["c"])
    del before[folder / "ca.crt"]
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
