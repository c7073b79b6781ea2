"""What a node of the embedded broker is told: where it listens, and its configuration."""

import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
# Below the ports that systems give to outgoing connections: a client that knocks at a stopped
# node's port can be given that very port, and the node then finds it taken.
FREE_PORTS = range(20_000, 32_000)

LOG4J = """\
status=error
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName={path}
appender.file.filePattern={path}.%i
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=16MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=2
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d{{ISO8601}} %p %c{{1}}: %m%n
rootLogger.level=info
rootLogger.appenderRef.file.ref=file
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Another way in, beside the plain one: SSL or SASL_SSL.

    Attributes
    ----------
    settings
        Kafka's, as they stand behind ``listener.name.{name}.``: keystore, mechanisms and so on.
    """

    protocol: str
    port: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a node listens, on loopback; what it tells clients where something stands between."""

    node: int
    port: int
    controller_port: int
    told_port: int | None = None
    listeners: tuple[Listener, ...] = ()

    @property
    def bootstrap(self) -> str:
        """The address for clients."""
        return f"{HOST}:{self.port}"


def addresses(
    nodes: int,
    port: int | None,
    told_ports: Sequence[int] | None,
    listeners: Mapping[str, Mapping[str, str]],
) -> tuple[Address, ...]:
    """Give each node its ports: the first a port that is told, where one is, and free ones."""
    free = free_ports((2 + len(listeners)) * nodes)
    return tuple(
        Address(
            node=i + 1,
            port=port + i if port is not None else free[i],
            controller_port=free[nodes + i],
            told_port=told_ports[i] if told_ports else None,
            listeners=tuple(
                Listener(protocol=name, port=free[(2 + rank) * nodes + i], settings=settings)
                for rank, (name, settings) in enumerate(listeners.items())
            ),
        )
        for i in range(nodes)
    )


def server_properties(
    here: Address, peers: tuple[Address, ...], data: Path, more: Mapping[str, str]
) -> str:
    """Return ``server.properties`` for the node at `here`, one of `peers`, with more on top."""
    voters = ",".join(f"{p.node}@{HOST}:{p.controller_port}" for p in peers)
    replication = min(len(peers), 3)
    in_sync = max(replication - 1, 1)
    others = here.listeners
    listen = [f"{one.protocol}://{HOST}:{one.port}" for one in others]
    told = (f"PLAINTEXT://{HOST}:{here.told_port or here.port}", *listen)
    protocols = ("PLAINTEXT", *(one.protocol for one in others))
    internal = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
    settings: dict[str, str | int] = {
        "process.roles": "broker,controller",
        "node.id": here.node,
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "listeners": ",".join(
            (
                f"PLAINTEXT://{here.bootstrap}",
                f"CONTROLLER://{HOST}:{here.controller_port}",
                *listen,
            )
        ),
        "advertised.listeners": ",".join(told),
        "listener.security.protocol.map": ",".join(
            ("CONTROLLER:PLAINTEXT", *(f"{protocol}:{protocol}" for protocol in protocols))
        ),
        "inter.broker.listener.name": "PLAINTEXT",
        **{
            f"listener.name.{one.protocol.lower()}.{name}": value
            for one in others
            for name, value in one.settings.items()
        },
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "default.replication.factor": replication,
        "min.insync.replicas": in_sync,
        **{f"{topic}.num.partitions": 1 for topic in internal},
        **{f"{topic}.replication.factor": replication for topic in internal},
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.min.isr": in_sync,
        "group.initial.rebalance.delay.ms": 0,
        "log.segment.bytes": 16 << 20,
        "log.preallocate": "false",
        "log.index.size.max.bytes": 1 << 20,
        "log.cleaner.dedupe.buffer.size": 16 << 20,  # the default is a third of the heap
        # Half the default: so long a killed node is waited for, and refused when it comes back.
        "broker.session.timeout.ms": 4500,
        "broker.heartbeat.interval.ms": 1000,
        "num.network.threads": 2,
        "num.io.threads": 4,
        **more,
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def port_is_free(port: int) -> bool:
    """Return whether a server can listen on `port` on loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that nothing listens on."""
    found: list[int] = []
    # Not `random`: two test runs with one seed would choose the same ports.
    while len(found) < count:
        port = secrets.choice(FREE_PORTS)
        if port not in found and port_is_free(port):
            found.append(port)
    return found
