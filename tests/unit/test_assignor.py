"""One owner for a partition number of all topics of a group; balanced, and sticky."""

import itertools
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.assignor import CoPartitionedAssignor, share_out

TOPICS = {"events": 6, "rewards": 6, "campaigns": 2, "company": 3}
GROUPS = {"events": "users", "rewards": "users", "campaigns": "campaigns", "company": "sources"}


class Cluster:
    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(TOPICS[topic]))


def assign(assignors: dict[str, CoPartitionedAssignor]) -> dict[str, dict[str, list[int]]]:
    """One rebalance: everybody's metadata to the leader, the leader's plan to everybody."""
    metadata = {name: one.metadata(TOPICS) for name, one in assignors.items()}
    leader = next(iter(assignors.values()))
    plan = leader.assign(Cluster(), metadata)
    for name, one in assignors.items():
        one.on_assignment(plan[name])
    return {name: dict(given.assignment) for name, given in plan.items()}


def make(*names: str) -> dict[str, CoPartitionedAssignor]:
    return {name: CoPartitionedAssignor(GROUPS.__getitem__) for name in names}


def test_every_partition_has_one_owner_and_topics_of_a_group_the_same():
    plan = assign(make("a", "b", "c"))
    for topic, count in TOPICS.items():
        owned = list(itertools.chain.from_iterable(mine.get(topic, []) for mine in plan.values()))
        assert sorted(owned) == list(range(count))
    for mine in plan.values():
        assert mine.get("events") == mine.get("rewards")


def test_the_groups_extras_do_not_all_go_to_the_same_member():
    load = {
        name: len(mine.get("campaigns", [])) + len(mine.get("company", []))
        for name, mine in assign(make("a", "b")).items()
    }
    assert max(load.values()) - min(load.values()) <= 1


def test_a_member_that_joins_takes_no_more_than_its_share():
    assignors = make("a", "b")
    before = assign(assignors)
    assignors |= make("c")
    after = assign(assignors)
    kept = sum(
        len(set(before[name]["events"]) & set(after[name].get("events", []))) for name in before
    )
    assert kept == 4  # of six, two move to the new one
    assert len(after["c"]["events"]) == 2


def test_a_member_that_leaves_moves_only_what_it_had():
    assignors = make("a", "b", "c")
    before = assign(assignors)
    del assignors["b"]
    after = assign(assignors)
    for name in ("a", "c"):
        assert set(before[name]["events"]) <= set(after[name]["events"])


def test_a_member_of_another_kind_is_taken_as_having_held_nothing():
    assignors = make("a", "b")
    metadata = {name: one.metadata(TOPICS) for name, one in assignors.items()}
    metadata["b"] = SimpleNamespace(subscription=list(TOPICS), user_data=b"\xff not json")
    plan = assignors["a"].assign(Cluster(), metadata)
    assert len(dict(plan["b"].assignment)["events"]) == 3


@given(
    st.integers(0, 40),
    st.lists(st.lists(st.integers(0, 60), max_size=30), min_size=1, max_size=9),
    st.integers(0, 50),
)
def test_whatever_was_held_everything_is_given_out_evenly_and_held_numbers_stay(n, held, first):
    members = {f"m{rank}": numbers for rank, numbers in enumerate(held)}
    owners = share_out(range(n), members, first=first)
    assert sorted(owners) == list(range(n))
    counts = [sum(who == name for who in owners.values()) for name in members]
    assert max(counts) - min(counts) <= 1
    least = n // len(members)
    for name, numbers in members.items():
        mine = {number for number, who in owners.items() if who == name}
        others = [set(other) for key, other in members.items() if key != name]
        alone = {k for k in numbers if k < n and not any(k in other for other in others)}
        assert len(alone & mine) >= min(len(alone), least)


@given(
    st.dictionaries(
        st.sampled_from("abcde"), st.sets(st.sampled_from(sorted(TOPICS))), min_size=1, max_size=5
    )
)
def test_nobody_is_given_a_topic_that_it_does_not_read(subscriptions):
    """While the sources change worker by worker, members subscribe to different topics."""
    assignors = make(*subscriptions)
    metadata = {name: one.metadata(subscriptions[name]) for name, one in assignors.items()}
    plan = next(iter(assignors.values())).assign(Cluster(), metadata)
    owners: dict[tuple[str, int], set[str]] = {}
    for name, given_ in plan.items():
        for topic, numbers in given_.assignment:
            assert topic in subscriptions[name]
            for number in numbers:
                owners.setdefault((GROUPS[topic], number), set()).add(name)
    assert all(len(names) == 1 for names in owners.values())


def test_a_source_that_everybody_reads_goes_on_while_another_one_takes_its_neighbours_place():
    assignors = make("old", "new")
    both = {"campaigns", "events", "rewards"}
    metadata = {
        "old": assignors["old"].metadata(both | {"company"}),
        "new": assignors["new"].metadata(both),
    }
    plan = {
        name: dict(given_.assignment)
        for name, given_ in assignors["new"].assign(Cluster(), metadata).items()
    }
    assert plan["old"]["company"] == [0, 1, 2]
    assert sorted(plan["old"]["events"] + plan["new"]["events"]) == list(range(6))
