"""What every worker follows, as agents ask for it: definitions, policies, encoders."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from schemas.campaign import Campaign
from schemas.learning import LearningExample, PolicySnapshot
from schemas.topics import LEARNING_EXAMPLES
from schemas.wire import Codec, Unreadable
from streams.core.encoding import LoadedRelease
from streams.kafka.cluster import Cluster
from streams.kafka.followers import Follower
from streams.kafka.read import read_all
from streams.releases.offered import Offered

__all__ = ["Followed", "read_log"]


@dataclass(frozen=True, slots=True)
class Followed:
    """The topics that all workers follow, and the releases that one of them announces."""

    follower: Follower
    offered: Offered

    def campaign(self, campaign_id: str) -> Campaign | None:
        """The newest definition."""
        return self.follower.campaign(campaign_id)

    def snapshot(self, campaign_id: str, wave: int | None = None) -> PolicySnapshot | None:
        """The newest policy, or the one that a wave is pinned to."""
        return self.follower.snapshot(campaign_id, wave)

    def encoder(self, label: str) -> LoadedRelease | None:
        """A release of an encoder; None while it is not loaded."""
        return self.offered.encoder(label)

    def stands_in(self, label: str) -> str | None:
        """The last good release, where this one is refused here."""
        return self.offered.stands_in(label)


def read_log(
    cluster: Cluster, prefix: str, codec: Codec, since: Mapping[int, int]
) -> Iterator[tuple[int, int, LearningExample]]:
    """Every example that is in the log now from these offsets on: user shard, offset, example."""
    for record in read_all(cluster, prefix + LEARNING_EXAMPLES.name, since=since):
        example = codec.try_decode(record.value, LearningExample)
        if not isinstance(example, Unreadable):
            yield record.partition, record.offset, example
