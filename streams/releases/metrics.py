"""What a worker counts of encoder releases, for Prometheus."""

from prometheus_client import Counter, Gauge

__all__ = ["ENCODED", "LIVE", "LIVE_REFUSED", "LOAD_SECONDS", "REFUSED"]

REFUSED = Counter(
    "groundswell_encoder_refused",
    "Announced releases that failed a check, or could not be fetched",
    ["encoder", "version"],
)
LIVE = Gauge(
    "groundswell_encoder_live", "1 for the release that new waves are decided with", ["release"]
)
LIVE_REFUSED = Gauge(
    "groundswell_encoder_live_refused",
    "1 while this worker refuses the announced live release of an encoder: the last good one, if "
    "there is one, decides in its stead",
    ["encoder"],
)
LOAD_SECONDS = Gauge(
    "groundswell_encoder_load_seconds",
    "Time that fetching, checking and warming up took",
    ["release"],
)
ENCODED = Counter(
    "groundswell_encodings", "Profiles encoded, by whether the encoding was there already", ["by"]
)
