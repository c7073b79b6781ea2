"""What an encoding is worth to a bandit, where tastes are far from linear in the profile."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encoder.profile.config import TrainingConfig
from encoder.profile.data import Split, TrainingData
from encoder.profile.train import encode, train
from schemas.encoder_inputs import EncoderInputs
from schemas.features import FeatureBatch, PlainProfile, hash_profiles
from schemas.training_rows import TrainingRow
from streams.core.policies.base import Examples
from streams.simulation.encoder_log import company_profile, company_rows
from streams.simulation.offline import run_waves
from streams.simulation.people import People
from streams.simulation.templates import TEMPLATES, action_features
from streams.simulation.truth import REWARD_WEIGHTS
from streams.simulation.world import Company

UNTIL_MS = 1_767_225_600_000
DAY_MS = 86_400_000
PEOPLE, LOGGED, WAVES = 20_000, 40_000, 6
BUCKETS = 128  # of the raw features: the profiles' 16 tokens have one each
POLICY = "linear-thompson"
CONFIG = TrainingConfig(z_size=32, bits=10, embedding=16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """Expected reward a send, over all waves, of the same policy under several contexts.

    Attributes
    ----------
    cold
        Of the encoding, to people of whom nothing is known but which channels reach them.
    """

    encoded: float
    raw: float
    without: float
    cold: float
    best_single: float
    oracle: float


def worth(seed: int, config: TrainingConfig = CONFIG) -> Worth:
    """Train an encoder on a company's log, and let the same policy run a campaign on each context.

    Each policy has learned from the same log, and then decides for the same waves of the same
    people. Whom of a wave the holdout and the baseline take is drawn between the policy's own
    draws, so that it is a random share of each wave, as large for all, but not the same persons.
    """
    company = Company.create(seed, PEOPLE, curved=True)
    rows = list(company_rows(company, LOGGED, seed, UNTIL_MS - 30 * DAY_MS, UNTIL_MS))
    data = TrainingData.of(rows)
    split = Split.by_time(data, valid=0.15, test=0.0)
    trained = train(split.train, split.valid, config)
    rng = np.random.default_rng((seed, 7))
    people = _features(rng, company.people)
    log = data.features
    raw_people, raw_log = (_raw(trained.inputs, features) for features in (people, log))
    varies = raw_log.std(axis=0) > 0.0
    contexts = {
        "encoded": (encode(trained, people).astype(float), encode(trained, log).astype(float)),
        "raw": (raw_people[:, varies], raw_log[:, varies]),
        "without": (np.zeros((PEOPLE, 1)), np.zeros((len(rows), 1))),
    }
    strangers = encode(trained, _strangers(company.people)).astype(float)
    contexts["cold"] = (strangers, contexts["encoded"][1])
    earned: dict[str, float] = {}
    for name, (theirs, logged) in contexts.items():
        results = run_waves(
            company,
            POLICY,
            {},
            seed,
            waves=WAVES,
            contexts=theirs,
            log=_examples(rows, data.at_ms, logged),
        )
        sends = np.array([result.sends for result in results])
        for key in ("policy", "best_single", "oracle"):
            values = np.array([getattr(result, key) for result in results])
            earned[name if key == "policy" else key] = float((values * sends).sum() / sends.sum())
    return Worth(
        encoded=earned["encoded"],
        raw=earned["raw"],
        without=earned["without"],
        cold=earned["cold"],
        best_single=earned["best_single"],
        oracle=earned["oracle"],
    )


def _features(rng: np.random.Generator, people: People) -> FeatureBatch:
    profiles = [company_profile(rng, people, user, UNTIL_MS) for user in range(len(people))]
    return hash_profiles(profiles, [UNTIL_MS] * len(people))


def _strangers(people: People) -> FeatureBatch:
    """The same people, of whom the company knows nothing but how to reach them."""
    profiles = [
        PlainProfile(contacts=tuple(sorted(people.contacts(user)))) for user in range(len(people))
    ]
    return hash_profiles(profiles, [UNTIL_MS] * len(people))


def _raw(inputs: EncoderInputs, features: FeatureBatch) -> NDArray[np.float64]:
    """The hashed features as they are: a column a bucket, and the numbers, scaled to variance 1."""
    arrays = inputs.arrays(features)
    tokens = np.unique(arrays["token_index"][arrays["token_weight"] > 0])
    # Two tokens in one column would be a handicap that the encoder does not have.
    assert len(np.unique(tokens % BUCKETS)) == len(tokens)
    rows = np.arange(len(features))[:, None]
    buckets = np.zeros((len(features), BUCKETS))
    np.add.at(buckets, (rows, arrays["token_index"] % BUCKETS), arrays["token_weight"])
    numbers = arrays["numbers"] * np.sqrt(3.0)  # places are uniform in [-1, 1]
    return np.hstack([buckets, numbers, arrays["known"]])


def _examples(
    rows: list[TrainingRow], at_ms: NDArray[np.int64], contexts: NDArray[np.float64]
) -> Examples:
    index = {template.id: place for place, template in enumerate(TEMPLATES)}
    actions = tuple(row.action for row in rows)
    rewards = [
        REWARD_WEIGHTS["click"] * (row.clicked or 0.0)
        + REWARD_WEIGHTS["purchase"] * (row.purchased or 0.0)
        for row in rows
    ]
    return Examples(
        contexts=contexts,
        actions=actions,
        action_features=action_features()[[index[action] for action in actions]],
        rewards=np.array(rewards),
        previous=np.full(len(rows), np.nan),
        at_ms=at_ms,
    )
