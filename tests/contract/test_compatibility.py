"""The gate for schemas lets nothing through that an earlier release could not live with."""

import json
import shutil
from collections.abc import Iterator

import pytest

from schemas.avro_schemas import SCHEMA_DIR
from schemas.compatibility import main, read_releases, read_tree


class Gate:
    """The tree's schemas in a folder of their own, released as 1.0.0."""

    def __init__(self, folder, capsys) -> None:
        self.tree = folder / "avro"
        self.released = folder / "released"
        self._capsys = capsys
        shutil.copytree(SCHEMA_DIR, self.tree)
        self.released.mkdir()

    def run(self, *words: str) -> tuple[int, str, str]:
        code = main([*words, "--tree", str(self.tree), "--released", str(self.released)])
        out, err = self._capsys.readouterr()
        return code, out, err

    def change(self, record: str, edit) -> None:
        path = self.tree / f"groundswell.{record}.avsc"
        schema = json.loads(path.read_text())
        edit({field["name"]: field for field in schema["fields"]}, schema["fields"])
        path.write_text(json.dumps(schema))


@pytest.fixture
def gate(tmp_path, capsys):
    made = Gate(tmp_path, capsys)
    assert made.run("--release", "1.0.0")[0] == 0
    return made


def refused(gate: Gate) -> list[str]:
    code, out, err = gate.run()
    assert code == 1
    assert " no" in out
    return err.splitlines()


def test_the_tree_fits_every_release_that_there_was():
    assert main([]) == 0
    assert all(set(released) <= set(read_tree()) for released in read_releases().values())


def test_before_the_first_release_the_gate_says_so(tmp_path, capsys):
    assert Gate(tmp_path, capsys).run() == (
        0,
        f"{len(read_tree())} schemas; nothing has been released yet, so any change is free\n",
        "",
    )


def test_what_was_released_is_the_tree_and_never_written_again(gate):
    assert read_releases(gate.released) == {"1.0.0": read_tree()}
    assert "fastavro" not in (gate.released / "1.0.0.json").read_text()
    code, _, err = gate.run("--release", "1.0.0")
    assert (code, err.count("\n")) == (1, 1)
    assert "1.0.0.json has been released and never changes: give a new version" in err
    assert "a version looks like 1.4.0, got '../x'" in gate.run("--release", "../x")[2]


def test_an_unchanged_tree_passes(gate):
    code, out, err = gate.run()
    assert (code, err) == (0, "")
    assert "Reward           1.0.0\n" not in out
    assert "Reward           ok\n" in out


def test_a_field_removed_without_default_is_refused(gate):
    gate.change("Reward", lambda by_name, fields: fields.remove(by_name["kind"]))
    assert refused(gate) == [
        (
            "Reward field kind: release 1.0.0 cannot read what the tree writes: it is gone, and "
            "had no default: put it back as it was (a renamed field is gone: keep the old name)"
        )
    ]
    code, _, err = gate.run("--release", "1.1.0")
    assert (code, err.count("\n")) == (1, 1)
    assert "conflicts with earlier releases, the first: Reward field kind: " in err


def test_a_field_added_without_default_is_refused(gate):
    gate.change("Reward", lambda _, fields: fields.append({"name": "extra", "type": "int"}))
    assert refused(gate) == [
        (
            "Reward field extra: the tree cannot read what release 1.0.0 writes: it is new and has "
            'no default: give it a "default" (a renamed field is a new one: keep the old name)'
        )
    ]


def test_a_field_with_a_default_comes_and_goes(gate):
    new = {"name": "extra", "type": ["null", "int"], "default": None}
    gate.change("Reward", lambda _, fields: fields.append(new))
    assert gate.run()[0] == 0
    assert gate.run("--release", "1.1.0")[0] == 0
    gate.change("Reward", lambda by_name, fields: fields.remove(by_name["extra"]))
    code, out, _ = gate.run()
    assert code == 0
    assert "Reward           ok     ok\n" in out


def test_a_renamed_field_is_refused_both_ways(gate):
    gate.change("Reward", lambda by_name, _: by_name["kind"].update(name="sort"))
    assert [line.partition(" cannot")[0] for line in refused(gate)] == [
        "Reward field sort: the tree",
        "Reward field kind: release 1.0.0",
    ]


@pytest.mark.parametrize("new", ["string", "int", "double", ["long", "null"]])
def test_a_changed_type_is_refused_even_if_one_side_could_read_it(gate, new):
    gate.change("Reward", lambda by_name, _: by_name["occurred_at_ms"].update(type=new))
    for line in refused(gate):
        assert line.startswith("Reward field occurred_at_ms: ")
        assert "does not become" in line
        assert line.endswith(
            "leave the type as it was released, and add a field of another name with a default"
        )


def test_bytes_for_text_are_refused_although_avro_lets_them_pass(gate):
    gate.change("Reward", lambda by_name, _: by_name["kind"].update(type="bytes"))
    assert [line.partition(": leave")[0] for line in refused(gate)] == [
        (
            "Reward field kind: the tree cannot read what release 1.0.0 writes: string does not "
            "become bytes"
        ),
        (
            "Reward field kind: release 1.0.0 cannot read what the tree writes: bytes does not "
            "become string"
        ),
    ]


def test_a_record_within_a_record_is_named_to_the_field(gate):
    def edit(by_name, _):
        template = by_name["templates"]["type"]["items"]
        template["fields"][1]["type"] = "int"

    gate.change("Campaign", edit)
    found = refused(gate)
    assert {line.partition(": ")[0] for line in found} == {
        "Campaign field templates.channel",
        "WaveStart field campaign.templates.channel",
    }
    assert len(found) == 4


def test_a_branch_taken_from_a_union_is_named(gate):
    def edit(by_name, _):
        by_name["attributes"]["type"]["values"].remove("boolean")

    gate.change("UserEvent", edit)
    (line,) = refused(gate)
    assert line.startswith(
        "UserEvent field attributes: the tree cannot read what release 1.0.0 writes: null or "
        "boolean or long or double or string or array does not become null or long"
    )


def test_a_record_that_is_gone_or_renamed_is_refused(gate):
    (gate.tree / "groundswell.Decision.avsc").rename(gate.tree / "groundswell.Choice.avsc")
    assert refused(gate) == [
        (
            "Decision: the tree cannot read what release 1.0.0 writes: the record is gone: keep "
            "its .avsc under the name that it was released with"
        )
    ]


def test_each_of_several_releases_counts(gate):
    # 1.0.0 has it, 1.1.0 let it go, and now it comes back with another type.
    gate.change("Reward", lambda by_name, fields: fields.remove(by_name["channel"]))
    assert gate.run("--release", "1.1.0")[0] == 0
    again = {"name": "channel", "type": ["null", "long"], "default": None}
    gate.change("Reward", lambda _, fields: fields.append(again))
    found = refused(gate)
    assert {"1.0.0" in line and "field channel" in line for line in found} == {True}
    assert "Reward           no     ok\n" in gate.run()[1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "groundswell.Reward.avsc is no Avro schema"),
        ('{"type": "recor"}', "groundswell.Reward.avsc is no Avro schema"),
        ('{"type": "record", "fields": []}', "groundswell.Reward.avsc is no Avro schema"),
    ],
)
def test_a_file_that_is_no_schema_is_said_in_one_line(gate, text, told):
    (gate.tree / "groundswell.Reward.avsc").write_text(text)
    code, _, err = gate.run()
    assert (code, err.count("\n")) == (1, 1)
    assert told in err


def test_a_release_that_cannot_be_read_is_said_in_one_line(gate):
    (gate.released / "0.9.0.json").write_text("{")
    code, _, err = gate.run()
    assert (code, err.count("\n")) == (1, 1)
    assert "0.9.0.json is no JSON" in err


def undocumented(node: object, where: str) -> Iterator[str]:
    if isinstance(node, list):
        for child in node:
            yield from undocumented(child, where)
    elif isinstance(node, dict):
        if node.get("type") == "record":
            where = f"{where}/{node['name']}"
            named = [(where, node), *((f"{where}.{f['name']}", f) for f in node["fields"])]
            yield from (name for name, thing in named if len(thing.get("doc", "")) < 5)
        for child in node.values():
            yield from undocumented(child, where)


def test_every_record_and_field_of_every_schema_has_a_doc():
    assert list(undocumented({"type": "record", "name": "R", "fields": [{"name": "f"}]}, "")) == [
        "/R",
        "/R.f",
    ]
    for name, schema in read_tree().items():
        assert list(undocumented(schema, name)) == []
