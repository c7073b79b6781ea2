"""What a worker counts, for Prometheus. No label ever holds a user."""

from prometheus_client import Counter, Gauge, Histogram

__all__ = [
    "APPLIED",
    "COMMIT_SECONDS",
    "EMITTED",
    "FEEDBACK",
    "FEEDBACK_IDS_DROPPED",
    "LAG",
    "OPEN_SHARDS",
    "READ_AGAIN",
    "REPEATED",
]

APPLIED = Counter("groundswell_records_applied", "Input records that the state contains", ["input"])
EMITTED = Counter("groundswell_records_emitted", "Records written to a topic", ["topic"])
COMMIT_SECONDS = Histogram(
    "groundswell_commit_seconds",
    "Time that a shard's transaction took",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
OPEN_SHARDS = Gauge("groundswell_open_shards", "Shards that this worker holds", ["kind"])
FEEDBACK = Counter(
    "groundswell_feedback",
    "Feedback by what became of it: credited, corrected, outside (of its window), too-late, "
    "duplicate, unmatched (no decision that it could answer), unknown, early, ...",
    ["verdict"],
)
FEEDBACK_IDS_DROPPED = Counter(
    "groundswell_feedback_ids_dropped",
    "Ids of feedback that were dropped before their decisions could not be corrected any more: a "
    "repetition of theirs counts again. A user has too many",
)
LAG = Gauge("groundswell_lag_records", "Records of this worker's inputs that are not applied yet")
READ_AGAIN = Counter("groundswell_read_again", "Times that skipped records were read again")
REPEATED = Counter(
    "groundswell_records_repeated",
    "Records that ingest sent on again, behind a kill or a hand-over: left out",
    ["input"],
)
