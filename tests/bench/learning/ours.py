"""Our policies as contestants, by the name that a campaign gives them, with their defaults."""

import numpy as np

from streams.core.policies import ActionSet, Examples, create, draw

__all__ = ["Ours"]

DAY_MS = 86_400_000


class Ours:
    """A registered policy; a wave is a day."""

    def __init__(self, features: np.ndarray, d_user: int, policy: str) -> None:
        ids = tuple(f"action-{index}" for index in range(len(features)))
        self.actions = ActionSet(ids=ids, features=features)
        self.policy = create(policy, {}, d_user, features.shape[1])

    def decide(self, contexts, may, rng):
        eligible = np.tile(may, (len(contexts), 1))
        dist = self.policy.action_dist(contexts, self.actions, eligible, rng)
        taken = draw(dist, rng)
        return taken, dist[np.arange(len(taken)), taken]

    def learn(self, wave, contexts, taken, p, rewards):  # noqa: ARG002 - ours keeps its own
        self.policy.learn_many(
            Examples(
                contexts=contexts,
                actions=tuple(self.actions.ids[index] for index in taken),
                action_features=self.actions.features[taken],
                rewards=rewards,
                previous=np.full(len(taken), np.nan),
                at_ms=np.full(len(taken), (wave + 1) * DAY_MS, dtype=np.int64),
            )
        )
