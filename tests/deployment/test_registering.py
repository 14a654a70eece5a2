"""Clients' keys are made known to a real SuperLink, and one that is of no use is named."""

import json
import ssl

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fedrms.deployment.flower_home import CONNECTION, private_home
from fedrms.deployment.superlink import SuperLink, register
from fedrms.errors import RunError

pytestmark = pytest.mark.deployment


def write_key(path, key):
    path.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))


def test_keys_are_registered_and_those_of_no_use_are_named(tmp_path):
    keys = tmp_path / "keys"
    keys.mkdir()
    write_key(keys / "new.pub", ec.generate_private_key(ec.SECP256R1()))
    write_key(keys / "old.pub", ec.generate_private_key(ec.SECP384R1()))
    write_key(tmp_path / "rsa.pub", rsa.generate_private_key(65537, 2048))
    (tmp_path / "none.pub").write_text("no key")
    with private_home("test") as home:
        order = home.folder / "order.json"
        with SuperLink(home, tmp_path / "log", keys=keys, order=order) as link:
            link.wait()
            said = home.flwr("supernode", "list", CONNECTION, "--format", "json")
            nodes = json.loads(said[said.index("{") :])["nodes"]
            assert len(nodes) == 2
            trusting = ssl.create_default_context(cafile=link.authority)
            with httpx.Client(verify=trusting, trust_env=False) as client:
                for name, why in (("rsa", "key is not valid"), ("none", "key")):
                    with pytest.raises(RunError, match=rf"{name}\.pub was not taken: .*{why}"):
                        register(client, link.url, name, tmp_path / f"{name}.pub")
