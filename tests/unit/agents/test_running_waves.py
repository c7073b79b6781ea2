"""A wave's definition stands once in the state; what moves is small."""

from dataclasses import replace

from streams.agents.decide import DecideChunk, StartWaves
from streams.agents.running_waves import (
    LARGEST_KEPT,
    RunningWave,
    load_wave,
    pinned_key,
    store_wave,
)
from streams.agents.state import dumped, wave_key
from tests.unit.agents.shard import (
    FakeKnown,
    MemoryShard,
    add_people,
    campaign,
    clock,
    frozen,
    users_of,
    wave_start,
)

SPRING = campaign()
KEY, PINNED = wave_key("spring", 0), pinned_key("spring", 0)


def stored(running: RunningWave, shard: MemoryShard | None = None) -> MemoryShard:
    shard = shard or MemoryShard()
    tx = shard.begin()
    store_wave(tx, running)
    shard.commit(tx)
    return shard


def test_a_wave_is_read_as_it_was_put():
    running = RunningWave(
        start=wave_start(SPRING), cursor=b"puser", chunk=3, decided=7, open=5, held=6, listed=True
    )
    assert load_wave(stored(running).begin(), KEY) == running
    assert load_wave(MemoryShard().begin(), KEY) is None


def test_a_chunk_writes_how_far_the_wave_has_come_and_not_what_it_is_pinned_to():
    shard = MemoryShard()
    add_people(shard, users_of(0, 40))
    shard.apply(StartWaves(), [wave_start(SPRING)])
    assert shard.keys(b"k") == [PINNED]
    known = FakeKnown({"spring": SPRING}, {("spring", 0): frozen(SPRING)})
    tx = shard.begin()
    DecideChunk(known, 10, clock())(tx)
    assert PINNED not in tx.changes
    assert len(tx.changes[KEY] or b"") < 100 < len(dumped(wave_start(SPRING)))


def test_both_go_with_the_last_entry_of_a_wave_that_is_decided():
    running = RunningWave(start=wave_start(SPRING), held=1)
    shard = stored(running)
    running.deciding = False
    assert len(stored(running, shard).keys(b"k")) == 1
    running.held = 0
    stored(running, shard)
    assert shard.keys(b"w") == shard.keys(b"k") == []
    assert len(shard.keys(b"d")) == 1


def test_the_users_of_a_triggered_wave_go_when_it_decides_no_more():
    cart = replace(SPRING, trigger_event="cart-abandoned")
    running = RunningWave(start=wave_start(cart, users=users_of(0, 40)), held=1)
    shard = stored(running)
    assert load_wave(shard.begin(), KEY).start.users == users_of(0, 40)
    running.deciding = False
    stored(running, shard)
    assert load_wave(shard.begin(), KEY).start == replace(running.start, users=None)


def test_a_definition_that_was_read_is_not_read_again_unless_it_is_large():
    small = stored(RunningWave(start=wave_start(SPRING)))
    first, second = (load_wave(small.begin(), KEY).start for _ in range(2))
    assert first is second
    many = [f"user-{rank}" for rank in range(LARGEST_KEPT // 8)]
    large = stored(RunningWave(start=wave_start(SPRING, users=many)))
    first, second = (load_wave(large.begin(), KEY).start for _ in range(2))
    assert first == second
    assert first is not second
