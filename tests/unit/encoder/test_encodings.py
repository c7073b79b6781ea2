"""Encodings are kept for profiles that come again unchanged, and never for any other."""

import threading

import numpy as np
import pytest

from schemas.features import FeatureBatch, hash_profiles
from streams.core.profiles import Profile
from streams.releases.encodings import Encodings
from tests.unit.encoder.sample import sample_encoder

NOW_MS = 1_767_225_600_000
HOUR_MS = 3_600_000


def person(number: int) -> Profile:
    return Profile(
        attributes={"age": 20.0 + number, "plan": ("free", "plus")[number % 2]},
        counts={"app_open": (1 + number, NOW_MS - number * HOUR_MS)},
        contacts={"email": f"{number}@example.org"},
        sends=[NOW_MS - 5 * HOUR_MS],
    )


class Model:
    """Encodes by what the features hold, and notes how many users it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, features: FeatureBatch) -> np.ndarray:
        self.asked.append(len(features))
        rows = [np.frombuffer(raw, np.uint8).astype(float) for raw in features.to_bytes()]
        z = [(row.sum(), (row * np.arange(len(row))).sum()) for row in rows]
        return np.array(z, dtype=np.float32).reshape(-1, 2)


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def encodings(model):
    return Encodings(model, 2, most=100)


def anew(users, now_ms=NOW_MS):
    features = hash_profiles(users, [now_ms] * len(users))
    return Model()(features), features.to_bytes()


def assert_as_anew(encodings, users, now_ms=NOW_MS):
    z, features = encodings.of(users, now_ms)
    due, due_features = anew(users, now_ms)
    assert z.dtype == np.float32
    assert np.array_equal(z, due)
    assert features == due_features


def test_a_profile_that_comes_again_unchanged_is_not_encoded_again(encodings, model):
    users = [person(number) for number in range(5)]
    assert_as_anew(encodings, users)
    assert_as_anew(encodings, [person(number) for number in (3, 1, 4)], NOW_MS + HOUR_MS - 1)
    assert model.asked == [5]


def test_kept_and_new_ones_stand_in_the_order_that_was_asked(encodings, model):
    assert_as_anew(encodings, [person(number) for number in (1, 3, 5)])
    assert_as_anew(encodings, [person(number) for number in range(7)])
    assert model.asked == [3, 4]
    assert_as_anew(encodings, [])


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.attributes.update(age=99.0),
        lambda p: p.attributes.update(plan="pro"),
        lambda p: p.attributes.update(never="seen"),
        lambda p: p.counts.update(app_open=(2, NOW_MS - 9 * HOUR_MS)),
        lambda p: p.contacts.update(push="token"),
        lambda p: p.left.update(email=NOW_MS),
        lambda p: p.sends.append(NOW_MS),
        lambda p: p.sends.clear(),
    ],
)
def test_a_profile_that_changed_is_encoded_anew_though_it_is_the_same_object(
    encodings, model, change
):
    user = person(1)
    before = encodings.of([user], NOW_MS)[0]
    change(user)
    assert_as_anew(encodings, [user])
    assert model.asked == [1, 1]
    assert not np.array_equal(encodings.of([user], NOW_MS)[0], before)


def test_the_next_hour_is_encoded_anew(encodings, model):
    assert_as_anew(encodings, [person(1)])
    assert_as_anew(encodings, [person(1)], NOW_MS + HOUR_MS)
    assert model.asked == [1, 1]


def test_what_encoders_do_not_see_changes_nothing(encodings, model):
    user = person(1)
    encodings.of([user], NOW_MS)
    user.seen[17] = NOW_MS
    user.contacts["email"] = "moved@example.org"
    assert_as_anew(encodings, [user])
    assert model.asked == [1]


def test_no_more_are_kept_than_allowed_and_those_used_last_stay(model):
    encodings = Encodings(model, 2, most=3)
    for number in (0, 1, 2, 0, 3):  # 1 is the one that was not used for longest
        encodings.of([person(number)], NOW_MS)
    assert len(encodings) == 3
    asked = len(model.asked)
    encodings.of([person(number) for number in (0, 2, 3)], NOW_MS)
    assert len(model.asked) == asked
    assert_as_anew(encodings, [person(1)])
    assert len(model.asked) == asked + 1
    assert_as_anew(encodings, [person(number) for number in range(10)])  # more than it keeps
    assert len(encodings) == 3


def test_without_room_nothing_is_kept(model):
    encodings = Encodings(model, 2, most=0)
    for _ in range(2):
        assert_as_anew(encodings, [person(1)])
    assert (model.asked, len(encodings)) == ([1, 1], 0)


def test_users_that_change_between_campaigns_and_hours_are_always_as_anew():
    rng = np.random.default_rng(7)
    encodings, people = Encodings(Model(), 2, most=20), [person(number) for number in range(30)]
    for turn in range(300):
        chosen = [people[number] for number in rng.choice(30, rng.integers(1, 8), replace=False)]
        assert_as_anew(encodings, chosen, NOW_MS + turn // 100 * HOUR_MS)
        for user in chosen[::2]:
            user.sends.append(NOW_MS + turn)
            user.counts["app_open"] = (user.counts["app_open"][0] + 1, NOW_MS + turn)


def test_shards_in_several_threads_get_their_own_users_encodings(model):
    encodings = Encodings(model, 2, most=10)
    wrong = []

    def run(first: int) -> None:
        users = [person(number) for number in range(first, first + 6)]
        due = anew(users)
        for _ in range(60):
            z, features = encodings.of(users, NOW_MS)
            if not np.array_equal(z, due[0]) or features != due[1]:
                wrong.append(first)

    threads = [threading.Thread(target=run, args=(4 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_release_keeps_its_own_encodings_and_gives_what_its_model_gives():
    users = [person(number) for number in range(50)]
    one, other, without = sample_encoder(1000), sample_encoder(1000), sample_encoder()
    due = without.encode_profiles(users, NOW_MS)
    for encoder in (one, other):
        for _ in range(2):
            z, features = encoder.encode_profiles(users, NOW_MS)
            assert z == pytest.approx(due[0], abs=1e-6)  # as many at once: the same to the bit
            assert features == due[1]
    # What one of them has says nothing of what the other has.
    other._encodings._entries.clear()
    assert len(one._encodings) == 50
    assert len(without._encodings) == 0


def test_a_profiles_encoding_does_not_depend_on_who_is_encoded_beside_it():
    users, encoder = [person(number) for number in range(40)], sample_encoder()
    together = encoder.encode(users, NOW_MS)
    alone = np.vstack([encoder.encode([user], NOW_MS) for user in users])
    assert np.abs(together - alone).max() < 1e-5
