"""The people of a company in a box: attributes, contacts, and what a campaign sees of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHANNELS", "People", "campaign_features", "draw_people", "encode", "feature_names"]

CHANNELS = ("email", "push", "sms")
REACH = (0.97, 0.70, 0.40)  # the share of people that each channel reaches
PLANS = ("free", "plus", "pro")
DEVICES = ("ios", "android", "web")
COUNTRIES = ("US", "GB", "DE", "FR", "BR")
LIMIT = 3.0  # a numeric feature is clipped to this many scales


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """An audience, column by column.

    Attributes
    ----------
    ids
        ``u000001`` onwards, (n,).
    columns
        Attribute name to its values, each (n,). A float column may hold nan: not known.
    reach
        Whether each channel of :data:`CHANNELS` reaches each person, (n, 3).
    """

    ids: NDArray[np.str_]
    columns: Mapping[str, NDArray[Any]]
    reach: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    def attributes(self, index: int) -> dict[str, str | float | int | bool]:
        """Give what the company knows of one person; what it does not know is left out."""
        known = {name: column[index].item() for name, column in self.columns.items()}
        return {name: value for name, value in known.items() if value == value}  # noqa: PLR0124 nan

    def contacts(self, index: int) -> dict[str, str]:
        """Give one person's contact reference on each channel that reaches them; all are fake."""
        person = str(self.ids[index])
        # 555-0100 to 555-0199 is set aside for fiction in each area code
        area, line = 200 + index // 100 % 800, index % 100
        references = (f"{person}@example.com", f"device-{person}", f"+1{area}55501{line:02d}")
        return {
            channel: reference
            for channel, reference, reached in zip(
                CHANNELS, references, self.reach[index], strict=True
            )
            if reached
        }


def draw_people(rng: np.random.Generator, n_people: int) -> People:
    """Draw an audience whose attributes hang together as a subscription business's do."""
    age = np.clip(rng.normal(40.0, 15.0, n_people).round(), 18, 90)
    tenure_days = np.clip(rng.exponential(400.0, n_people).round(), 0, 3_000)
    # the longer with us, the likelier to pay; the younger, the likelier to hunt for discounts
    ladder = rng.normal(0.0, 1.0, n_people) + 0.4 * (tenure_days - 400.0) / 400.0
    plan = np.array(PLANS)[np.digitize(ladder, (0.1, 0.9))]
    keen = -0.3 - 0.3 * (age - 40.0) / 15.0 + 0.3 * (plan == "free")
    last_discount_used = rng.random(n_people) < 1.0 / (1.0 + np.exp(-keen))
    weekly_sessions = np.clip(rng.gamma(2.0, 2.5, n_people).round(1), 0.0, 40.0)
    # paying people are seldom idle
    weekly_sessions = np.where(plan == "free", weekly_sessions, weekly_sessions + 1.0)
    columns: dict[str, NDArray[Any]] = {
        "age": np.where(rng.random(n_people) < 0.04, np.nan, age),  # not everyone tells
        "plan": plan,
        "tenure_days": tenure_days.astype(np.int64),
        "country": rng.choice(COUNTRIES, n_people, p=(0.45, 0.2, 0.15, 0.1, 0.1)),
        "device": rng.choice(DEVICES, n_people, p=(0.4, 0.4, 0.2)),
        "last_discount_used": last_discount_used,
        "weekly_sessions": weekly_sessions,
    }
    return People(
        ids=np.array([f"u{number:06d}" for number in range(1, n_people + 1)]),
        columns=columns,
        reach=rng.random((n_people, len(CHANNELS))) < np.array(REACH),
    )


def campaign_features() -> list[dict[str, Any]]:
    """Give the context features that a campaign on these people uses, as its YAML has them.

    A number becomes ``(value - center) / scale`` clipped to [-3, 3], ``one_of`` one column a
    value, a boolean 0 or 1; what is missing is 0. Device and country matter a little to people's
    tastes and are left out, as a marketer would leave them out.
    """
    return [
        {"attribute": "age", "center": 40, "scale": 15},
        {"attribute": "plan", "one_of": list(PLANS)},
        {"attribute": "tenure_days", "center": 400, "scale": 400},
        {"attribute": "last_discount_used"},
        {"attribute": "weekly_sessions", "center": 5, "scale": 3.5},
    ]


def feature_names(features: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the columns of :func:`encode`, in order."""
    return [
        name
        for feature in features
        for name in (
            [f"{feature['attribute']}={value}" for value in feature["one_of"]]
            if "one_of" in feature
            else [feature["attribute"]]
        )
    ]


def encode(people: People) -> NDArray[np.float64]:
    """Encode people by :func:`campaign_features`, to contexts x of shape (n, d_user)."""
    columns: list[NDArray[np.float64]] = []
    for feature in campaign_features():
        values = people.columns[feature["attribute"]]
        if "one_of" in feature:
            columns += [(values == value).astype(np.float64) for value in feature["one_of"]]
        elif "scale" in feature:
            scaled = (values - feature["center"]) / feature["scale"]
            columns.append(np.clip(np.nan_to_num(scaled), -LIMIT, LIMIT))
        else:
            columns.append(values.astype(np.float64))
    return np.stack(columns, axis=1)
