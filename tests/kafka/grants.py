"""The ACLs that `.github/SECURITY.md` says a worker and its commands need, line by line."""

from collections.abc import Iterator, Sequence

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from schemas.topics import (
    CAMPAIGN_CHANGELOG,
    CAMPAIGNS,
    DEAD_LETTERS,
    ENCODER_RELEASES,
    INGEST_CHANGELOG,
    LEARNING_EXAMPLES,
    LEARNING_UPDATES,
    LOGGED_DECISIONS,
    POLICY_SNAPSHOTS,
    REWARDS,
    SEND_DECISIONS,
    SHARD_CHANGELOG,
    USER_EVENTS,
    WAVE_REPORTS,
    WAVE_STARTS,
)

__all__ = ["Grant", "commands", "grant", "worker"]

READ, WRITE, CREATE = AclOperation.READ, AclOperation.WRITE, AclOperation.CREATE
ABOUT = AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS
BOTH = (
    *(USER_EVENTS, REWARDS, WAVE_STARTS, LEARNING_EXAMPLES, LEARNING_UPDATES, POLICY_SNAPSHOTS),
    *(SHARD_CHANGELOG, CAMPAIGN_CHANGELOG, INGEST_CHANGELOG),
)
READ_ALONE = (CAMPAIGNS, ENCODER_RELEASES, LOGGED_DECISIONS)
WRITTEN_ALONE = (SEND_DECISIONS, WAVE_REPORTS, DEAD_LETTERS)

Grant = tuple[ResourceType, str, AclOperation]  # a transactional id is a prefix


def worker(prefix: str, app: str, sources: Sequence[str]) -> Iterator[Grant]:
    """What a worker needs."""
    for topic in (*BOTH, *READ_ALONE):
        yield ResourceType.TOPIC, prefix + topic.name, READ
    for topic in (*BOTH, *WRITTEN_ALONE):
        yield ResourceType.TOPIC, prefix + topic.name, WRITE
    topics = [prefix + topic.name for topic in (*BOTH, *READ_ALONE, *WRITTEN_ALONE)]
    for name in (*topics, *sources):
        for about in ABOUT:
            yield ResourceType.TOPIC, name, about
    for source in sources:
        yield ResourceType.TOPIC, source, READ
    yield ResourceType.GROUP, prefix + app, READ
    yield ResourceType.TRANSACTIONAL_ID, f"{prefix}{app}-", WRITE


def commands(prefix: str, events: str, feedback: str) -> Iterator[Grant]:
    """What `topics ensure`, `users import`, `events tail` and `campaign apply` need."""
    topics = [prefix + topic.name for topic in (*BOTH, *READ_ALONE, *WRITTEN_ALONE)]
    for name in (*topics, events, feedback):
        for right in (CREATE, *ABOUT):
            yield ResourceType.TOPIC, name, right
    yield ResourceType.TOPIC, events, WRITE
    yield ResourceType.TOPIC, events, READ
    yield ResourceType.TOPIC, prefix + CAMPAIGNS.name, READ
    yield ResourceType.TOPIC, prefix + CAMPAIGNS.name, WRITE
    yield ResourceType.TRANSACTIONAL_ID, f"{prefix}{CAMPAIGNS.name}/", WRITE


def grant(admin: AdminClient, who: str, grants: Iterator[Grant] | Sequence[Grant]) -> None:
    """Let a principal do so much, and no more."""
    acls = [
        AclBinding(
            kind,
            name,
            ResourcePatternType.PREFIXED
            if kind is ResourceType.TRANSACTIONAL_ID
            else ResourcePatternType.LITERAL,
            who,
            "*",
            operation,
            AclPermissionType.ALLOW,
        )
        for kind, name, operation in grants
    ]
    for made in admin.create_acls(acls, request_timeout=30).values():
        made.result(30)
