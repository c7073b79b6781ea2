from streams.core import evaluation


def test_the_package_exports_exactly_this():
    assert evaluation.__all__ == [
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
    assert all(hasattr(evaluation, name) for name in evaluation.__all__)
