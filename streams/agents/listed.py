"""Listed audiences in state: under keys of their own, so that nothing else is written with them.

A shard of the users keeps its part of a wave's list in blocks: a chunk reads the block that it has
come to, and writes none. A campaign's shard keeps the whole list beside the definition.
"""

from collections.abc import Iterator
from itertools import islice

from schemas.campaign import WaveStart
from streams.agents.state import State, load, store, wave_key

__all__ = ["drop_list", "keep_audience", "listed_audience", "listed_users", "put_list"]

BLOCK = 1000  # users


def put_list(state: State, start: WaveStart) -> None:
    """Keep the users of a wave."""
    users = start.users or []
    for number, first in enumerate(range(0, len(users), BLOCK)):
        store(state, _prefix(start) + number.to_bytes(4, "big"), users[first : first + BLOCK])


def listed_users(state: State, start: WaveStart, first: int) -> Iterator[str]:
    """Users of a wave from a place in its list on."""
    number, skip = divmod(first, BLOCK)
    while True:
        block = load(state, _prefix(start) + number.to_bytes(4, "big"), list[str])
        if block is None:
            return
        yield from islice(block, skip, None)
        number, skip = number + 1, 0


def drop_list(state: State, start: WaveStart) -> None:
    """Forget the users of a wave that has decided for all of them."""
    for key, _ in list(state.scan(_prefix(start))):
        state.delete(key)


def keep_audience(state: State, campaign_id: str, users: list[str] | None) -> None:
    """Keep whom a campaign lists; None: it lists nobody."""
    if users is None:
        state.delete(_audience_key(campaign_id))
    else:
        store(state, _audience_key(campaign_id), users)


def listed_audience(state: State, campaign_id: str) -> list[str] | None:
    """Whom a campaign lists."""
    return load(state, _audience_key(campaign_id), list[str])


def _prefix(start: WaveStart) -> bytes:
    return b"m" + wave_key(start.campaign.campaign_id, start.wave)[1:]


def _audience_key(campaign_id: str) -> bytes:
    return b"y" + campaign_id.encode()
