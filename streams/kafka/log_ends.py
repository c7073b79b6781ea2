"""Where the logs of inputs start and end, and whether that fits what a shard contains."""

from collections.abc import Iterable, Sequence

from confluent_kafka import TopicPartition
from faust.types import TP

from schemas.errors import ShardError
from streams.kafka.cluster import Cluster
from streams.kafka.read import bounds, groupless_reader, partitions_of
from streams.kafka.shard import Shard

__all__ = ["check_log", "check_logs", "log_ends"]


def log_ends(cluster: Cluster, partitions: Iterable[TP]) -> dict[TP, tuple[int, int]]:
    """First offset, and the one behind the last, of each partition that there is.

    Of two topics that belong together the company's own may have fewer partitions.
    """
    reader = groupless_reader(cluster)
    try:
        wanted = list(partitions)
        numbers = {topic: partitions_of(reader, topic) for topic in {tp.topic for tp in wanted}}
        return {
            tp: bounds(reader, TopicPartition(tp.topic, tp.partition))
            for tp in wanted
            if tp.partition in numbers[tp.topic]
        }
    finally:
        reader.close()


def check_logs(cluster: Cluster, shards: Sequence[Shard]) -> dict[TP, int]:
    """Where each input's log starts.

    Raises
    ------
    ShardError
        Where a log does not fit what a shard contains.
    """
    inputs = {TP(topic, shard.number): shard for shard in shards for topic in shard.kind.inputs}
    starts: dict[TP, int] = {}
    for tp, (low, high) in log_ends(cluster, inputs).items():
        check_log(inputs[tp], tp.topic, low, high)
        starts[tp] = low
    return starts


def check_log(shard: Shard, topic: str, low: int, high: int) -> None:
    """Refuse a log that lacks what comes next, or ends before what the shard contains."""
    applied = shard.applied(topic)
    where = f"shard {shard.kind.name}/{shard.number}"
    next_offset = shard.contains_up_to(topic)
    if applied >= 0 and next_offset < low:
        raise ShardError(
            f"{where} contains {topic} up to offset {applied}, but its log starts at {low}: "
            f"up to {low - next_offset} records are missing. Restore them, or delete the shard's "
            "changelog to start anew without them"
        )
    if applied >= high:
        raise ShardError(
            f"{where} contains {topic} up to offset {applied}, but its log ends at {high}: "
            "the topic was cut or made again. Bring it back, or delete the shard's changelog"
        )
