"""Records that stand in a topic again: left out, and nothing else."""

import random

import pytest
from msgspec.structs import replace

from streams.kafka.origin import MARK, Marks, origin_headers, unrepeated
from streams.kafka.transaction import Incoming


def record(offset: int, source: int | None, of: int = 0, partition: int = 0) -> Incoming:
    headers = () if source is None else origin_headers("topic-id", of, source)
    return Incoming("user-events", partition, offset, 0, b"user", b"", headers)


def log(*sources: tuple[int, int] | int | None) -> list[Incoming]:
    """A partition's records, by source offset and, where it is not 0, source partition."""
    pairs = [one if isinstance(one, tuple) else (one, 0) for one in sources]
    return [record(rank, source, of) for rank, (source, of) in enumerate(pairs)]


def offsets(records) -> list[int]:
    return [one.offset for one in records]


class Shard:
    def __init__(self) -> None:
        self.state: dict[bytes, bytes] = {}
        self.marks = Marks(self.state.get)

    def take(self, records: list[Incoming], *, committed: bool = True) -> list[int]:
        new, moved = self.marks.sift(records)
        if committed:
            self.state.update(self.marks.changes(moved))
            self.marks.keep(moved)
        return offsets(new)

    def opened_again(self) -> "Shard":
        other = Shard()
        other.state.update(self.state)
        return other


def test_what_was_sent_on_again_is_taken_once():
    again = log(1, 4, 6, 4, 6, 9)
    assert Shard().take(again) == [0, 1, 2, 5]
    assert offsets(unrepeated(again)) == [0, 1, 2, 5]


def test_each_source_partition_counts_by_itself_and_others_records_count_as_they_come():
    mixed = log(5, (5, 1), None, (3, 1), 5, None, 6)
    assert Shard().take(mixed) == [0, 1, 2, 5, 6]
    assert offsets(unrepeated(mixed)) == [0, 1, 2, 5, 6]


def test_each_partition_of_a_topic_counts_by_itself():
    both = [record(0, 5), record(0, 4, partition=1), record(1, 5), record(1, 5, partition=1)]
    taken = [(one.partition, one.offset) for one in unrepeated(both)]
    assert taken == [(0, 0), (1, 0), (1, 1)]


def test_each_input_counts_by_itself():
    shard = Shard()
    rewards = [replace(one, topic="rewards") for one in log(5, 7)]
    assert shard.take(rewards) == [0, 1]
    assert shard.take(log(4, 6, 6)) == [0, 1]
    taken = [(one.topic, one.offset) for one in unrepeated([*rewards, *log(4, 6, 6)])]
    assert taken == [("rewards", 0), ("rewards", 1), ("user-events", 0), ("user-events", 1)]


def test_a_shard_knows_it_after_it_was_opened_again_and_from_one_batch_to_the_next():
    shard = Shard()
    assert shard.take(log(1, 2, 3)) == [0, 1, 2]
    assert shard.take(log(3, 4)) == [1]
    assert set(shard.state) == {MARK + b"user-events/topic-id/0"}
    assert shard.opened_again().take(log(2, 4, 5)) == [2]


def test_what_was_not_committed_was_not_taken():
    shard = Shard()
    assert shard.take(log(1, 2), committed=False) == [0, 1]
    assert shard.take(log(1, 2)) == [0, 1]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"7",
        b"topic/0/",
        b"topic/0/x",
        b"/7",
        b"topic/0/-7",
        b"topic/x/7",
        b"topic/0/" + b"9" * 5000,
        b"t" * 99 + b"/0/7",
    ],
)
def test_a_header_that_says_nothing_is_no_origin(value):
    twice = [
        Incoming("user-events", 0, rank, 0, b"", b"", [("groundswell-origin", value)])
        for rank in range(2)
    ]
    assert Shard().take(twice) == [0, 1]


@pytest.mark.parametrize("seed", range(200))
def test_owners_that_overlap_however_they_do_send_each_record_once(seed):
    """Owners begin at or below what all before them have sent; the log mixes what they send."""
    rng = random.Random(seed)
    source = sorted(rng.sample(range(60), 25))  # what is for this partition of what the source has
    sent: list[int] = []
    owners: list[list[int]] = []
    while not sent or max(sent) < source[-1]:
        if not owners or rng.random() < 0.1:
            done = source.index(max(sent)) + 1 if sent else 0
            owners.append(source[rng.randint(0, done) :])
        owner = rng.choice(owners)
        if owner:
            sent.append(owner.pop(0))
    records = log(*sent)
    shard, taken = Shard(), []
    while records:
        batch = [records.pop(0) for _ in range(min(len(records), rng.randint(1, 5)))]
        taken += [sent[offset] for offset in shard.take(batch)]
        if rng.random() < 0.2:
            shard = shard.opened_again()
    assert taken == source
