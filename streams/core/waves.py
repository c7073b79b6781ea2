"""Deciding for a chunk of a wave's users, as arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.campaign import WaveStart
from schemas.errors import PropensityError
from schemas.hashing import decision_id, seed_of
from schemas.ids import BASELINE, NO_SEND, POLICY
from schemas.records import Decision
from streams.core.audience import Audience, Membership
from streams.core.encoding import ContextEncoder, LoadedRelease, action_set
from streams.core.glimpses import Glimpse, glimpse_of
from streams.core.ledger import Entry
from streams.core.policies import Policy, draw
from streams.core.policies.fatigue import recovering
from streams.core.policies.no_send import with_no_send_eligible
from streams.core.profiles import Profile, action_key

__all__ = ["Choice", "Wave", "deciding_policy"]

HOUR_MS = 3_600_000


class Choice(msgspec.Struct, frozen=True, gc=False):
    """A decision as its sender gets it, and as the ledger keeps it while its outcome is open."""

    decision: Decision
    entry: Entry | None  # None: a rule sends nothing, and nothing is learned of it


def deciding_policy(start: WaveStart, policy: Policy) -> Policy:
    """Give the policy that decides a wave, made of the one that it is pinned to.

    What it simulates is simulated once, the same in every shard: all chunks of the wave, however
    small, share its draws from the posterior.
    """
    decides = policy.for_last_wave() if start.is_last else policy
    rng = np.random.default_rng(seed_of(start.campaign.campaign_id, start.wave))
    return decides.with_kept_draws(action_set(start.campaign), rng)


class Wave:
    """One wave in one shard: everything that is fixed for all of its chunks.

    Parameters
    ----------
    start
        The campaign and the versions that the wave is pinned to.
    policy
        The frozen policy of those versions (`deciding_policy`). Never changed here.
    release
        Of the campaign's encoder, that the wave is pinned to; None without one.
    unit
        What a reward of 1 in the policy is, in the campaign's units of reward.
    """

    def __init__(
        self,
        start: WaveStart,
        policy: Policy,
        release: LoadedRelease | None = None,
        unit: float = 1.0,
    ) -> None:
        self.start = start
        self._policy = policy
        self._unit = unit
        self._encoder = ContextEncoder(start.campaign.context, release)
        self._actions = action_set(start.campaign)
        self.audience = Audience(start)
        asked = self._encoder.attributes
        self._profile: type[Profile] = (
            Glimpse if asked is None else glimpse_of(asked | self.audience.attributes)
        )
        self._read = msgspec.msgpack.Decoder(self._profile).decode
        self._choices: dict[tuple[bool, ...], tuple[list[int], list[str]]] = {}
        self._rows = {name: row for row, name in enumerate(self._actions.ids)}

    def profile_of(self, raw: bytes | None) -> Profile:
        """A user's profile from a shard's state, as far as this wave asks for it."""
        return self._profile() if raw is None else self._read(raw)

    def decide(
        self,
        people: Sequence[tuple[str, Profile]],
        chunk: int,
        now_ms: int,
        shut: frozenset[str] = frozenset(),
        events: Mapping[str, int] | None = None,
    ) -> list[Choice]:
        """Decide for users of an instalment's chunk, for whom the segment holds.

        The random stream is a function of campaign, wave, shard and chunk: a chunk that is
        decided again gets the same actions.

        Parameters
        ----------
        people
            User ids and profiles.
        chunk
            Number of the chunk in this wave and shard.
        now_ms
            The time of the decisions.
        shut
            Templates that were paused since the wave began.
        events
            By user, what tells the event apart that triggered the decision; None where the
            wave's schedule did.
        """
        triggers = events or {}
        start = self.start
        if not people:
            return []
        rules = [self.audience.membership(user, profile, now_ms, shut) for user, profile in people]
        contexts, features = self._encoder.encode_many([profile for _, profile in people], now_ms)
        eligible = np.array([rule.eligible for rule in rules], dtype=np.bool_)
        if start.campaign.no_send:
            eligible = with_no_send_eligible(eligible)
        rng = np.random.default_rng(
            seed_of(start.campaign.campaign_id, start.wave, start.shard, chunk)
        )
        asked = np.array([rule.reason == POLICY for rule in rules])
        dist = np.zeros(eligible.shape)  # (n_users, n_actions)
        handicap = self._handicap([profile for _, profile in people], now_ms)
        dist[asked] = self._policy.action_dist(
            contexts[asked],
            self._actions,
            eligible[asked],
            rng,
            handicap=None if handicap is None else handicap[asked],
        )
        drawn = draw(dist, rng).tolist()  # (n_users,), -1 where nobody asked the policy
        rows: Any = dist.tolist()
        logged, width = contexts.astype("<f4").tobytes(), 4 * contexts.shape[1]
        return [
            self._choice(
                decision_id(start.campaign.campaign_id, start.wave, user, triggers.get(user)),
                user,
                profile,
                rule,
                odds,
                drawn[row],
                logged[row * width : (row + 1) * width],
                features[row],
                now_ms,
            )
            for row, ((user, profile), rule, odds) in enumerate(
                zip(people, rules, rows, strict=True)
            )
        ]

    def _handicap(self, profiles: Sequence[Profile], now_ms: int) -> NDArray[np.float64] | None:
        """What recent sends take off each action's score, (n_users, n_actions)."""
        campaign = self.start.campaign
        if not campaign.fatigue_size:
            return None
        names = [action_key(campaign.campaign_id, action) for action in self._actions.ids]
        sent_ms = np.array(
            [[profile.sent_at.get(name, -np.inf) for name in names] for profile in profiles]
        )
        hours = np.maximum(now_ms - sent_ms, 0.0) / HOUR_MS
        half_life_hours = campaign.fatigue_half_life_ms / HOUR_MS
        return recovering(hours, campaign.fatigue_size / self._unit, half_life_hours)

    def _choice(
        self,
        name: str,
        user: str,
        profile: Profile,
        rule: Membership,
        odds: list[float],
        drawn: int,
        context: bytes,
        features: bytes,
        now_ms: int,
    ) -> Choice:
        start, campaign = self.start, self.start.campaign
        row, propensity = self._action(rule, odds, drawn)
        sends = row is not None and row < len(campaign.templates)
        template = campaign.templates[row] if row is not None and sends else None
        channel = None if template is None else template.channel
        decision = Decision(
            decision_id=name,
            campaign_id=campaign.campaign_id,
            campaign_version=campaign.version,
            wave=start.wave,
            user_id=user,
            action=NO_SEND if template is None else template.id,
            channel=channel,
            contact=None if channel is None else profile.contacts[channel],
            reason=rule.reason,
            propensity=propensity,
            policy_version=start.policy_version,
            encoder_version=start.encoder_version,
            decided_at_ms=now_ms,
            expires_at_ms=now_ms + campaign.expires_after_ms,
            variables={} if template is None else template.variables,
        )
        if row is None:
            return Choice(decision=decision, entry=None)
        ranks, actions = self._open_to(rule.eligible)
        probabilities = odds if len(ranks) == len(odds) else [odds[rank] for rank in ranks]
        entry = Entry(
            decision_id=decision.decision_id,
            campaign_id=campaign.campaign_id,
            wave=start.wave,
            action=decision.action,
            reason=rule.reason,
            propensity=propensity,
            propensity_kind="drawn" if propensity is not None else "unknown",
            actions=actions,
            probabilities=[] if propensity is None else probabilities,
            context=context,
            decided_at_ms=now_ms,
            policy_version=start.policy_version,
            encoder_version=start.encoder_version,
            channel=channel,
            features=features,
        )
        return Choice(decision=decision, entry=entry)

    def _open_to(self, eligible: tuple[bool, ...]) -> tuple[list[int], list[str]]:
        """Rows and names of the actions that the policy chose from."""
        found = self._choices.get(eligible)
        if found is None:
            ranks = [rank for rank, can in enumerate(eligible) if can]
            if self.start.campaign.no_send:
                ranks.append(len(eligible))
            found = self._choices[eligible] = ranks, [self._actions.ids[rank] for rank in ranks]
        return found

    def _action(
        self, rule: Membership, odds: list[float], drawn: int
    ) -> tuple[int | None, float | None]:
        """The action's row, and the probability that it was drawn with."""
        if rule.reason == BASELINE:
            assert self.start.campaign.baseline_action is not None
            return self._rows[self.start.campaign.baseline_action], None
        if rule.reason != POLICY:
            return None, None
        if drawn < 0:
            raise PropensityError(
                f"the policy {self._policy.name} gave no probability to any eligible template of "
                f"campaign {self.start.campaign.campaign_id}: its rows must sum to 1"
            )
        return drawn, odds[drawn]
