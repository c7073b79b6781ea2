from tests.bench.learning.delays import Delays, regret


def test_what_is_learned_at_once_and_corrected_helps_before_its_windows_are_over():
    quick = Delays(mean=0.5, periods=36)
    assert regret(quick, "decision", 0) < 0.8 * regret(quick, "close", 0)
