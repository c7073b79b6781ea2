"""A log's replay from beginning to end: a Kafka if there is none, topics, workers, the feed."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from schemas.errors import GroundswellError
from streams.kafka.broker import EmbeddedKafka
from streams.kafka.cluster import Cluster
from streams.simulation.children import Children
from streams.simulation.log_deployment import Deployment
from streams.simulation.log_feed import Feed, Prepared, Progress, Replayed

__all__ = ["log_prefix", "replay"]


def log_prefix(log: Path, mapping: Path) -> str:
    """The prefix of a replay's topics: of what the log and its mapping contain.

    Raises
    ------
    GroundswellError
        If one of them cannot be read.
    """
    digest = hashlib.sha256()
    for path in (mapping, log):
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise GroundswellError(
                f"{path} cannot be read: {error.strerror}: check the path"
            ) from None
    return f"replay-{digest.hexdigest()[:10]}-"


def replay(
    prepared: Prepared,
    deployment: Deployment | None,
    *,
    prefix: str,
    logs: Path,
    workers: int = 1,
    users: int = 4,
    keep: bool = False,
    replace: bool = False,
    progress: Progress = lambda _what, _rows: None,
) -> Replayed:
    """Replay a log with workers of its own. What it starts ends with it, whatever happens.

    Parameters
    ----------
    deployment
        Where; None: on a Kafka that is started for it.
    prefix, users
        Of the topics on such a Kafka.
    logs
        Folder of the processes' logs.
    keep, replace
        Whether topics stay, and whether such topics of another replay are deleted first.

    Raises
    ------
    GroundswellError
        If a process of it ended, or the log is refused.
    """
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="groundswell-")))
        if deployment is None:
            progress("Kafka starts", 0)
            kafka = stack.enter_context(EmbeddedKafka(folder / "kafka", die_with_parent=True))
            deployment = Deployment(cluster=Cluster(kafka.bootstrap), prefix=prefix, users=users)
        progress("topics are made", 0)
        if replace:
            deployment.remove()
        stack.enter_context(_topics(deployment, keep=keep))
        children = Children(logs)
        stack.callback(children.stop)
        feed = Feed(deployment, prepared, alive=children.check, progress=progress)
        feed.apply_campaign()
        for number in range(1, workers + 1):
            env = deployment.worker_env(folder / f"worker-{number}")
            children.start(f"worker-{number}", ["-m", "streams", "worker"], env)
        return feed.run()


@contextmanager
def _topics(deployment: Deployment, *, keep: bool) -> Iterator[None]:
    deployment.make()
    try:
        yield
    finally:
        if not keep:
            deployment.remove()
