"""How Kafka's clients are told of TLS and SASL, and what does not go together."""

import pytest
from pydantic import SecretStr

from schemas.errors import SettingsError
from streams.kafka.cluster import Cluster, cluster_of
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
    assert cluster.faust_credentials() is None


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
        "ssl.ca.location": str(authority.ca),
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "app",
        "sasl.password": "hunter2",
    }
    shown = cluster.faust_credentials()
    assert (shown.username, shown.password) == ("app", "hunter2")
    assert (shown.mechanism.value, shown.protocol.value) == ("SCRAM-SHA-512", "SASL_SSL")
    assert shown.ssl_context.check_hostname


def test_both_clients_are_told_of_a_certificate_and_its_encrypted_key(authority, tmp_path):
    certificate, key = authority.issue("app", tmp_path, password=b"of the key")
    given = {"security_protocol": "ssl", "ssl_ca": authority.ca, "ssl_certificate": certificate}
    cluster = secured(**given, ssl_key=key, ssl_key_password="of the key")
    assert cluster.client()["ssl.key.location"] == str(key)
    assert cluster.client()["ssl.key.password"] == "of the key"
    assert cluster.faust_credentials().protocol.value == "SSL"
    for password in (None, "another"):
        with pytest.raises(SettingsError, match="GROUNDSWELL_SSL_KEY_PASSWORD"):
            secured(**given, ssl_key=key, ssl_key_password=password)


def test_a_password_comes_from_a_file_without_its_last_newline(tmp_path):
    path = tmp_path / "password"
    path.write_text("hunter2\n")
    given = {"security_protocol": "sasl_ssl", "sasl_username": "app", "sasl_password_file": path}
    assert secured(**given).password == "hunter2"
    with pytest.raises(SettingsError, match="both GROUNDSWELL_SASL_PASSWORD and"):
        secured(**given, sasl_password="another")


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
        ({"security_protocol": "ssl", "ssl_ca": __file__}, "do not make a TLS client"),
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


def test_a_password_may_cross_loopback():
    given = {"sasl_mechanism": "PLAIN", "sasl_username": "app", "sasl_password": "p"}
    settings = Settings(bootstrap="127.0.0.1:1", security_protocol="sasl_plaintext", **given)
    assert cluster_of(settings).client()["sasl.password"] == "p"


def test_secrets_are_in_no_text_of_settings_or_cluster(monkeypatch):
    monkeypatch.setenv("GROUNDSWELL_SECURITY_PROTOCOL", "sasl_ssl")
    monkeypatch.setenv("GROUNDSWELL_SASL_USERNAME", "app")
    monkeypatch.setenv("GROUNDSWELL_SASL_PASSWORD", "hunter2")
    settings = load_settings()
    cluster = cluster_of(settings)
    assert cluster.password == "hunter2"
    assert isinstance(settings.sasl_password, SecretStr)
    for text in (repr(settings), str(settings), repr(cluster), repr(cluster.faust_credentials())):
        assert "hunter2" not in text


def test_a_child_reaches_the_same_cluster_whatever_it_inherits(authority, monkeypatch):
    monkeypatch.setenv("GROUNDSWELL_SASL_USERNAME", "inherited")
    monkeypatch.setenv("GROUNDSWELL_SASL_PASSWORD_FILE", "/nothing")
    tls = {"security_protocol": "ssl", "ssl_ca": authority.ca}
    user = {"security_protocol": "sasl_ssl", "sasl_username": "app", "sasl_password": "p"}
    for wanted in (Cluster("a:1"), secured(**tls, sasl_username="", sasl_password_file=None)):
        for name, value in wanted.environment().items():
            monkeypatch.setenv(name, value)
        assert cluster_of(load_settings()) == wanted
    wanted = secured(**user, ssl_ca=authority.ca, sasl_password_file=None)
    for name, value in wanted.environment().items():
        monkeypatch.setenv(name, value)
    assert cluster_of(load_settings()) == wanted
