"""One fixed record of each kind. `python -m tests.contract.examples` writes golden.json anew.

Golden bytes change only with the schema that they were written by: a change here that is not a
change of a schema breaks the contract with everything that is in a topic already.
"""

import json
import struct
from pathlib import Path

from schemas.campaign import Campaign, ContextFeature, Template, WaveStart
from schemas.encoder_releases import EncoderRelease, EncoderReleases
from schemas.learning import (
    LearningExample,
    LearningUpdate,
    PolicySnapshot,
    Sums,
    Tally,
    WaveReport,
)
from schemas.records import Decision, LoggedDecision, Reward, UserEvent
from schemas.wire import Codec

GOLDEN = Path(__file__).with_name("golden.json")

AT_MS = 1_700_000_000_123
DECISION_ID = "5f0c7a60d1d94a1ab1d1f6f2a2a60b11"

CAMPAIGN = Campaign(
    campaign_id="spring-sale",
    version=3,
    status="active",
    templates=[
        Template(
            id="discount-10",
            channel="email",
            features={"discount": 0.1, "urgent": 1.0},
            variables={"subject": "Zehn Prozent für Sie", "text": "Nur heute."},
        ),
        Template(id="plain", channel="push", features={}, status="paused"),
    ],
    audience_segment="country == 'DE'",
    waves=6,
    starts_at_ms=AT_MS,
    wave_deadline_ms=3_600_000,
    policy="linear-thompson",
    policy_params={"floor": 0.02, "draws": 256, "warm": True, "kind": "a", "names": ["x", "y"]},
    context=[
        ContextFeature(attribute="age", center=40.0, scale=12.5),
        ContextFeature(attribute="plan", one_of=["free", "paid"]),
        ContextFeature(event="app_open", buckets=8),
    ],
    holdout=0.05,
    baseline_action="plain",
    baseline_share=0.1,
    cap_sends=2,
    quiet_from_minute=1320,
    quiet_until_minute=420,
    expires_after_ms=7_200_000,
    attribution_window_ms=86_400_000,
    allowed_lateness_ms=60_000,
    correction_horizon_ms=172_800_000,
    reward_weights={"click": 1.0, "unsubscribe": -5.0},
    value_weights={"purchase": 0.01},
    learning="parts",
    changed_at_ms=AT_MS,
)

TALLY = Tally(
    reason="policy",
    action="discount-10",
    decisions=10,
    closed=8,
    undelivered=1,
    feedback={"click": 3},
    reward_sum=3.0,
    reward_square_sum=3.0,
)

SUMS = Sums(
    action="discount-10",
    half_life_ms=86_400_000.0,
    gram=struct.pack("<3d", 2.0, 0.5, 0.25),
    moment=struct.pack("<2d", 1.0, 0.5),
    power=1.0,
    weight=2.0,
    n=2,
    at_ms=AT_MS,
)

EXAMPLES: tuple[object, ...] = (
    UserEvent(
        event_id="e-1",
        user_id="Jürgen 😀",
        type="profile_changed",
        occurred_at_ms=AT_MS,
        attributes={
            "none": None,
            "yes": True,
            "count": -7,
            "share": 0.25,
            "city": "Köln",
            "tags": ["a", "b"],
        },
        contacts={"email": "j@example.org", "push": None},
    ),
    Reward(
        reward_id="r-1",
        user_id="u-1",
        kind="purchase",
        occurred_at_ms=AT_MS,
        value=19.99,
        decision_id=DECISION_ID,
        campaign_id="spring-sale",
        channel="email",
    ),
    LoggedDecision(
        decision_id="log-1",
        campaign_id="old-mail",
        wave=0,
        user_id="u-1",
        action="plain",
        propensity=0.125,
        propensity_kind="given",
        decided_at_ms=AT_MS,
        attributes={"age": 31},
        learn=False,
        probabilities={"plain": 0.125, "discount-10": 0.875},
        policy_version=7,
    ),
    CAMPAIGN,
    WaveStart(
        campaign=CAMPAIGN,
        wave=2,
        shard=1,
        policy_version=41,
        encoder_version="attributes",
        users=["u-1", "u-2"],
        half_lives_ms=[0.0, 86_400_000.0],
        share_from=0.25,
        share_until=0.5,
        started_at_ms=AT_MS,
        deadline_ms=AT_MS + 3_600_000,
    ),
    Decision(
        decision_id=DECISION_ID,
        campaign_id="spring-sale",
        campaign_version=3,
        wave=2,
        user_id="u-1",
        action="discount-10",
        channel="email",
        contact="u1@example.org",
        reason="policy",
        propensity=0.5,
        policy_version=41,
        encoder_version="attributes",
        decided_at_ms=AT_MS,
        expires_at_ms=AT_MS + 7_200_000,
        variables={"subject": "Zehn Prozent für Sie"},
    ),
    LearningExample(
        decision_id=DECISION_ID,
        campaign_id="spring-sale",
        campaign_version=3,
        wave=2,
        user_id="u-1",
        reason="policy",
        action="discount-10",
        propensity=0.5,
        propensity_kind="drawn",
        actions=["discount-10", "no-send"],
        probabilities=[0.5, 0.5],
        context=struct.pack("<3f", 1.0, -0.5, 0.0),
        reward=1.0,
        previous_reward=0.0,
        feedback={"click": 1},
        policy_version=41,
        encoder_version="attributes",
        decided_at_ms=AT_MS,
        closed_at_ms=AT_MS + 86_460_000,
    ),
    LearningUpdate(
        campaign_id="spring-sale",
        wave=2,
        shard=1,
        policy_version=41,
        encoder_version="attributes",
        actions=["discount-10"],
        action_index=struct.pack("<i", 0),
        contexts=struct.pack("<3f", 1.0, -0.5, 0.0),
        rewards=struct.pack("<d", 1.0),
        previous=struct.pack("<d", 0.0),
        decided_at_ms=struct.pack("<q", AT_MS),
        sums=[SUMS],
        tallies=[TALLY],
        decided=10,
        open=2,
        deciding=True,
        time_ms=AT_MS,
    ),
    PolicySnapshot(
        campaign_id="spring-sale",
        wave=2,
        version=41,
        encoder_version="attributes",
        policy="linear-thompson",
        state=b"\x00\x01state",
        part=1,
        parts=2,
        offsets={"0": 12, "1": -1},
        examples=1234,
        reward_sum=56.5,
        feedback={"click": 57},
        created_at_ms=AT_MS,
    ),
    EncoderReleases(
        name="people",
        step=7,
        live="1.2.0",
        previous="1.2.0",
        rollback=False,
        releases=[
            EncoderRelease(
                version="1.2.0",
                sha256="0a" * 32,
                model_bytes=412_345,
                signer="0123456789abcdef",
                published_at_ms=AT_MS,
            )
        ],
        changed_at_ms=AT_MS,
    ),
    WaveReport(
        campaign_id="spring-sale",
        wave=2,
        status="closed",
        policy_version=41,
        encoder_version="attributes",
        started_at_ms=AT_MS,
        ended_at_ms=AT_MS + 3_600_000,
        shards=4,
        shards_done=4,
        decided=10,
        open=0,
        tallies=[TALLY],
        updated_at_ms=AT_MS + 3_600_000,
    ),
)


if __name__ == "__main__":
    golden = {type(r).__name__: Codec().encode("any", r).hex() for r in EXAMPLES}
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
