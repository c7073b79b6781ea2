"""River's adaptive model rules, kept by numbers, and safe where nothing can be told apart."""

from river import rules
from river.base.typing import RegTarget
from river.rules.amrules import RegRule

__all__ = ["AMRules", "Rule"]


class Rule(RegRule):
    """A rule that is not split where its rewards are all alike, or by its only feature.

    River divides by their variance, as after two hundred sends without a click, and takes an only
    feature, here the constant, without asking whether it splits anything.
    """

    def expand(self, delta: float, tau: float) -> tuple[RegRule, bool]:
        """Attempt to split the rule."""
        if len(self.splitters) < 2 or not self.statistics.get() > 0.0:
            self._last_expansion_attempt_at = self.total_weight
            return self, False
        split: tuple[RegRule, bool] = super().expand(delta, tau)
        return split


class AMRules(rules.AMRules):
    """Adaptive model rules whose keys are their places.

    River keys a rule by where it lies in memory. Two workers would write the same rules as
    different snapshots, and a rule made where a dropped one lay, or lay in the worker before,
    would take the place of another.

    Examples
    --------
    >>> model = AMRules(n_min=20, delta=0.5, tau=0.5, pred_type="mean")
    >>> for step in range(200):
    ...     model.learn_one({"x0": 1.0, "x1": step % 10}, float(step % 10 > 4))
    >>> list(model._rules)
    [0]
    >>> model.predict_one({"x0": 1.0, "x1": 9})
    1.0
    """

    _rules: dict[int, RegRule]

    def learn_one(self, x: dict[str, float], y: RegTarget, w: int = 1) -> None:
        """Learn one example."""
        super().learn_one(x, y, w)
        self._rules = dict(enumerate(self._rules.values()))

    def _new_rule(self) -> Rule:
        made = super()._new_rule()
        return Rule(
            template_splitter=made.template_splitter,
            split_criterion=made.split_criterion,
            pred_model=made.pred_model,
            drift_detector=made.drift_detector,
        )
