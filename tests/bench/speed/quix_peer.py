"""The peer of the throughput row, in an environment of its own: Quix Streams, exactly once.

Reads the Avro of `UserEvent`, and folds it into the user's profile in Quix's state. The fold is
this project's own, or written for Quix: plain dicts, kept as Quix keeps them.
"""

import argparse
from pathlib import Path
from typing import Any

from quixstreams import Application
from quixstreams.state import State

from schemas.records import UserEvent
from schemas.wire import Codec
from streams.core.profiles import Profile, fold_event


def main() -> None:
    given = _arguments()
    app = Application(
        broker_address=given.bootstrap,
        consumer_group=given.group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=given.commit_interval,
        state_dir=given.state,
        auto_create_topics=True,
        loglevel="WARNING",
    )
    topic = app.topic(given.topic, key_deserializer="bytes", value_deserializer="bytes")
    frame = app.dataframe(topic)
    frame.update(our_fold() if given.fold == "ours" else plain_fold(), stateful=True)
    app.run()


def our_fold() -> Any:
    """Records decoded by our codec; profiles as msgpack, which state keeps as bytes."""
    import msgspec

    decode = Codec().decode
    load = msgspec.msgpack.Decoder(Profile).decode
    dump = msgspec.msgpack.Encoder().encode

    def fold(value: bytes, state: State) -> None:
        event = decode(value, UserEvent)
        raw = state.get_bytes("profile")
        profile = load(raw) if raw is not None else Profile()
        if fold_event(profile, event):
            state.set_bytes("profile", dump(profile))

    return fold


def plain_fold() -> Any:
    """Records read by fastavro; profiles as dicts, which state keeps as JSON."""
    import io

    import fastavro
    import mmh3

    from schemas.avro_schemas import parsed_schema

    schema = parsed_schema("UserEvent")

    def fold(value: bytes, state: State) -> None:
        stream = io.BytesIO(value)
        stream.seek(5)
        event: dict[str, Any] = fastavro.schemaless_reader(stream, schema, None)
        at_ms = event["occurred_at_ms"]
        profile = state.get("profile") or {
            "attributes": {},
            "attributes_at": {},
            "counts": {},
            "seen": {},
            "contacts": {},
            "contacts_at": {},
        }
        key = str(mmh3.hash64(event["event_id"], signed=False)[0])
        seen = profile["seen"]
        if key in seen:
            return
        if len(seen) >= 256:
            del seen[min(seen, key=seen.__getitem__)]
        seen[key] = at_ms
        count, last = profile["counts"].get(event["type"], (0, 0))
        profile["counts"][event["type"]] = (count + 1, max(last, at_ms))
        for kind in ("attributes", "contacts"):
            values, times = profile[kind], profile[f"{kind}_at"]
            for name, item in event[kind].items():
                if at_ms >= times.get(name, -1):
                    times[name] = at_ms
                    if item is None:
                        values.pop(name, None)
                    else:
                        values[name] = item
        state.set("profile", profile)

    return fold


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("bootstrap", "topic", "group", "fold"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--commit-interval", type=float, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
