"""Settings of a topic that change while it is in use."""

from typing import Any

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType


def set_topic(admin: Any, name: str, **config: float | str) -> None:
    """Change a topic's settings; dots stand as underscores."""
    entries = [
        ConfigEntry(key.replace("_", "."), str(value), incremental_operation=AlterConfigOpType.SET)
        for key, value in config.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
    for changed in admin.incremental_alter_configs([resource]).values():
        changed.result(10)
