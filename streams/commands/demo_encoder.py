"""The sample release in the demo: announced as a team would, and trusted by the demo's workers."""

import time

from schemas.wire import Codec
from streams.core import releases as step
from streams.kafka.cluster import Cluster
from streams.kafka.release_client import ReleaseClient
from streams.settings import Settings
from streams.simulation.sample_release import DEMO_KEY, FOLDER, NAME, announced

__all__ = ["release_sample", "trusting"]


def trusting() -> dict[str, str]:
    """Settings of a worker that loads the sample: outside the demo nobody trusts its key."""
    return {"encoder_store": str(FOLDER), "trusted_keys": str(DEMO_KEY.public)}


def release_sample(settings: Settings) -> str:
    """Publish the sample release and make it live; the encoder's name."""
    client = ReleaseClient(Cluster(settings.bootstrap), settings.topic_prefix, Codec())
    now_ms = int(time.time() * 1000)
    published = step.publish(None, NAME, announced(), now_ms)
    for releases in (published, step.promote(published, announced().version, now_ms)):
        client.write(releases)
    return NAME
