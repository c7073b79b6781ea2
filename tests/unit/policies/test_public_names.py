from streams.core import policies


def test_the_public_names_are_these():
    assert policies.__all__ == [
        "POLICIES",
        "ActionSet",
        "ActionSums",
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
        "recovering",
        "sums_by_action",
        "to_bytes",
        "validate",
    ]
    assert all(hasattr(policies, name) for name in policies.__all__)
