"""The ACLs that `.github/SECURITY.md` says a worker and its commands need."""

from collections.abc import Sequence

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from schemas.topics import CAMPAIGNS, TOPICS

__all__ = ["grant_commands", "grant_worker"]

LITERAL, PREFIXED = ResourcePatternType.LITERAL, ResourcePatternType.PREFIXED
READ, WRITE, DESCRIBE = AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE
CREATE, ALTER = AclOperation.CREATE, AclOperation.ALTER_CONFIGS
CONFIGS = AclOperation.DESCRIBE_CONFIGS

Grant = tuple[ResourceType, str, ResourcePatternType, Sequence[AclOperation]]


def grant_worker(
    admin: AdminClient, who: str, prefix: str, app: str, sources: Sequence[str]
) -> None:
    """What a worker needs."""
    _grant(
        admin,
        who,
        [
            *((ResourceType.TOPIC, name, LITERAL, [READ, CONFIGS]) for name in sources),
            *(
                (ResourceType.TOPIC, prefix + topic.name, LITERAL, [READ, WRITE, DESCRIBE, CONFIGS])
                for topic in TOPICS
            ),
            (ResourceType.GROUP, prefix + app, LITERAL, [READ]),
            (ResourceType.TRANSACTIONAL_ID, f"{prefix}{app}-", PREFIXED, [WRITE, DESCRIBE]),
        ],
    )


def grant_commands(admin: AdminClient, who: str, prefix: str) -> None:
    """What `topics ensure`, `users import`, `events tail` and `campaign apply` need."""
    both = [READ, WRITE, DESCRIBE, CONFIGS, CREATE, ALTER]
    _grant(
        admin,
        who,
        [
            (ResourceType.TOPIC, prefix, PREFIXED, both),
            (
                ResourceType.TRANSACTIONAL_ID,
                f"{prefix}{CAMPAIGNS.name}/",
                PREFIXED,
                [WRITE, DESCRIBE],
            ),
        ],
    )


def _grant(admin: AdminClient, who: str, grants: Sequence[Grant]) -> None:
    acls = [
        AclBinding(kind, name, pattern, who, "*", operation, AclPermissionType.ALLOW)
        for kind, name, pattern, operations in grants
        for operation in operations
    ]
    for made in admin.create_acls(acls, request_timeout=30).values():
        made.result(30)
