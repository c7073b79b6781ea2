import hashlib
import math
import struct

import msgspec
import numpy as np
import pytest

from schemas.errors import PolicyError
from streams.core.policies import (
    AdaptiveThompson,
    LinearThompson,
    SquareCB,
    create,
    from_bytes,
    to_bytes,
)
from streams.core.policies.state import FORMAT


@pytest.fixture
def raw(examples) -> bytes:
    policy = LinearThompson(3, 2, half_life_days=3.0)
    policy.learn_many(examples())
    return to_bytes(policy)


def rewritten(raw: bytes, change) -> bytes:
    """Change the content and sign it again: what a bug, not a bad disk, would do."""
    state = msgspec.msgpack.decode(raw[22:])
    change(state)
    body = msgspec.msgpack.encode(state)
    return (
        struct.pack("<4sH16s", b"GWPS", FORMAT, hashlib.blake2b(body, digest_size=16).digest())
        + body
    )


def test_any_flipped_byte_is_noticed(raw):
    for at in {*range(30), *range(30, len(raw), 97), len(raw) - 1}:
        damaged = bytearray(raw)
        damaged[at] ^= 0x40
        with pytest.raises(PolicyError):
            from_bytes(bytes(damaged))


def test_any_cut_is_noticed(raw):
    for length in (0, 3, 21, 22, len(raw) // 2, len(raw) - 1):
        with pytest.raises(PolicyError, match="cut off"):
            from_bytes(raw[:length])
    with pytest.raises(PolicyError, match="cut off or changed"):
        from_bytes(raw + b"\0")


def test_another_format_version_is_named(raw):
    with pytest.raises(PolicyError, match="format must be 4, got 7: run the version that wrote it"):
        from_bytes(raw[:4] + struct.pack("<H", 7) + raw[6:])


def test_what_is_no_snapshot_is_said_to_be_none():
    with pytest.raises(PolicyError, match="it is none"):
        from_bytes(b"PK\x03\x04" + bytes(100))


def test_a_policy_that_does_not_exist_is_named(raw):
    with pytest.raises(PolicyError, match="no policy 'linear'"):
        from_bytes(rewritten(raw, lambda state: state.update(policy="linear")))


def bad_floor(state):
    state["parameters"]["floor"] = 2.0


def lost_sums(state):
    del state["learned"]


def short_sums(state):
    state["learned"]["moment"]["array"] = ["<f8", [1], bytes(8)]


def nan_sums(state):
    dtype, shape, data = state["learned"]["moment"]["array"]
    state["learned"]["moment"]["array"] = [dtype, shape, np.full(len(data) // 8, np.nan).tobytes()]


def odd_array(state):
    state["learned"]["gram"]["array"][1] = [5]


def object_array(state):
    state["learned"]["gram"]["array"][0] = "|O"


def negative_weight(state):
    state["learned"]["weight"] = -1.0


def negative_count(state):
    state["n_learned"] = -1


def other_dimension(state):
    state["d_user"] = 4


@pytest.mark.parametrize(
    "change",
    [
        bad_floor,
        lost_sums,
        short_sums,
        nan_sums,
        odd_array,
        object_array,
        negative_weight,
        negative_count,
        other_dimension,
    ],
)
def test_content_that_cannot_be_a_state_is_refused(raw, change):
    with pytest.raises(PolicyError):
        from_bytes(rewritten(raw, change))


def array(values) -> dict[str, object]:
    values = np.asarray(values, dtype="<f8")
    return {"array": ["<f8", list(values.shape), values.tobytes()]}


def put(state, path: str, value) -> None:
    *way, last = path.split(".")
    for word in way:
        state = state[int(word) if isinstance(state, list) else word]
    if isinstance(state, dict) and path.endswith("key"):
        state.update({value: state.pop(next(iter(state)))})
    else:
        state[last] = value


FIRST = "learned.members.0"


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("policy", ["a"], r"there is no policy \['a'\]"),
        ("policy", {"a": 1}, "there is no policy {'a': 1}"),
        ("d_user", 2**40, r"d_user must be a whole number in \[0, 1e\+06\], got 1099511627776"),
        ("d_action", True, "d_action must be a whole number"),
        ("n_learned", math.inf, r"n_learned must be a whole number in \[0, inf\], got inf"),
        ("parameters", {"seed": -1}, "no parameter 'seed'"),
        ("parameters", ["draws"], "lacks or garbles"),
        (f"{FIRST}.since", math.inf, r"learned\.members\[0\]\.since must be finite, got inf"),
        (f"{FIRST}.since", "often", "lacks or garbles .*often"),
        (f"{FIRST}.at_ms", -math.inf, r"members\[0\]\.at_ms must be finite, got -inf"),
        (f"{FIRST}.factors", array([math.inf] * 5), r"\.factors must be finite, got inf"),
        (f"{FIRST}.factors", array([-1.0] * 5), "precisions must have 5 positive factors"),
        ("learned.members.4.sizes.by_user", array([1, math.inf, 1]), r"by_user must be finite"),
        ("learned.log_weights", array([math.nan] * 5), "log_weights must be finite, got nan"),
        (f"{FIRST}.actions.KEY.features", array([math.nan] * 2), "features must be finite"),
        (f"{FIRST}.actions.KEY.sums.power", math.nan, "power must be finite, got nan"),
        (f"{FIRST}.actions.KEY.sums.power", -1e200, r"cannot have power=-1e\+200"),
        (f"{FIRST}.actions.KEY.sums.weight", 1e200, r"cannot have .*weight=1e\+200"),
        (f"{FIRST}.actions.KEY.sums.n", "5", "lacks or garbles"),
        (
            f"{FIRST}.actions.KEY.sums.gram",
            array([-5.0] * 10),
            r"sum of squares, with no eigenvalue below -1e-08 of its trace -20\.0, got -20\.0",
        ),
        (
            f"{FIRST}.actions.KEY.sums.gram",
            array([1.0, 2.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]),
            r"gram must be a sum of squares, .*, got -1\.0",
        ),
        (f"{FIRST}.actions.KEY.sums.gram", array([1e200] * 10), r"within ±1e\+100"),
        (f"{FIRST}.actions.key", "spring", "'spring' is no key of an action"),
    ],
)
def test_content_that_none_can_have_learned_is_refused_by_its_field(examples, path, value, says):
    policy = AdaptiveThompson(3, 2)
    policy.learn_many(examples())
    raw = to_bytes(policy)
    key = next(iter(policy.state()["learned"]["members"][0]["actions"]))
    with pytest.raises(PolicyError, match=says):
        from_bytes(rewritten(raw, lambda state: put(state, path.replace("KEY", key), value)))


@pytest.mark.parametrize("model", ["linear", "disjoint-linear", "logistic"])
def test_sums_that_are_no_sums_of_squares_are_refused_of_every_model(examples, model):
    policy = SquareCB(3, 2, model=model)
    policy.learn_many(examples())

    def negative(state):
        sums = state["learned"]
        if "actions" in sums:
            sums = next(iter(sums["actions"].values()))["sums"]
        sums["gram"] = array(np.full(sums["gram"]["array"][1], -5.0))

    with pytest.raises(PolicyError, match="gram must be a sum of squares"):
        from_bytes(rewritten(to_bytes(policy), negative))


def test_a_state_nested_without_end_is_refused():
    for body in (b"\x91" * 100_000, b"\x91" * 900 + b"\xc0"):
        head = struct.pack(
            "<4sH16s", b"GWPS", FORMAT, hashlib.blake2b(body, digest_size=16).digest()
        )
        with pytest.raises(PolicyError, match="cannot be read"):
            from_bytes(head + body)


def test_corrections_of_what_was_never_learned_here_make_an_honest_snapshot(
    examples, part, contexts, decide
):
    chunk = examples()
    for name in ("adaptive-thompson", "linear-thompson"):
        policy = create(name, {}, 3, 2)
        policy.learn_many(part(chunk, ~chunk.is_new & (chunk.previous**2 > chunk.rewards**2)))
        sums = next(iter(statistics_in(policy.state()["learned"])))
        assert sums["power"] < 0.0
        again = from_bytes(to_bytes(policy))
        np.testing.assert_array_equal(decide(again), decide(policy))
        assert np.isfinite(decide(again)).all()


def statistics_in(learned):
    if isinstance(learned, dict) and "power" in learned:
        yield learned
    elif isinstance(learned, dict | list):
        for item in learned.values() if isinstance(learned, dict) else learned:
            yield from statistics_in(item)


def test_an_unchanged_content_is_read(raw):
    assert to_bytes(from_bytes(rewritten(raw, lambda state: None))) == raw


def test_the_order_of_words_in_a_state_does_not_change_its_bytes(raw):
    policy = from_bytes(raw)
    turned = dict(reversed(policy._learned().items()))
    policy._learned = lambda: turned
    assert to_bytes(policy) == raw


def test_what_has_no_place_in_a_snapshot_is_refused_when_writing():
    policy = LinearThompson(1, 1)
    policy._learned = lambda: {"when": object()}
    with pytest.raises(PolicyError, match="cannot hold object"):
        to_bytes(policy)
