"""Schema ids from a real registry."""

import http.server
import io
import json
import socket
import struct
import threading
import urllib.error
import urllib.request
from dataclasses import replace

import fastavro
import pytest

from schemas.avro_schemas import fingerprint, full_schema, parsed_schema
from schemas.errors import BadRecordError, ContractError
from schemas.records import Reward, UserEvent
from schemas.registry import RegistryIds, codec_for
from schemas.wire import Codec, Unreadable

pytestmark = pytest.mark.kafka

EVENT = UserEvent(
    user_id="u1", type="opened", occurred_at_ms=1_700_000_000_000, attributes={"n": 3, "x": ["a"]}
)


def ask(url: str, body: object = None, method: str = "GET") -> object:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def register(registry: str, subject: str, schema: object) -> int:
    body = {"schema": json.dumps(schema), "schemaType": "AVRO"}
    answer = ask(f"{registry}/subjects/{subject}/versions", body, "POST")
    assert isinstance(answer, dict)
    return int(answer["id"])


def id_in(raw: bytes) -> int:
    return int(struct.unpack_from(">bI", raw)[1])


def test_a_record_goes_there_and_back_under_the_registrys_id(registry):
    raw = codec_for(registry).encode("there-and-back", EVENT)
    assert ask(f"{registry}/subjects/there-and-back-value/versions") == [1]
    known = ask(f"{registry}/subjects/there-and-back-value/versions/1")
    assert isinstance(known, dict)
    assert known["id"] == id_in(raw)
    assert [f["doc"] for f in json.loads(known["schema"])["fields"]] == [
        f["doc"] for f in full_schema("UserEvent")["fields"]
    ]
    # Another process, which has only the id.
    assert codec_for(registry).decode(raw, UserEvent) == EVENT
    assert raw[5:] == Codec().encode("there-and-back", EVENT)[5:]


def test_a_topics_subject_refuses_a_schema_that_does_not_fit(registry):
    codec_for(registry).encode("guarded", EVENT)
    level = ask(f"{registry}/config/guarded-value")
    assert level == {"compatibilityLevel": "FULL_TRANSITIVE"}
    worse = full_schema("UserEvent")
    worse["fields"].append({"name": "extra", "type": "string"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        register(registry, "guarded-value", worse)
    refused.value.close()
    assert refused.value.code == 409


def test_a_schema_that_the_subject_does_not_take_is_an_error_with_url_and_cure(registry):
    other = {"type": "record", "name": "UserEvent", "namespace": "groundswell"}
    register(registry, "taken-value", {**other, "fields": [{"name": "a", "type": "string"}]})
    with pytest.raises(ContractError) as refused:
        codec_for(registry).encode("taken", EVENT)
    told = str(refused.value)
    assert told.startswith(f"the registry at {registry} does not take UserEvent in taken-value: ")
    assert told.endswith("at level FULL_TRANSITIVE, or let workers write there")


def test_records_of_an_older_and_a_newer_schema_are_read_with_the_trees(registry):
    older = full_schema("Reward")
    older["fields"] = [f for f in older["fields"] if f["name"] != "channel"]
    newer = full_schema("Reward")
    newer["fields"].append({"name": "extra", "type": "int", "default": 0, "doc": "d"})
    reward = Reward(user_id="u", kind="click", occurred_at_ms=5, channel="email")
    for subject, schema, expected in (
        ("older-value", older, replace(reward, channel=None)),
        ("newer-value", newer, reward),
    ):
        schema_id = register(registry, subject, schema)
        out = io.BytesIO(struct.pack(">bI", 0, schema_id))
        out.seek(5)
        fields = {f["name"]: getattr(reward, f["name"], 7) for f in schema["fields"]}
        fastavro.schemaless_writer(out, fastavro.parse_schema(schema), fields)
        assert codec_for(registry).decode(out.getvalue(), Reward) == expected


def test_an_unknown_id_is_a_bad_record_and_a_known_one_is_none(registry):
    codec = Codec(RegistryIds(registry))
    raw = struct.pack(">bI", 0, 2_000_000_000) + b"abc"
    with pytest.raises(BadRecordError, match="schema id 2000000000 is unknown here"):
        codec.decode(raw, UserEvent)
    assert isinstance(codec.try_decode(raw, UserEvent), Unreadable)
    known = codec_for(registry).encode("later", EVENT)
    assert codec.decode(known, UserEvent) == EVENT


class Desk(http.server.ThreadingHTTPServer):
    """Answers as a registry that has no schema, and counts the questions."""

    status, error_code = 404, 40403

    def __init__(self) -> None:
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Clerk)


class Clerk(http.server.BaseHTTPRequestHandler):
    server: Desk

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        body = json.dumps({"error_code": self.server.error_code, "message": "no"}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def desk():
    with Desk() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_an_answer_that_there_is_no_such_id_is_believed_for_some_seconds(desk):
    now = [0.0]
    ids = RegistryIds(f"http://127.0.0.1:{desk.server_port}", clock=lambda: now[0])
    for _ in range(3):
        assert ids.writer_schema(7) is None
    assert desk.asked == ["/schemas/ids/7"]
    now[0] = 6.0
    assert ids.writer_schema(7) is None
    assert desk.asked == ["/schemas/ids/7"] * 2


def test_a_registry_that_fails_is_no_unknown_id_and_is_left_alone_for_some_seconds(desk):
    desk.status, desk.error_code = 501, 50101
    now = [0.0]
    ids = RegistryIds(f"http://127.0.0.1:{desk.server_port}", clock=lambda: now[0])
    for _ in range(3):
        with pytest.raises(ContractError, match="gives no answer about schema id 7: no "):
            ids.writer_schema(7)
    assert len(desk.asked) == 1


def test_the_fingerprint_of_a_topic_without_registry_is_never_asked_for():
    ids = RegistryIds("http://127.0.0.1:1")
    assert ids.writer_schema(fingerprint(parsed_schema("UserEvent"))) is None


def test_a_schema_that_is_no_record_or_needs_others_is_a_bad_record(registry):
    text = register(registry, "text-value", {"type": "string"})
    ids = RegistryIds(registry)
    with pytest.raises(BadRecordError, match=rf"id {text} of {registry} is no record"):
        ids.writer_schema(text)
    with pytest.raises(BadRecordError, match="is no record"):
        ids.writer_schema(text)


def test_no_registry_is_said_in_one_line_without_the_password():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # not listening
        port = bound.getsockname()[1]
        with pytest.raises(ContractError) as refused:
            codec_for(f"http://marketing:geheim@127.0.0.1:{port}/apis")
    assert str(refused.value) == (
        f"the registry at http://127.0.0.1:{port}/apis does not answer as a registry: "
        "[Errno 111] Connection refused: check GROUNDSWELL_REGISTRY"
    )
    with pytest.raises(ContractError, match=r"^registry:8081 is no registry's URL: give one"):
        codec_for("registry:8081")


def test_a_path_where_no_registry_is_never_makes_an_id_unknown(registry):
    wrong = registry.replace("ccompat/v7", "nothing")
    with pytest.raises(ContractError, match=f"the registry at {wrong} does not answer"):
        codec_for(wrong)
    with pytest.raises(ContractError, match=f"the registry at {wrong} gives no answer about"):
        RegistryIds(wrong).writer_schema(1)


def test_without_a_registry_ids_are_fingerprints():
    raw = codec_for(None).encode("any", EVENT)
    assert id_in(raw) == fingerprint(parsed_schema("UserEvent"))
