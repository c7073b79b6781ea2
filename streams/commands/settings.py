"""``groundswell settings``: every setting, what it means, and what it is now."""

from rich.console import Console
from rich.table import Table

from schemas.registry import without_password
from streams.settings import Settings, load_settings

__all__ = ["show"]


def show() -> None:
    """List every setting: the environment variable, its value now, and what it means.

    Example: GROUNDSWELL_USER_PARTITIONS=16 groundswell settings
    """
    settings = load_settings()
    table = Table("variable", "value", "meaning", box=None, pad_edge=False)
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if name == "registry" and value is not None:
            value = without_password(value)
        set_here = "" if value == field.default else " (set)"
        shown = f"{'-' if value in (None, '') else value}{set_here}"
        table.add_row(f"GROUNDSWELL_{name.upper()}", shown, field.description or "")
    Console().print(table)
