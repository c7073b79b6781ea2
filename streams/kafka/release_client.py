"""Releases of encoders from outside the workers: looked at, and moved a step."""

from collections.abc import Sequence

import structlog

from schemas.encoder_releases import EncoderReleases
from schemas.errors import ReleaseError
from schemas.topics import ENCODER_RELEASES
from schemas.wire import Codec
from streams.kafka.cluster import Cluster
from streams.kafka.confirmed import write_next
from streams.kafka.newest import last_readable, read_newest

__all__ = ["ReleaseClient"]

log = structlog.get_logger()


class ReleaseClient:
    """Reads and writes the topic of releases.

    Parameters
    ----------
    prefix
        Of the topics' names.
    """

    def __init__(self, cluster: Cluster, prefix: str, codec: Codec) -> None:
        self._cluster = cluster
        self._codec = codec
        self._topic = prefix + ENCODER_RELEASES.name

    def all(self) -> dict[str, EncoderReleases]:
        """How the releases of every encoder stand, by name.

        Raises
        ------
        BusError
            If the topic cannot be read.
        """
        return read_newest(
            self._cluster,
            self._topic,
            self._codec,
            EncoderReleases,
            lambda name, why: log.warning("releases_unreadable", encoder=name, why=why),
        )

    def named(self, name: str) -> EncoderReleases:
        """How the releases of an encoder stand.

        Raises
        ------
        ReleaseError
            If nothing was published under this name.
        """
        found = self.all()
        if name not in found:
            raise ReleaseError(
                f"nothing was published as {name!r}, there is {', '.join(found) or 'nothing'}: "
                "publish it with `groundswell encoder publish`"
            )
        return found[name]

    def write(self, releases: EncoderReleases) -> None:
        """Announce a step.

        Raises
        ------
        ReleaseError
            If someone else took the step first: then nothing was written, theirs stands.
        BusError
            If it cannot be written.
        """
        write_next(
            self._cluster,
            self._topic,
            releases.name.encode(),
            self._codec.encode(self._topic, releases),
            ENCODER_RELEASES.max_bytes,
            lambda before: self._check_next(releases, before),
        )

    def _check_next(self, releases: EncoderReleases, before: Sequence[bytes | None]) -> None:
        """Hold that a step follows the one before it; what cannot be read counts for nothing."""
        found = last_readable(before, self._codec, EncoderReleases)
        stands = 0 if found is None else found.step
        if stands != releases.step - 1:
            raise ReleaseError(
                f"the releases of {releases.name} were changed by someone else at the same time "
                f"(step {stands} stands, {releases.step - 1} was changed), nothing was written: "
                "look at them with `groundswell encoder list`, then try again"
            )
