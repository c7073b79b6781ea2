"""Logs in three formats, good rows and bad ones, in order and out of it."""

import gzip
import sys
from datetime import UTC, datetime
from pathlib import Path

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import MappingError
from streams.commands.log_mapping_file import parse_mapping, read_mapping
from streams.simulation.log_mapping import campaign_of
from streams.simulation.log_reader import LogReader
from streams.simulation.log_records import LogRecords
from streams.simulation.propensities import PropensityCounts

MEN = Path(__file__).parents[1] / "data" / "obd_men"

MAPPING = """campaign: spring
time: {column: at, unit: s}
user: person
action: mail
rewards:
  - {column: click}
  - {column: spent, kind: purchase, amount: true}
propensity: {column: p}
attributes: {age: number, plan: text, vip: boolean}
bad_rows: 30 %
"""
HEADER = "at,person,mail,click,spent,p,age,plan,vip"


def reader(path: Path, text: str = MAPPING) -> LogReader:
    return LogReader(path, parse_mapping(text.encode(), "m.yaml", path.parent))


def csv_log(folder: Path, *rows: str) -> Path:
    path = folder / "log.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def good(at: int, person: str = "ann") -> str:
    return f"{at},{person},hello,1,2.5,0.25,30,free,true"


def test_the_mens_log_is_what_its_readme_says():
    log = LogReader(MEN / "random.csv.gz", read_mapping(MEN / "mapping.yaml"))
    summary = log.scan()
    assert (summary.rows, summary.learned, summary.held_out) == (10_000, 7000, 3000)
    assert (summary.feedback, summary.learned_feedback) == ({"click": 46}, {"click": 28})
    assert (summary.users, summary.bad, summary.disorder) == (10_000, 0, None)
    assert len(summary.actions) == 34
    rows = list(log.rows())
    assert len(rows) == 10_000
    assert rows[0].attributes["position"] == "3"
    assert rows[0].propensity == pytest.approx(1 / 34)
    assert rows[0].at_ms == 1_574_553_793_442


def test_csv_parquet_and_avro_give_the_same_rows(tmp_path):
    def age(at: int) -> float | None:
        return None if at % 4 == 0 else 31.0

    times = [1_600_000_000 + n for n in range(10)]
    rows = [
        dict(
            zip(
                HEADER.split(","),
                (at, f"p{at % 3}", "hello", at % 2, 0.5, 0.5, age(at), "free", at % 2 == 1),
                strict=True,
            )
        )
        for at in times
    ]
    text = [",".join("" if v is None else str(v) for v in row.values()) for row in rows]
    plain = csv_log(tmp_path, *text)
    packed = tmp_path / "log.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    parquet = tmp_path / "log.parquet"
    pq.write_table(pa.Table.from_pylist(rows), parquet)
    avro = tmp_path / "log.avro"
    kinds = {"at": "long", "click": "int", "spent": "double", "p": "double", "vip": "boolean"}
    fields = [
        {"name": name, "type": ["null", "double"] if name == "age" else kinds.get(name, "string")}
        for name in HEADER.split(",")
    ]
    with avro.open("wb") as out:
        fastavro.writer(out, {"type": "record", "name": "Row", "fields": fields}, rows)
    found = []
    for path in (plain, packed, parquet, avro):
        log = reader(path)
        log.scan()
        offset = 1 if path in (plain, packed) else 0
        found.append(
            [
                (row.number - offset, row.at_ms, row.user_id, row.rewards, row.attributes)
                for row in log.rows()
            ]
        )
    assert found[0] == found[1] == found[2] == found[3]
    assert found[0][0][1] == 1_600_000_000_000
    assert found[0][1][4] == {"age": 31.0, "plan": "free", "vip": True}


def test_bad_rows_are_counted_told_with_their_line_and_left_out(tmp_path):
    log = reader(
        csv_log(
            tmp_path,
            *(good(n) for n in range(100, 120)),
            "soon,ann,hello,1,0,0.5,30,free,true",
            "130,,hello,1,0,0.5,30,free,true",
            "131,ann,hello,1,0,0,30,free,true",
            "132,ann,hello,7,0,0.5,30,free,true",
            "133,ann,hello,1",
            "134,ann,hello,1,much,0.5,30,free,true",
            "135,ann,,1,0,0.5,30,free,true",
            good(140),
        )
    )
    summary = log.scan()
    assert (summary.rows, summary.bad) == (21, 7)
    said = [row.removeprefix(str(tmp_path)) for row in summary.bad_rows]
    assert said[0] == "/log.csv:22: at must be a number, got 'soon'"
    assert said[1].startswith("/log.csv:23: person must have 1 to 256 bytes")
    assert said[2] == "/log.csv:24: p must lie in (0, 1], got 0.0"
    assert said[3] == "/log.csv:25: click must be 1 or 0, got '7': for a sum, set amount: true"
    assert said[4] == "/log.csv:26: 4 values where the first line names 9 columns"
    assert len(list(log.rows())) == 21


def test_a_log_with_too_many_bad_rows_is_refused(tmp_path):
    path = csv_log(tmp_path, good(1), good(2), *["x,ann,hello,1,0,1,1,free,1"] * 2)
    with pytest.raises(MappingError, match=r"2 of 4 rows cannot be read, at most 30 % .*csv:4: at"):
        reader(path).scan()


def test_a_log_out_of_order_is_sorted_and_said_so(tmp_path):
    log = reader(csv_log(tmp_path, good(5), good(9), good(7), good(6), good(9, "bob")))
    summary = log.scan()
    assert summary.disorder == 4
    assert [row.at_ms for row in log.rows()] == [5000, 6000, 7000, 9000, 9000]
    assert [row.user_id for row in log.rows()][-2:] == ["ann", "bob"]


def test_rows_of_one_time_are_on_one_side_of_the_split(tmp_path):
    log = reader(csv_log(tmp_path, good(1), good(2), *[good(5)] * 8))
    assert (log.scan().split_at_ms, log.scan().learned) == (5000, 2)
    with pytest.raises(MappingError, match="too many have the same time"):
        reader(csv_log(tmp_path, *[good(5)] * 10)).scan()


def test_where_leaves_rows_out_and_counts_them(tmp_path):
    path = csv_log(tmp_path, good(1), good(2).replace("free", "plus"), good(3), good(4))
    log = reader(path, MAPPING + "where: {plan: free}\n")
    assert (log.scan().rows, log.scan().skipped) == (3, 1)
    with pytest.raises(MappingError, match="has no rows to read"):
        reader(path, MAPPING + "where: {plan: [none]}\n").scan()


def test_users_are_a_column_or_columns_hashed_together_or_rows(tmp_path):
    path = csv_log(tmp_path, good(1), good(2), good(3, "bob"), good(4).replace("free", "plus"))
    for user, users in (("person", 2), ("[person, plan]", 3), ("row", 4)):
        text = MAPPING.replace("user: person", f"user: {user}")
        assert reader(path, text).scan().users == users


@pytest.mark.parametrize(
    ("unit", "given", "at_ms"),
    [
        ("iso", "2026-11-22T09:00:00+01:00", 1_795_334_400_000),
        ("iso-utc", "2026-11-22 08:00:00.0019", 1_795_334_400_001),
        ("s", "1795334400.5", 1_795_334_400_500),
        ("us", "1795334400123456", 1_795_334_400_123),
        ("ns", "1795334400123456789", 1_795_334_400_123),
    ],
)
def test_times_are_read_in_their_unit(tmp_path, unit, given, at_ms):
    late = "2099-01-01T00:00:00Z" if unit.startswith("iso") else str(9 * 10 ** (len(given) - 1))
    late = "4000000000" if unit == "s" else late
    path = csv_log(tmp_path, good(given), good(late))
    log = reader(path, MAPPING.replace("unit: s", f"unit: {unit}"))
    log.scan()
    assert next(log.rows()).at_ms == at_ms


def test_a_time_without_a_zone_and_parquets_own_times(tmp_path):
    text = MAPPING.replace("time: {column: at, unit: s}", "time: at")
    path = csv_log(tmp_path, good("2026-11-22T09:00:00"))
    with pytest.raises(MappingError, match=r"must say its time zone.*unit: iso-utc"):
        reader(path, text).scan()
    rows = [
        dict.fromkeys(HEADER.split(","))
        | {"at": datetime(2026, 11, 22, hour, tzinfo=UTC), "person": "a", "mail": "m", "p": 1.0}
        for hour in range(3)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    log = reader(tmp_path / "log.parquet", text)
    assert log.scan().first_ms == 1_795_305_600_000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "cannot be read: No such file"),
        ("log.txt", b"x", "does not say whether it is CSV, Parquet or Avro"),
        ("log.csv", b"", "is empty: its first line must name the columns"),
        ("log.csv", b"at,person,mial\n", "m.yaml:4: action names column 'mail'.*mean mial"),
        ("log.csv", b"at,\xff\xfe", "is not UTF-8"),
        ("log.csv.gz", gzip.compress(b"at,b\n" * 1000)[:-20], "is cut short or damaged"),
        ("log.avro", b"no avro at all", "cannot be read as Avro"),
        ("log.parquet", b"no parquet at all", "cannot be read as Parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MappingError, match=message) as error:
        reader(tmp_path / name).scan()
    assert "\n" not in str(error.value)


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "log.parquet").write_bytes(b"x")
    with pytest.raises(MappingError, match=r"pip install 'groundswell\[parquet\]'"):
        reader(tmp_path / "log.parquet").scan()


def test_estimated_propensities_are_the_shares_in_a_stratum_and_never_nil():
    counts = PropensityCounts()
    for n in range(4000):
        counts.add(f"u{n}", "free", "hello" if n % 4 else "offer")
        counts.add(f"u{n}", "plus", "hello" if n % 2 else "offer")
    actions = ["hello", "news", "offer"]
    for stratum, hello in (("free", 0.75), ("plus", 0.5)):
        found = [counts.estimate("u1", stratum, action, actions) for action in actions]
        assert found[0] == pytest.approx(hello, abs=0.02)
        assert sum(found) == pytest.approx(1.0)
        assert 0.0 < found[1] < 0.001


def test_a_users_own_rows_do_not_shape_the_propensity_that_they_are_given():
    counts = PropensityCounts()
    for n in range(1000):
        counts.add(f"u{n}", "", ("hello", "offer")[n % 2])
    before = counts.estimate("odd", "", "rare", ["hello", "offer", "rare"])
    for _ in range(500):
        counts.add("odd", "", "rare")
    assert counts.estimate("odd", "", "rare", ["hello", "offer", "rare"]) == before


def test_records_label_their_propensities_and_part_the_log_by_time(tmp_path):
    path = csv_log(tmp_path, *(good(n, f"u{n}") for n in range(1, 11)))
    for given, kind, known in (("{column: p}", "given", 0.25), ("unknown", "unknown", None)):
        text = MAPPING.replace("{column: p}", given, 1)
        mapping = parse_mapping(text.encode(), "m.yaml", tmp_path)
        log = LogReader(path, mapping)
        summary = log.scan()
        make = LogRecords(mapping, campaign_of(mapping, summary.actions, 0), summary)
        decisions = [make.decision(row) for row in log.rows()]
        assert {(d.propensity_kind, d.propensity) for d in decisions} == {(kind, known)}
        assert [(d.wave, d.learn) for d in decisions] == [(0, True)] * 7 + [(1, False)] * 3
        assert len({d.decision_id for d in decisions}) == 10
        rewards = [reward for row in log.rows() for reward in make.rewards(row)]
        assert [(r.kind, r.value) for r in rewards[:2]] == [("click", None), ("purchase", 2.5)]
        assert {r.decision_id for r in rewards} == {d.decision_id for d in decisions}
    text = MAPPING.replace("{column: p}", "{estimate: [plan]}", 1)
    mapping = parse_mapping(text.encode(), "m.yaml", tmp_path)
    log = LogReader(path, mapping)
    summary = log.scan()
    make = LogRecords(mapping, campaign_of(mapping, summary.actions, 0), summary)
    decision = make.decision(next(log.rows()))
    assert decision.propensity_kind == "estimated"
    assert decision.propensity == pytest.approx(1.0)


def test_probabilities_of_all_actions_are_read_rounded_and_made_to_sum_to_one(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(
        "at,mail,click,p_h,p_o,p_n,version\n"
        "1,hello,1,0.333,0.333,0.333,0\n"
        "2,offer,0,0.25,0.75,,1\n"
        "3,news,0,0,0,1,12\n"
        "4,hello,0,0.5,0.6,0,1\n"
        "5,hello,0,0,1,0,1\n"
        "6,hello,0,1,0,0,one\n"
        "7,gone,0,1,0,0,1\n"
        "8,hello,0,1.5,-0.5,0,1\n"
    )
    text = """campaign: spring
time: {column: at, unit: s}
action: mail
rewards: [{column: click}]
propensity: {columns: {hello: p_h, offer: p_o, news: p_n}, wave: version}
bad_rows: 90 %
"""
    log = reader(path, text)
    summary = log.scan()
    rows = list(log.rows())
    assert [row.wave for row in rows] == [0, 1, 12]
    assert [row.propensity for row in rows] == pytest.approx([1 / 3, 0.75, 1.0])
    assert rows[0].probabilities == pytest.approx({"hello": 1 / 3, "offer": 1 / 3, "news": 1 / 3})
    assert rows[1].probabilities == {"hello": 0.25, "offer": 0.75}
    said = " ".join(summary.bad_rows)
    for why in (
        "probabilities must sum to 1 within 0.001, got 1.1",
        "p_h is 0, but 'hello' was drawn",
        "version must be a whole number of 0 or more, got 'one'",
        "'gone' is none of the actions whose probabilities are mapped",
        "p_h must lie in [0, 1], got 1.5",
    ):
        assert why in said
    records = LogRecords(log._mapping, campaign_of(log._mapping, summary.actions, 0), summary)
    decision = records.decision(rows[1])
    assert (decision.policy_version, decision.probabilities) == (1, {"hello": 0.25, "offer": 0.75})
