"""Off-policy evaluation: what a policy would have earned, from another policy's log.

Five estimators (IPS, SNIPS, DM, DR, and DR for a log whose own policy learned meanwhile), intervals
around them, and a diagnosis of whether the log is large enough to say anything at all.
"""

from streams.core.evaluation.adaptive import estimate_adaptive_dr
from streams.core.evaluation.diagnosis import Diagnosis, diagnose
from streams.core.evaluation.direct import estimate_dm
from streams.core.evaluation.doubly_robust import estimate_dr
from streams.core.evaluation.intervals import (
    Estimate,
    Interval,
    effective_sample_size,
    empirical_bernstein,
    student_t,
)
from streams.core.evaluation.ips import estimate_ips
from streams.core.evaluation.logged import LoggedDecisions, importance_weights
from streams.core.evaluation.snips import estimate_snips

__all__ = [
    "Diagnosis",
    "Estimate",
    "Interval",
    "LoggedDecisions",
    "diagnose",
    "effective_sample_size",
    "empirical_bernstein",
    "estimate_adaptive_dr",
    "estimate_dm",
    "estimate_dr",
    "estimate_ips",
    "estimate_snips",
    "importance_weights",
    "student_t",
]
