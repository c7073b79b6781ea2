from streams.core import policies


def test_the_public_names_are_these():
    assert policies.__all__ == [
        "POLICIES",
        "ActionSet",
        "Examples",
        "Fixed",
        "LinearThompson",
        "Parameter",
        "ParameterValue",
        "Policy",
        "Statistics",
        "Uniform",
        "create",
        "draw",
        "floored",
        "from_bytes",
        "to_bytes",
        "validate",
    ]
    assert all(hasattr(policies, name) for name in policies.__all__)
