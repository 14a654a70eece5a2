"""A container's health check, and that what the images run exists."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import yaml

from fedrms.cli import certs, client, server
from fedrms.deployment.health import healthy
from fedrms.deployment.options import NAME
from fedrms.deployment.ports import free_port
from fedrms.experiment.config import compose_config


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 503)
        self.end_headers()

    def log_message(self, *words):
        pass


def test_a_server_is_healthy_while_it_answers():
    listening = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{listening.server_port}"
    assert healthy(f"{url}/health")
    assert not healthy(f"{url}/other")
    listening.shutdown()
    listening.server_close()
    assert not healthy(f"http://127.0.0.1:{free_port()}/health")
    assert not healthy("nonsense")


def test_the_compose_file_names_commands_and_keys_that_exist(repository):
    services = yaml.safe_load((repository / "docker" / "compose.yaml").read_text())["services"]
    assert set(services) == {"keys", "server", "hospital-a", "hospital-b", "hospital-c"}
    commands = {"fedrms-certs": certs, "fedrms-server": server, "fedrms-client": client}
    groups = {"fedrms-server": ["+server=superlink"], "fedrms-client": []}
    groups["fedrms-client"] = ["+server=address", "+node@client=supernode"]
    for name, service in services.items():
        program, *words = service["command"].split()
        assert callable(commands[program].main)
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        if program in groups:
            compose_config([*groups[program], *words])
        if program == "fedrms-client":
            assert NAME.fullmatch(name)
            assert f"client.id={name}" in words
