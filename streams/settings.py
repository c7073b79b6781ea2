"""Settings: read once, at the edge, from the environment (`GROUNDSWELL_*`), and passed down."""

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.errors import SettingsError

__all__ = ["Settings", "load_settings"]


class Settings(BaseSettings):
    """Everything about a process that is not in a campaign.

    Each setting is an environment variable with the prefix `GROUNDSWELL_`, in capitals.
    """

    model_config = SettingsConfigDict(env_prefix="GROUNDSWELL_", extra="ignore", frozen=True)

    bootstrap: str = Field("127.0.0.1:9092", description="Kafka's address: host:port[,host:port]")
    security_protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = Field(
        "plaintext", description="How Kafka is spoken with: as Kafka's security.protocol"
    )
    ssl_ca: Path | None = Field(
        None, description="Certificates (PEM) that sign the brokers' own; else the system's"
    )
    ssl_certificate: Path | None = Field(
        None, description="A certificate (PEM) of one's own, for brokers that want one"
    )
    ssl_key: Path | None = Field(None, description="Its key (PEM)")
    ssl_key_password: SecretStr | None = Field(None, description="The key's password")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How the password is shown to the brokers"
    )
    sasl_username: str = Field("", description="Kafka's user")
    sasl_password: SecretStr | None = Field(None, description="The user's password")
    sasl_password_file: Path | None = Field(
        None, description="A file with that password, as secrets are mounted; instead of it"
    )
    app: str = Field("groundswell", description="Consumer group, and prefix of transactional ids")
    topic_prefix: str = Field("", description="Put before every topic's name")
    registry: str | None = Field(None, description="URL of a Confluent-compatible schema registry")
    user_partitions: int = Field(4, ge=1, le=4096, description="Number of user shards")
    campaign_partitions: int = Field(2, ge=1, le=4096, description="Number of campaign shards")
    replication: int = Field(3, ge=1, le=9, description="Replicas of each topic that is made")
    min_insync: int = Field(2, ge=1, le=9, description="Replicas that must confirm a write")
    event_sources: str = Field(
        "company-events", description="The company's own topics of UserEvent, comma-separated"
    )
    reward_sources: str = Field(
        "company-feedback", description="The company's own topics of Reward, comma-separated"
    )
    data_dir: Path = Field(
        Path("~/.local/share/groundswell/worker"), description="A worker's own: the shards' state"
    )
    instance: str = Field(
        "", description="A worker's stable name in the group (static membership); empty: none"
    )
    clock: Literal["wall", "event"] = Field(
        "wall",
        description="wall: an input read to its end is as late as now; event: never",
    )
    commit_interval_s: float = Field(
        0.02,
        ge=0.0,
        le=10.0,
        description="A shard begins a transaction on an input at most so often: less is sooner, "
        "more is cheaper",
    )
    batch_size: int = Field(5000, ge=1, le=100_000, description="Most events in one transaction")
    chunk_size: int = Field(500, ge=1, le=10_000, description="Users decided in one transaction")
    snapshot_interval_s: float = Field(
        60.0,
        ge=1.0,
        le=86_400.0,
        description="Between two snapshots of what comes in after a campaign's last wave",
    )
    session_timeout_s: float = Field(10.0, ge=1.0, description="A silent worker is dead after this")
    rebalance_timeout_s: float = Field(
        60.0, ge=1.0, description="Workers have so long to hand over, restoring included"
    )
    transaction_timeout_s: float = Field(
        30.0,
        ge=1.0,
        description="A transaction that is open for so long is aborted, and its worker ends (exit "
        "3); a triggered send is decided within one",
    )
    store_cache_mb: int = Field(
        24,
        ge=1,
        description="RocksDB's memory in a worker, in MB: the cache, and what is unwritten. What "
        "does not fit is read from the system's cache of files; raise it above 1,000,000 profiles",
    )
    watchdog_s: float = Field(
        60.0, ge=1.0, description="A worker that stands still under lag for so long ends (exit 5)"
    )
    health_host: str = Field("127.0.0.1", description="Where /live, /ready and /metrics answer")
    health_port: int = Field(0, ge=0, le=65_535, description="Their port; 0: a free one, logged")
    encoder_store: str = Field(
        "~/.local/share/groundswell/encoders",
        description="Where encoders' releases lie: a folder, or an object store's URL",
    )
    trusted_keys: str = Field(
        "",
        description="Keys whose releases are loaded, comma-separated: ed25519:... or .pub files",
    )
    encoder_mb: int = Field(
        64, ge=1, le=2048, description="An encoder's model may have so many MiB"
    )
    encoder_threads: int = Field(
        1, ge=1, le=64, description="Threads of onnxruntime in a worker, for one chunk"
    )
    encoder_cache: int = Field(
        10_000,
        ge=0,
        le=10_000_000,
        description="Encodings kept for each release, for profiles that come again unchanged "
        "within the hour, at about 1 KB; 0: none",
    )
    profile_kb: int = Field(64, ge=1, le=4096, description="A profile may have so many KiB")
    time_ahead_s: float = Field(
        300.0, ge=0.0, description="Times further ahead of the clock do not advance it"
    )
    time_impossible_s: float = Field(
        86_400.0, ge=0.0, description="Times further ahead of the clock are refused: dead letters"
    )

    @field_validator(
        *("security_protocol", "ssl_ca", "ssl_certificate", "ssl_key", "ssl_key_password"),
        *("sasl_mechanism", "sasl_password", "sasl_password_file"),
        mode="before",
    )
    @classmethod
    def _or_default(cls, value: object, info: ValidationInfo) -> object:
        """What is empty is not set, as templates of containers leave it."""
        assert info.field_name is not None
        return cls.model_fields[info.field_name].default if value == "" else value

    @field_validator("security_protocol", mode="before")
    @classmethod
    def _protocol(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value  # Kafka's own are in capitals

    @field_validator("sasl_mechanism", mode="before")
    @classmethod
    def _mechanism(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("topic_prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._-]{0,60}", value):
            raise ValueError("at most 60 letters, digits, dots, dashes and underscores")
        return value

    @property
    def source_topics(self) -> dict[str, str]:
        """The company's own topics: name to the kind of record that stands in it."""
        sources = {
            self.topic_prefix + name: kind
            for names, kind in ((self.event_sources, "event"), (self.reward_sources, "reward"))
            for name in re.split(r"[,\s]+", names)
            if name
        }
        return dict(sorted(sources.items()))


def load_settings(**given: object) -> Settings:
    """Settings from the environment, with what a command was given on top.

    Raises
    ------
    SettingsError
        One line for the first value that cannot be used.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"])
        raise SettingsError(
            f"setting {name} (GROUNDSWELL_{name.upper()}): {first['msg']}, got {first['input']!r}"
        ) from error
