"""The state of all shards as their changelog says, read on from where it was left."""

import msgspec
from confluent_kafka import KafkaError, TopicPartition

from schemas.topics import SHARD_CHANGELOG, Topic
from streams.core.profiles import Profile
from tests.kafka.harness import Deployment


class Changelog:
    """The newest value of each key: a changelog of gigabytes is read once, not at every look."""

    def __init__(self, deployment: Deployment, topic: Topic = SHARD_CHANGELOG) -> None:
        self._name = deployment.prefix + topic.name
        self._reader = deployment._consumer(
            "chaos-reader",
            **{
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": 32 * 1024,
            },
        )
        numbers = self._reader.list_topics(self._name, timeout=30).topics[self._name].partitions
        self._at = dict.fromkeys(numbers, 0)
        self._reader.assign([TopicPartition(self._name, number, 0) for number in numbers])
        self.state: dict[tuple[int, bytes], bytes] = {}
        self._profiles: dict[str, Profile] = {}

    def read(self) -> None:
        """Go on to the end as it is now."""
        ends = {
            number: self._reader.get_watermark_offsets(
                TopicPartition(self._name, number), timeout=30
            )[1]
            for number in self._at
        }
        while any(self._at[number] < end for number, end in ends.items()):
            for message in self._reader.consume(5000, 0.1):
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    continue  # a broker is away: it comes back
                self._at[message.partition()] = message.offset() + (error is None)
                if error is None and not message.key().startswith(b"!"):
                    self._take(message.partition(), message.key(), message.value())

    def _take(self, partition: int, key: bytes, value: bytes | None) -> None:
        if key.startswith(b"p"):
            self._profiles.pop(key[1:].decode(), None)
        if value is None:
            self.state.pop((partition, key), None)
        else:
            self.state[partition, key] = value

    def profiles(self) -> dict[str, Profile]:
        """Everybody's profile as it is now."""
        self.read()
        for (_, key), value in self.state.items():
            if key.startswith(b"p") and (user := key[1:].decode()) not in self._profiles:
                self._profiles[user] = msgspec.msgpack.decode(value, type=Profile)
        return self._profiles

    def close(self) -> None:
        self._reader.close()
