"""Where Kafka is, and how each of its clients speaks with it: TLS and SASL are known here alone."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr

from schemas.errors import SettingsError
from streams.settings import Settings

__all__ = ["Cluster", "cluster_of"]

Protocol = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Kafka cluster as its clients reach it.

    Attributes
    ----------
    bootstrap
        Addresses, ``host:port`` joined by commas.
    protocol
        Kafka's ``security.protocol``.
    ca
        Certificates (PEM) that sign the brokers' own; the system's where there is none.
    certificate, key, key_password
        Of this client (PEM), for brokers that want one.
    mechanism, username, password
        Of SASL.
    password_file
        Where the password came from, if it was a file.
    """

    bootstrap: str
    protocol: Protocol = "plaintext"
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_password: str | None = field(default=None, repr=False)
    mechanism: str = "SCRAM-SHA-512"
    username: str = ""
    password: str = field(default="", repr=False)
    password_file: Path | None = None

    @property
    def encrypted(self) -> bool:
        """Whether connections are TLS."""
        return self.protocol.endswith("ssl")

    @property
    def authenticated(self) -> bool:
        """Whether a user name is given."""
        return self.protocol.startswith("sasl")

    def client(self, options: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Give the configuration of one of confluent-kafka's clients, with options of its own."""
        config: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap,
            "security.protocol": self.protocol,
        }
        if self.encrypted:
            config["ssl.endpoint.identification.algorithm"] = "https"  # brokers' names are checked
            files = {
                # librdkafka looks for a store itself, and not where Python is told that it is
                "ssl.ca.location": self.ca or ssl.get_default_verify_paths().cafile,
                "ssl.certificate.location": self.certificate,
                "ssl.key.location": self.key,
            }
            config |= {name: str(path) for name, path in files.items() if path is not None}
            if self.key_password is not None:
                config["ssl.key.password"] = self.key_password
        if self.authenticated:
            config["sasl.mechanism"] = self.mechanism
            config["sasl.username"] = self.username
            config["sasl.password"] = self.password
        return {**config, **(options or {})}

    def tls(self) -> ssl.SSLContext:
        """Give what Python's own TLS takes. Files are read now: who renews them starts again."""
        context = ssl.create_default_context(cafile=self.ca)  # it checks the brokers' names
        if self.certificate is not None:
            # a text of its own, or OpenSSL asks whoever sits at the terminal
            context.load_cert_chain(self.certificate, self.key, lambda: self.key_password or "")
        return context

    def environment(self) -> dict[str, str]:
        """Give the variables of a process that is to reach the same, whatever it inherits."""
        given = {
            "bootstrap": self.bootstrap,
            "security_protocol": self.protocol,
            "ssl_ca": self.ca,
            "ssl_certificate": self.certificate,
            "ssl_key": self.key,
            "ssl_key_password": self.key_password,
            "sasl_mechanism": self.mechanism if self.authenticated else None,
            "sasl_username": self.username,
            "sasl_password": None if self.password_file else self.password,
            "sasl_password_file": self.password_file,
        }
        return {f"GROUNDSWELL_{name.upper()}": str(value or "") for name, value in given.items()}


@lru_cache(maxsize=8)  # a password's file is read once
def cluster_of(settings: Settings) -> Cluster:
    """Give the cluster that the settings name.

    Raises
    ------
    SettingsError
        If what they say of TLS and SASL does not go together, a file cannot be used, or a password
        would be sent where anybody can read it.
    """
    password_file = _path("sasl_password_file", settings.sasl_password_file)
    cluster = Cluster(
        bootstrap=settings.bootstrap,
        protocol=settings.security_protocol,
        ca=_path("ssl_ca", settings.ssl_ca),
        certificate=_path("ssl_certificate", settings.ssl_certificate),
        key=_path("ssl_key", settings.ssl_key),
        key_password=_secret("ssl_key_password", settings.ssl_key_password),
        mechanism=settings.sasl_mechanism,
        username=_text("sasl_username", settings.sasl_username),
        password=_password(settings, password_file),
        password_file=password_file,
    )
    _check(cluster)
    return cluster


def _check(cluster: Cluster) -> None:
    tls = (cluster.ca, cluster.certificate, cluster.key, cluster.key_password)
    user = (cluster.username, cluster.password, cluster.mechanism != Cluster("").mechanism)
    for prefix, used, given, protocols in (
        ("SSL_", cluster.encrypted, tls, "ssl or sasl_ssl"),
        ("SASL_", cluster.authenticated, user, "sasl_ssl"),
    ):
        if any(given) and not used:
            raise SettingsError(
                f"GROUNDSWELL_{prefix}* is set, and security_protocol {cluster.protocol!r} uses "
                f"none of it: set GROUNDSWELL_SECURITY_PROTOCOL to {protocols}, or remove it"
            )
    if (cluster.certificate is None) != (cluster.key is None):
        raise SettingsError(
            "a certificate and its key go together: set both GROUNDSWELL_SSL_CERTIFICATE and "
            "GROUNDSWELL_SSL_KEY, or neither"
        )
    if cluster.key is None and cluster.key_password:
        raise SettingsError("GROUNDSWELL_SSL_KEY_PASSWORD is set without GROUNDSWELL_SSL_KEY")
    if cluster.authenticated and not (cluster.username and cluster.password):
        raise SettingsError(
            f"security_protocol {cluster.protocol!r} needs GROUNDSWELL_SASL_USERNAME, and "
            "GROUNDSWELL_SASL_PASSWORD or GROUNDSWELL_SASL_PASSWORD_FILE"
        )
    if cluster.protocol == "sasl_plaintext" and cluster.mechanism == "PLAIN":
        raise SettingsError(
            "sasl_plaintext with PLAIN sends the password where anybody can read it: set "
            "GROUNDSWELL_SECURITY_PROTOCOL=sasl_ssl, or a SCRAM mechanism"
        )
    if cluster.encrypted:
        try:
            cluster.tls()
        except (OSError, ValueError) as error:  # ssl's errors are of both kinds
            raise SettingsError(
                f"GROUNDSWELL_SSL_*: certificates, key and password do not make a TLS client "
                f"({error}): give PEM files, the key that belongs to the certificate, and "
                "GROUNDSWELL_SSL_KEY_PASSWORD where it is encrypted"
            ) from error


def _path(name: str, path: Path | None) -> Path | None:
    """A file's path, once it is there. It is not opened: a pipe can be read once."""
    if path is None:
        return None
    try:
        found = path.expanduser()
        found.stat()
    except (OSError, RuntimeError) as error:  # no such user
        raise _unreadable(name, path, error) from error
    return found


def _unreadable(name: str, path: Path, error: Exception) -> SettingsError:
    return SettingsError(
        f"setting {name} (GROUNDSWELL_{name.upper()}): {path} cannot be read "
        f"({getattr(error, 'strerror', None) or error}): give a file that this user may read"
    )


def _password(settings: Settings, path: Path | None) -> str:
    given = _secret("sasl_password", settings.sasl_password)
    if path is None:
        return given or ""
    if given:
        raise SettingsError(
            "both GROUNDSWELL_SASL_PASSWORD and GROUNDSWELL_SASL_PASSWORD_FILE are set: keep one"
        )
    try:
        text = path.read_bytes().decode("utf-8-sig").rstrip("\r\n")
    except OSError as error:
        raise _unreadable("sasl_password_file", path, error) from error
    except UnicodeDecodeError:
        text = "\0"  # the error itself holds what was read
    if not text:
        raise SettingsError(
            f"setting sasl_password_file (GROUNDSWELL_SASL_PASSWORD_FILE): {path} is empty"
        )
    return _text("sasl_password_file", text)


def _secret(name: str, value: SecretStr | None) -> str | None:
    return None if value is None else _text(name, value.get_secret_value())


def _text(name: str, text: str) -> str:
    """What both clients take alike: text without control characters."""
    if text.isprintable():  # which the half of a pair that stands for a strange byte is not
        return text
    raise SettingsError(
        f"setting {name} (GROUNDSWELL_{name.upper()}) must be one line of UTF-8 without control "
        "characters"
    )
