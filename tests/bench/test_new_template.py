import numpy as np
import pytest

from streams.core.policies import draw
from tests.bench.figures import Figure, write_figures
from tests.bench.learning.ours import Ours
from tests.bench.learning.suite import DEFAULT, in_parallel
from tests.bench.learning.worlds import HALF, make_world

SEEDS = range(101, 121)
SENDS, BAR = 1_000, 0.90
AT_ONCE, MOST = 4_000, 200_000


def first_sends(seed: int) -> tuple[float, float, float]:
    """Give what a template's first sends earn, the oracle's with it, and the best of those people.

    The policy has learned of the others for five waves, and goes on deciding with what it knew
    when the template came: by its features alone.
    """
    world = make_world("newcomer", seed)
    rng = np.random.default_rng((seed, 2))
    d_user, sent = world.contexts.shape[2], np.zeros(len(world.features))
    ours = Ours(world.features, d_user, DEFAULT)
    for wave in range(HALF):
        x = world.contexts[wave]
        taken, p = ours.decide(x, world.opens <= wave, rng)
        means = world.expected(wave, x, sent)[np.arange(len(x)), taken]
        ours.learn(wave, x, taken, p, world.rewards(wave, means))
    newcomer = int(np.flatnonzero(world.opens == HALF)[0])
    mine: list[float] = []
    best: list[float] = []
    same: list[float] = []
    for _ in range(MOST // AT_ONCE):
        x = rng.normal(size=(AT_ONCE, d_user))
        means = world.expected(HALF, x, sent)
        everything = np.ones((AT_ONCE, len(world.features)), dtype=bool)
        taken = draw(ours.policy.action_dist(x, ours.actions, everything, rng), rng)
        mine += means[taken == newcomer, newcomer].tolist()
        same += means[taken == newcomer].max(axis=1).tolist()
        best += means[means.argmax(axis=1) == newcomer, newcomer].tolist()
        if min(len(mine), len(best)) >= SENDS:
            break
    assert len(mine) >= SENDS, f"seed {seed}: sent {len(mine)} times to {MOST} people"
    return float(np.mean(mine[:SENDS])), float(np.mean(best[:SENDS])), float(np.mean(same[:SENDS]))


@pytest.mark.bench
@pytest.mark.timeout(1_800)
def test_a_template_never_sent_before_earns_nearly_what_the_oracle_would():
    found = list(in_parallel(first_sends, [(seed,) for seed in SEEDS]))
    figures = [
        Figure(
            name=f"seed {seed}",
            value=mine,
            unit=f"reward a send, first {SENDS:,} sends",
            peer="oracle, with this template",
            peer_value=best,
            ratio=mine / best,
        )
        for seed, (mine, best, _) in zip(SEEDS, found, strict=True)
    ]
    mine, best, same = np.mean(found, axis=0)
    # the oracle's people are others than the policy's; on the same people it has every template
    for peer, peer_value in (
        ("oracle, with this template", best),
        ("oracle, with any template on the same people", same),
    ):
        figures.append(
            Figure(
                name=f"mean of {len(SEEDS)} seeds",
                value=float(mine),
                unit=f"reward a send, first {SENDS:,} sends",
                peer=peer,
                peer_value=float(peer_value),
                ratio=float(mine / peer_value),
                bar=f">= {BAR}",
                holds=bool(mine >= BAR * peer_value),
            )
        )
    write_figures("bench", "new_template", figures)
    assert mine >= BAR * max(best, same)
