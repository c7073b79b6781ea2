from streams.core import policies


def test_the_public_names_are_these():
    assert policies.__all__ == [
        "DEFAULT_POLICY",
        "POLICIES",
        "ActionPart",
        "ActionSet",
        "AdaptiveThompson",
        "DisjointLinearThompson",
        "DisjointLinearUcb",
        "EpsilonGreedy",
        "Examples",
        "Fixed",
        "LinearThompson",
        "LinearUcb",
        "LogisticThompson",
        "Parameter",
        "ParameterValue",
        "Policy",
        "RewardScale",
        "RiverBandit",
        "RiverRegressor",
        "Softmax",
        "SquareCB",
        "Statistics",
        "Uniform",
        "create",
        "draw",
        "floored",
        "from_bytes",
        "parts_by_action",
        "recovering",
        "to_bytes",
        "validate",
    ]
    assert all(hasattr(policies, name) for name in policies.__all__)
