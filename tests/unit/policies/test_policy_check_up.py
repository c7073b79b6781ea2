"""What every registered policy has to keep to."""

import numpy as np
import pytest
from scipy import stats

from schemas.errors import PolicyError
from streams.core.policies import ActionSet, Examples, draw, from_bytes, to_bytes

# shares of 512 posterior draws may move by a draw or two where float32 sums in another order
MONTE_CARLO = 2.0 / 512


def flat(value: object) -> np.ndarray:
    """Lay out all numbers of a state, in order."""
    if isinstance(value, dict):
        return np.concatenate([flat(value[key]) for key in sorted(value)] or [np.zeros(0)])
    if isinstance(value, str | list | None):
        return np.zeros(0)
    return np.ravel(np.asarray(value, dtype=np.float64))


def test_probabilities_sum_to_one_over_the_eligible(learned, decide, eligible):
    dist = decide(learned)
    np.testing.assert_allclose(dist.sum(axis=1), eligible.any(axis=1), atol=1e-12)
    assert (dist >= 0.0).all()


def test_what_is_not_eligible_has_probability_zero(learned, decide, eligible):
    dist = decide(learned)
    assert (dist[~eligible] == 0.0).all()
    assert dist[2, 1] == pytest.approx(1.0)  # the only one that may be


def test_nothing_eligible_gives_zeros_and_draws_nothing(learned, contexts, actions):
    rng = np.random.default_rng(0)
    nothing = np.zeros((len(contexts), len(actions)), dtype=bool)
    dist = learned.action_dist(contexts, actions, nothing, rng)
    assert (dist == 0.0).all()
    assert (draw(dist, rng) == -1).all()


def test_actions_are_drawn_as_often_as_logged(learned, contexts, actions, eligible):
    rng = np.random.default_rng(5)
    dist = learned.action_dist(contexts, actions, eligible, rng)
    times = 4_000
    drawn = draw(np.tile(dist, (times, 1)), rng).reshape(times, len(dist))
    for row in range(1, len(dist)):
        counts = np.bincount(drawn[:, row][drawn[:, row] >= 0], minlength=len(actions))
        possible = dist[row] > 0.0
        assert counts[~possible].sum() == 0
        assert counts.sum() == times * possible.any()
        expected = times * dist[row][possible]
        statistic = ((counts[possible] - expected) ** 2 / expected).sum()
        # 59 rows of 30 policies: one in 10,000 runs of the whole would fail by chance
        assert stats.chi2.sf(statistic, max(possible.sum() - 1, 1)) > 5e-8 or statistic < 1e-12


def test_learning_a_chunk_is_learning_one_by_one(fresh, examples, part, decide):
    chunk = examples()
    at_once, singly = fresh(), fresh()
    at_once.learn_many(chunk)
    for row in range(len(chunk)):
        singly.learn_many(part(chunk, slice(row, row + 1)))
    assert at_once.n_learned == singly.n_learned == int(chunk.is_new.sum())
    if at_once.chunks_matter:  # how much: tests/unit/policies/test_chunks.py
        return
    np.testing.assert_allclose(flat(at_once.state()), flat(singly.state()), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(decide(at_once), decide(singly), atol=MONTE_CARLO)


def test_no_examples_change_nothing(learned, examples, part):
    before = to_bytes(learned)
    learned.learn_many(part(examples(), slice(0, 0)))
    assert to_bytes(learned) == before


def test_state_survives_the_round_trip_to_the_byte(learned, examples, decide):
    raw = to_bytes(learned)
    again = from_bytes(raw)
    assert type(again) is type(learned)
    assert to_bytes(again) == raw
    for seed in (0, 1):  # before and after learning more
        np.testing.assert_array_equal(decide(learned, seed), decide(again, seed))
        for policy in (learned, again):
            policy.learn_many(examples(seed=9))
    assert to_bytes(again) == to_bytes(learned) != raw


def test_the_same_seed_decides_the_same(learned, decide):
    np.testing.assert_array_equal(decide(learned, 8), decide(learned, 8))


def test_the_order_of_users_does_not_matter(learned, contexts, actions, eligible):
    order = np.random.default_rng(4).permutation(len(contexts))
    straight = learned.action_dist(contexts, actions, eligible, np.random.default_rng(0))
    shuffled = learned.action_dist(
        contexts[order], actions, eligible[order], np.random.default_rng(0)
    )
    np.testing.assert_allclose(shuffled, straight[order], atol=MONTE_CARLO)


def test_the_order_of_actions_does_not_matter(learned, contexts, actions, eligible):
    order = [2, 0, 3, 1]
    turned = ActionSet(
        ids=tuple(actions.ids[index] for index in order), features=actions.features[order]
    )
    straight = learned.action_dist(contexts, actions, eligible, np.random.default_rng(0))
    shuffled = learned.action_dist(contexts, turned, eligible[:, order], np.random.default_rng(0))
    np.testing.assert_allclose(shuffled, straight[:, order], atol=MONTE_CARLO)


def test_with_kept_draws_users_one_by_one_get_what_all_get_together(
    learned, contexts, actions, eligible, decide
):
    kept = learned.with_kept_draws(actions, np.random.default_rng(0))
    keeps = kept is not learned  # then no other stream matters
    singly = np.vstack(
        [
            kept.action_dist(
                contexts[row : row + 1],
                actions,
                eligible[row : row + 1],
                np.random.default_rng(row if keeps else 0),
            )
            for row in range(len(contexts))
        ]
    )
    np.testing.assert_allclose(singly, decide(learned), atol=MONTE_CARLO)


@pytest.mark.parametrize("size", [1e6, 0.0, 1e-12])
def test_extreme_features_keep_everything_finite(learned, contexts, eligible, actions, size):
    extreme = ActionSet(ids=actions.ids, features=actions.features * size)
    x = contexts * size
    x[3] = size
    n = len(x)
    taken = np.arange(n) % len(actions)
    learned.learn_many(
        Examples(
            contexts=x,
            actions=tuple(actions.ids[index] for index in taken),
            action_features=extreme.features[taken],
            rewards=np.linspace(-1.0, 1.0, n),
            previous=np.full(n, np.nan),
            at_ms=np.arange(n),
        )
    )
    dist = learned.action_dist(x, extreme, eligible, np.random.default_rng(0))
    assert np.isfinite(flat(learned.state())).all()
    np.testing.assert_allclose(dist.sum(axis=1), eligible.any(axis=1), atol=1e-12)


def test_a_paused_action_has_probability_zero_and_comes_back(learned, contexts, actions):
    everything = np.ones((len(contexts), len(actions)), dtype=bool)
    paused = everything.copy()
    paused[:, 2] = False
    before = learned.action_dist(contexts, actions, everything, np.random.default_rng(0))
    during = learned.action_dist(contexts, actions, paused, np.random.default_rng(0))
    assert (during[:, 2] == 0.0).all()
    np.testing.assert_allclose(during.sum(axis=1), 1.0)
    again = learned.action_dist(contexts, actions, everything, np.random.default_rng(0))
    np.testing.assert_array_equal(again, before)


def test_actions_may_be_added_and_taken_away(learned, contexts, actions):
    grown = ActionSet(
        ids=(*actions.ids, "new"), features=np.vstack([actions.features, [[0.3, 0.3]]])
    )
    for some in (grown, ActionSet(ids=actions.ids[:3], features=actions.features[:3])):
        may = np.ones((len(contexts), len(some)), dtype=bool)
        dist = learned.action_dist(contexts, some, may, np.random.default_rng(0))
        np.testing.assert_allclose(dist.sum(axis=1), 1.0)
    learned.retire(["b"])
    raw = to_bytes(learned)
    assert to_bytes(from_bytes(raw)) == raw


def test_a_handicap_lowers_what_it_is_laid_on_and_propensities_stay_true(
    learned, contexts, actions, eligible
):
    handicap = np.zeros(eligible.shape)
    handicap[:, 1] = 10.0  # more than any reward
    rng = np.random.default_rng(0)
    if not learned.HAS_SCORES:
        with pytest.raises(PolicyError, match="has no scores to take a handicap from"):
            learned.action_dist(contexts, actions, eligible, rng, handicap=handicap)
        return
    free = learned.action_dist(contexts, actions, eligible, np.random.default_rng(0))
    none = learned.action_dist(
        contexts, actions, eligible, np.random.default_rng(0), handicap=np.zeros(eligible.shape)
    )
    np.testing.assert_allclose(none, free, atol=MONTE_CARLO)
    held = learned.action_dist(contexts, actions, eligible, rng, handicap=handicap)
    several = eligible[:, 1] & (eligible.sum(axis=1) > 1)
    assert (held[several, 1] <= free[several, 1] + MONTE_CARLO).all()
    assert held[several, 1].max() < 0.12  # a floor or epsilon shared alike, at most
    np.testing.assert_allclose(held.sum(axis=1), eligible.any(axis=1), atol=1e-12)
    assert (held[~eligible] == 0.0).all()


def test_a_warm_start_is_what_the_source_has_learned_or_is_refused(
    fresh, examples, decide, contexts, actions
):
    source, young, plain = fresh(), fresh(), fresh()
    source.learn_many(examples(n=200))
    try:
        young.warm_start(source, 1.0)
    except PolicyError as error:
        assert "cannot be warm-started" in str(error)  # noqa: PT017 some can, some cannot
        return
    assert young.n_learned == 0
    here, there = (policy.reward_model.expected(contexts, actions) for policy in (young, source))
    np.testing.assert_allclose(here, there, rtol=1e-6, atol=1e-9)
    nothing = fresh()
    nothing.warm_start(source, 0.0)
    nothing.learn_many(examples(n=50))
    plain.learn_many(examples(n=50))
    np.testing.assert_allclose(decide(nothing), decide(plain), atol=MONTE_CARLO)


def test_no_users_give_no_rows(learned, actions):
    empty = learned.action_dist(
        np.zeros((0, 3)), actions, np.zeros((0, 4), dtype=bool), np.random.default_rng(0)
    )
    assert empty.shape == (0, 4)


def test_inputs_that_do_not_fit_are_refused(learned, contexts, actions, eligible):
    rng = np.random.default_rng(0)
    with pytest.raises(PolicyError, match=r"contexts must have shape .*3.*got \(60, 2\)"):
        learned.action_dist(contexts[:, :2], actions, eligible, rng)
    with pytest.raises(PolicyError, match=r"contexts must be finite .* got nan"):
        learned.action_dist(np.full_like(contexts, np.nan), actions, eligible, rng)
    with pytest.raises(PolicyError, match="eligible must be bool"):
        learned.action_dist(contexts, actions, eligible.astype(int), rng)
    narrow = ActionSet(ids=actions.ids, features=actions.features[:, :1])
    with pytest.raises(PolicyError, match="actions must have 2 features, got 1"):
        learned.action_dist(contexts, narrow, eligible, rng)


def test_it_serves_as_a_river_policy(fresh, actions):
    blank = fresh()
    policy = blank.clone({"actions": actions, "columns": ("u", "v", "w"), "seed": 3})
    for day in range(30):
        context = {"u": float(day % 2), "w": 1.0}
        arm = policy.pull(["a", "c"], context)
        assert arm in {"a", "c"}
        policy.update(arm, context, 0.1)
    assert policy.n_learned == 30
    assert set(policy.ranking) <= {"a", "c"}
    policy.update("a", {"u": 1.0}, 0.9, previous=0.1)
    assert policy.n_learned == policy._n == 30  # a correction is no new example
