"""Liveness and readiness over HTTP: on loopback, with the reason where not well."""

import http.client

import pytest

from schemas.errors import SettingsError
from streams.web.health import HealthServer, Status


def get(server: HealthServer, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.fixture
def ready() -> list[Status]:
    return [Status(False, "waiting for shards")]


@pytest.fixture
def server(ready):
    made = HealthServer("127.0.0.1", 0, lambda: Status(True), lambda: ready[0])
    made.start()
    yield made
    made.stop()


def test_a_worker_lives_before_it_is_ready(server, ready):
    assert get(server, "/live") == (200, "ok\n")
    assert get(server, "/ready") == (503, "waiting for shards\n")
    ready[0] = Status(True)
    assert get(server, "/ready") == (200, "ok\n")


def test_metrics_are_in_prometheus_format(server):
    status, text = get(server, "/metrics")
    assert status == 200
    assert "# TYPE groundswell_commit_seconds histogram" in text or "# TYPE python_info" in text


def test_another_path_names_those_there_are(server):
    assert get(server, "/secrets")[0] == 404


def test_a_port_in_use_is_one_clear_error(server):
    with pytest.raises(SettingsError, match=f"health port {server.port} .*_HEALTH_PORT"):
        HealthServer("127.0.0.1", server.port, lambda: Status(True), lambda: Status(True))
