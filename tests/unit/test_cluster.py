"""How Kafka's clients are told of TLS and SASL, and what does not go together."""

import ast
import os
import threading
from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import SecretStr

import streams
from schemas.errors import SettingsError
from streams.kafka.cluster import Cluster, cluster_of
from streams.kafka.transport import credentials_of
from streams.settings import Settings, load_settings
from tests.kafka.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


def secured(**given: object) -> Cluster:
    return cluster_of(Settings(bootstrap="kafka:9093", **given))


def test_without_settings_connections_are_plain():
    cluster = cluster_of(Settings(bootstrap="a:1,b:2"))
    assert cluster.client({"linger.ms": 1}) == {
        "bootstrap.servers": "a:1,b:2",
        "security.protocol": "plaintext",
        "linger.ms": 1,
    }
    assert credentials_of(cluster) is None


def test_both_clients_are_told_the_same_of_a_user(authority):
    cluster = secured(
        security_protocol="SASL_SSL",  # as Kafka spells it
        ssl_ca=authority.ca,
        sasl_username="app",
        sasl_password="hunter2",
    )
    assert cluster.client() == {
        "bootstrap.servers": "kafka:9093",
        "security.protocol": "sasl_ssl",
        "ssl.endpoint.identification.algorithm": "https",
        "ssl.ca.location": str(authority.ca),
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "app",
        "sasl.password": "hunter2",
    }
    shown = credentials_of(cluster)
    assert (shown.username, shown.password) == ("app", "hunter2")
    assert (shown.mechanism.value, shown.protocol.value) == ("SCRAM-SHA-512", "SASL_SSL")
    assert shown.ssl_context.check_hostname


def test_both_clients_are_told_of_a_certificate_and_its_encrypted_key(authority, tmp_path):
    certificate, key = authority.issue("app", tmp_path, password=b"of the key")
    given = {"security_protocol": "ssl", "ssl_ca": authority.ca, "ssl_certificate": certificate}
    cluster = secured(**given, ssl_key=key, ssl_key_password="of the key")
    assert cluster.client()["ssl.key.location"] == str(key)
    assert cluster.client()["ssl.key.password"] == "of the key"
    assert credentials_of(cluster).protocol.value == "SSL"
    for password in (None, "another"):
        with pytest.raises(SettingsError, match="GROUNDSWELL_SSL_KEY_PASSWORD"):
            secured(**given, ssl_key=key, ssl_key_password=password)


def test_a_password_comes_from_a_file_without_its_last_newline(tmp_path):
    path = tmp_path / "password"
    path.write_bytes("\N{BOM}hunter2\r\n".encode())
    given = {"security_protocol": "sasl_ssl", "sasl_username": "app", "sasl_password_file": path}
    assert secured(**given).password == "hunter2"
    with pytest.raises(SettingsError, match="both GROUNDSWELL_SASL_PASSWORD and"):
        secured(**given, sasl_password="another")


def test_a_file_is_read_once_and_is_what_children_are_told_of(tmp_path):
    pipe = tmp_path / "password"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("hunter2\n",))
    writer.start()
    settings = Settings(security_protocol="sasl_ssl", sasl_username="app", sasl_password_file=pipe)
    assert cluster_of(settings).password == "hunter2"
    writer.join(10)
    assert cluster_of(settings).environment() | {"GROUNDSWELL_BOOTSTRAP": ""} == {
        "GROUNDSWELL_BOOTSTRAP": "",
        "GROUNDSWELL_SECURITY_PROTOCOL": "sasl_ssl",
        "GROUNDSWELL_SSL_CA": "",
        "GROUNDSWELL_SSL_CERTIFICATE": "",
        "GROUNDSWELL_SSL_KEY": "",
        "GROUNDSWELL_SSL_KEY_PASSWORD": "",
        "GROUNDSWELL_SASL_MECHANISM": "SCRAM-SHA-512",
        "GROUNDSWELL_SASL_USERNAME": "app",
        "GROUNDSWELL_SASL_PASSWORD": "",
        "GROUNDSWELL_SASL_PASSWORD_FILE": str(pipe),
    }


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        ("pässword".encode("latin-1"), "must be one line of UTF-8"),
        (b"two\nlines", "must be one line of UTF-8"),
        (b"nul\0", "must be one line of UTF-8"),
    ],
)
def test_a_password_that_clients_take_differently_is_refused_and_not_shown(content, told, tmp_path):
    path = tmp_path / "password"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=told) as error:
        secured(security_protocol="sasl_ssl", sasl_username="app", sasl_password_file=path)
    shown = repr(error.value) + repr(error.value.__cause__)
    assert "ssword'" not in shown
    assert "lines" not in shown


@pytest.mark.parametrize("name", ["sasl_username", "sasl_password", "ssl_key_password"])
def test_a_strange_byte_in_a_variable_is_told_by_its_name(name):
    with pytest.raises(SettingsError, match=f"setting {name} .* must be one line"):
        secured(**{"security_protocol": "sasl_ssl", "sasl_username": "a", name: "\udce4"})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"security_protocol": "sasl_ssl"}, "needs GROUNDSWELL_SASL_USERNAME, and"),
        ({"security_protocol": "sasl_ssl", "sasl_username": "app"}, "GROUNDSWELL_SASL_PASSWORD"),
        ({"sasl_username": "app", "sasl_password": "p"}, "'plaintext' uses none of it: set"),
        (
            {"security_protocol": "ssl", "sasl_username": "app", "sasl_password": "p"},
            r"GROUNDSWELL_SASL_\* is set, and security_protocol 'ssl' uses none of it",
        ),
        ({"ssl_ca": __file__}, r"GROUNDSWELL_SSL_\* is set, and security_protocol 'plaintext'"),
        ({"security_protocol": "ssl", "ssl_ca": "/nothing"}, "/nothing cannot be read"),
        ({"security_protocol": "ssl", "ssl_ca": "~nobody-here/ca.pem"}, "cannot be read"),
        ({"security_protocol": "ssl", "ssl_ca": __file__}, "do not make a TLS client"),
        ({"security_protocol": "ssl", "ssl_key_password": "p"}, "without GROUNDSWELL_SSL_KEY"),
        ({"ssl_key_password": "p"}, r"GROUNDSWELL_SSL_\* is set"),
        ({"sasl_mechanism": "plain"}, r"GROUNDSWELL_SASL_\* is set"),
        ({"security_protocol": "ssl", "ssl_key": __file__}, "set both GROUNDSWELL_SSL_CERTIFICATE"),
        (
            {
                "security_protocol": "sasl_plaintext",
                "sasl_mechanism": "PLAIN",
                "sasl_username": "app",
                "sasl_password": "p",
            },
            "where anybody can read it: set GROUNDSWELL_SECURITY_PROTOCOL=sasl_ssl",
        ),
    ],
)
def test_what_does_not_go_together_is_one_line_with_its_cure(given, told):
    with pytest.raises(SettingsError, match=told) as error:
        secured(**given)
    assert "\n" not in str(error.value)


def test_secrets_are_in_no_text_of_settings_or_cluster(monkeypatch):
    monkeypatch.setenv("GROUNDSWELL_SECURITY_PROTOCOL", "sasl_ssl")
    monkeypatch.setenv("GROUNDSWELL_SASL_USERNAME", "app")
    monkeypatch.setenv("GROUNDSWELL_SASL_PASSWORD", "hunter2")
    settings = load_settings()
    cluster = cluster_of(settings)
    assert cluster.password == "hunter2"
    assert isinstance(settings.sasl_password, SecretStr)
    for text in (repr(settings), str(settings), repr(cluster), repr(credentials_of(cluster))):
        assert "hunter2" not in text


def test_what_is_empty_counts_as_not_set():
    """As templates of containers leave it."""
    names = [name for name in Settings.model_fields if name.startswith(("ssl_", "sasl_"))]
    given = dict.fromkeys([*names, "security_protocol"], "")
    assert cluster_of(Settings(bootstrap="a:1", **given)) == Cluster("a:1")


def test_a_child_reaches_the_same_cluster_whatever_it_inherits(authority, tmp_path, monkeypatch):
    certificate, key = authority.issue("child", tmp_path, password=b"of the key")
    secret = tmp_path / "password"
    secret.write_text("hunter2")
    user = {"protocol": "sasl_ssl", "mechanism": "PLAIN", "username": "app", "password": "hunter2"}
    everything = {
        **user,
        "ca": authority.ca,
        "certificate": certificate,
        "key": key,
        "key_password": "of the key",
        "password_file": secret,
    }
    assert {"bootstrap", *everything} == {each.name for each in fields(Cluster)}
    for wanted in (
        Cluster("a:1", **everything),
        Cluster("a:1", **user),
        Cluster("a:1", protocol="ssl", ca=authority.ca),
        Cluster("a:1"),
    ):
        for name, value in wanted.environment().items():
            monkeypatch.setenv(name, value)  # over what the one before has left
        assert cluster_of(load_settings()) == wanted


def test_every_client_in_the_tree_is_told():
    """But those of the demo's company, which speaks with the demo's own broker alone."""
    company = {"company_process.py", "source.py", "sender.py"}
    found = 0
    for path in Path(streams.__file__).parent.rglob("*.py"):
        if path.parent.name == "simulation" and path.name in company:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node.func, "id", None) if isinstance(node, ast.Call) else None
            if name in {"Producer", "Consumer", "AdminClient"}:
                found += 1
                told = ast.unparse(node.args[0])
                assert ".client(" in told or told.startswith("common"), f"{path}: {told}"
    assert found >= 10
