"""The eight templates of a company in a box, with the features that a policy sees."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.campaign import Template

__all__ = ["BASELINE_TEMPLATE", "FEATURES", "TEMPLATES", "TYPES", "action_features", "type_of"]

TYPES: Final = ("upsell", "discount", "reminder", "news")
FEATURES: Final = (*TYPES, "price", "tone", "push", "sms")
BASELINE_TEMPLATE: Final = "monthly-letter"  # what the company sent to everyone before


def _template(
    template_id: str, kind: str, channel: str, *, price: float, tone: float, subject: str
) -> Template:
    """Describe a template.

    Parameters
    ----------
    price
        What it asks for, as a share of the dearest plan: 0 asks for nothing.
    tone
        -1 formal to 1 playful.
    """
    given = {kind: 1.0, channel: 1.0, "price": price, "tone": tone}
    return Template(
        id=template_id,
        channel=channel,
        features={name: given.get(name, 0.0) for name in FEATURES},
        variables={"subject": subject},
    )


TEMPLATES: Final = (
    _template(
        "monthly-letter",
        "news",
        "email",
        price=0.0,
        tone=-0.6,
        subject="What changed for you this month",
    ),
    _template(
        "whats-new",
        "news",
        "push",
        price=0.0,
        tone=0.6,
        subject="Fresh out of the workshop!",
    ),
    _template(
        "upgrade-plan",
        "upsell",
        "email",
        price=0.9,
        tone=-0.4,
        subject="You have outgrown your plan",
    ),
    _template(
        "try-pro",
        "upsell",
        "push",
        price=0.5,
        tone=0.7,
        subject="Two weeks of pro, on us",
    ),
    _template(
        "twenty-off",
        "discount",
        "email",
        price=0.4,
        tone=-0.1,
        subject="20 % off until Sunday",
    ),
    _template(
        "flash-sale",
        "discount",
        "sms",
        price=0.2,
        tone=0.9,
        subject="Flash sale! Three hours only",
    ),
    _template(
        "finish-setup",
        "reminder",
        "email",
        price=0.0,
        tone=-0.5,
        subject="Two steps left to finish your setup",
    ),
    _template(
        "we-miss-you",
        "reminder",
        "email",
        price=0.2,
        tone=0.8,
        subject="It is quiet here without you",
    ),
)


def type_of(template: Template) -> str:
    """Read a template's type back from its features."""
    return next(name for name in TYPES if template.features[name])


def action_features() -> NDArray[np.float64]:
    """Give the templates' features as actions a of shape (k, d_action)."""
    return np.array([[template.features[name] for name in FEATURES] for template in TEMPLATES])
