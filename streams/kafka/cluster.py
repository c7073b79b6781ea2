"""Where Kafka is, and how each of its clients speaks with it: TLS and SASL are known here alone."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faust
from faust.types.auth import CredentialsT

from schemas.errors import SettingsError
from streams.settings import Settings

__all__ = ["Cluster", "cluster_of"]

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Kafka cluster as its clients reach it.

    Attributes
    ----------
    bootstrap
        Addresses, ``host:port`` joined by commas.
    protocol
        As Kafka's ``security.protocol``, in lower case.
    ca
        Certificates (PEM) that sign the brokers' own; the system's where there is none.
    certificate, key, key_password
        Of this client (PEM), for brokers that want one.
    mechanism, username, password
        Of SASL.
    """

    bootstrap: str
    protocol: str = "plaintext"
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    key_password: str | None = field(default=None, repr=False)
    mechanism: str = "SCRAM-SHA-512"
    username: str = ""
    password: str = field(default="", repr=False)

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
            files = {
                "ssl.ca.location": self.ca,
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

    def environment(self) -> dict[str, str]:
        """Give the variables of a process that is to reach the same, whatever it inherits."""
        given = {
            "bootstrap": self.bootstrap,
            "security_protocol": self.protocol,
            "ssl_ca": self.ca,
            "ssl_certificate": self.certificate,
            "ssl_key": self.key,
            "ssl_key_password": self.key_password,
            "sasl_mechanism": self.mechanism,
            "sasl_username": self.username,
            "sasl_password": self.password,
            "sasl_password_file": None,
        }
        return {f"GROUNDSWELL_{name.upper()}": str(value or "") for name, value in given.items()}

    def faust_credentials(self) -> CredentialsT | None:
        """Give what Faust's consumer shows; None where nothing is asked for."""
        context = self._tls() if self.encrypted else None
        if self.authenticated:
            return faust.SASLCredentials(
                username=self.username,
                password=self.password,
                mechanism=self.mechanism,
                ssl_context=context,
            )
        return None if context is None else faust.SSLCredentials(context=context)

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca)  # it checks the brokers' names
        if self.certificate is not None:
            # a text of its own, or OpenSSL asks whoever sits at the terminal
            context.load_cert_chain(self.certificate, self.key, lambda: self.key_password or "")
        return context


def cluster_of(settings: Settings) -> Cluster:
    """Give the cluster that the settings name.

    Raises
    ------
    SettingsError
        If what they say of TLS and SASL does not go together, a file cannot be used, or a password
        would be sent where anybody can read it.
    """
    cluster = Cluster(
        bootstrap=settings.bootstrap,
        protocol=settings.security_protocol,
        ca=_file("ssl_ca", settings.ssl_ca),
        certificate=_file("ssl_certificate", settings.ssl_certificate),
        key=_file("ssl_key", settings.ssl_key),
        key_password=_secret(settings.ssl_key_password),
        mechanism=settings.sasl_mechanism,
        username=settings.sasl_username,
        password=_password(settings),
    )
    _check(cluster)
    return cluster


def _check(cluster: Cluster) -> None:
    given = {
        "ssl_": (cluster.encrypted, cluster.ca or cluster.certificate or cluster.key),
        "sasl_": (cluster.authenticated, cluster.username or cluster.password),
    }
    for prefix, (used, found) in given.items():
        if found and not used:
            raise SettingsError(
                f"GROUNDSWELL_{prefix.upper()}* is set, and security_protocol "
                f"{cluster.protocol!r} uses none of it: set GROUNDSWELL_SECURITY_PROTOCOL to "
                f"{'ssl or sasl_ssl' if prefix == 'ssl_' else 'sasl_ssl'}, or remove it"
            )
    if (cluster.certificate is None) != (cluster.key is None):
        raise SettingsError(
            "a certificate and its key go together: set both GROUNDSWELL_SSL_CERTIFICATE and "
            "GROUNDSWELL_SSL_KEY, or neither"
        )
    if cluster.authenticated and not (cluster.username and cluster.password):
        raise SettingsError(
            f"security_protocol {cluster.protocol!r} needs GROUNDSWELL_SASL_USERNAME, and "
            "GROUNDSWELL_SASL_PASSWORD or GROUNDSWELL_SASL_PASSWORD_FILE"
        )
    if cluster.authenticated and not cluster.encrypted and cluster.mechanism == "PLAIN":
        hosts = {address.strip().rpartition(":")[0] for address in cluster.bootstrap.split(",")}
        if not hosts.issubset(LOOPBACK):
            raise SettingsError(
                "sasl_plaintext with PLAIN sends the password where anybody can read it: set "
                "GROUNDSWELL_SECURITY_PROTOCOL=sasl_ssl, or a SCRAM mechanism"
            )
    if cluster.encrypted:
        try:
            cluster.faust_credentials()
        except (OSError, ValueError) as error:  # ssl's errors are of both kinds
            raise SettingsError(
                f"GROUNDSWELL_SSL_*: certificates, key and password do not make a TLS client "
                f"({error}): give PEM files, the key that belongs to the certificate, and "
                "GROUNDSWELL_SSL_KEY_PASSWORD where it is encrypted"
            ) from error


def _file(name: str, path: Path | None) -> Path | None:
    if path is None:
        return None
    found = path.expanduser()
    try:
        with found.open("rb"):
            return found
    except OSError as error:
        raise SettingsError(
            f"setting {name} (GROUNDSWELL_{name.upper()}): {found} cannot be read "
            f"({error.strerror}): give a file that this user may read"
        ) from error


def _password(settings: Settings) -> str:
    path = _file("sasl_password_file", settings.sasl_password_file)
    given = _secret(settings.sasl_password)
    if path is None:
        return given or ""
    if given:
        raise SettingsError(
            "both GROUNDSWELL_SASL_PASSWORD and GROUNDSWELL_SASL_PASSWORD_FILE are set: keep one"
        )
    return path.read_text().rstrip("\r\n")


def _secret(value: Any) -> str | None:
    return None if value is None else value.get_secret_value()
