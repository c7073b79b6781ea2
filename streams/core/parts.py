"""Learning in parts: which campaigns do it, and how much a shard gathers for it."""

from schemas.campaign import Campaign, WaveStart
from schemas.errors import CampaignError
from streams.core.encoding import ContextEncoder, action_set
from streams.core.policies import Policy
from streams.core.sums import packed_bytes

__all__ = ["block_rows", "half_lives_of", "row_bytes", "sums_bytes"]

LARGEST_SUMS = 8192  # actions times (1 + columns): a shard's sums have at most 17 MB a half-life
FEWEST_ROWS = 1024
LARGEST_BLOCK = 4 * 1024 * 1024  # bytes: half of what the changelog takes under one key


def half_lives_of(campaign: Campaign, policy: Policy) -> list[float] | None:
    """Half-lives, in milliseconds, that shards sum a wave's outcomes with; None: they do not.

    With ``learning: auto`` they do where the policy comes out the same but for rounding. A log is
    learned by examples: what is replayed twice leaves the same bytes.

    Raises
    ------
    CampaignError
        If the campaign asks for parts and cannot have them.
    """
    if campaign.learning == "examples" or campaign.clip_rewards is not None:
        return None
    asked = campaign.learning == "parts"
    if campaign.encoder is not None:
        if asked:
            raise CampaignError(
                "learning is parts, and the campaign has an encoder: what another release is to "
                "learn cannot be summed up before; use learning: examples"
            )
        return None
    weights = len(action_set(campaign)) * (1 + ContextEncoder(campaign.context).d_user)
    if not policy.half_lives_ms:
        if asked:
            raise CampaignError(
                f"learning is parts, and what policy {policy.name} learns does not add up: use a "
                "linear policy, or learning: examples"
            )
        return None
    if weights > LARGEST_SUMS:
        if asked:
            raise CampaignError(
                f"learning is parts, and actions x (1 + context columns) is {weights}, at most "
                f"{LARGEST_SUMS} are summed up: use fewer, or learning: examples"
            )
        return None
    if not asked and (campaign.status == "logged" or not policy.same_in_parts):
        return None
    return list(policy.half_lives_ms)


def row_bytes(start: WaveStart) -> int:
    """How many bytes an example takes in a record."""
    return 4 * ContextEncoder(start.campaign.context).d_user + 28


def sums_bytes(start: WaveStart) -> int:
    """About how many bytes all sums of a wave take."""
    width = ContextEncoder(start.campaign.context).d_user
    return len(start.half_lives_ms or ()) * len(action_set(start.campaign)) * packed_bytes(width)


def block_rows(start: WaveStart) -> int:
    """How many examples a shard gathers before it adds them to its sums.

    About as many as take the room of the sums: so that writing the sums again and again costs no
    more than writing the examples did. The number depends on nothing but the campaign, so that
    the same outcomes in the same order are added in the same groups.
    """
    size = row_bytes(start)
    return min(max(sums_bytes(start) // size, FEWEST_ROWS), LARGEST_BLOCK // size)
