"""What a demo has shown: its figures with their bars, and its verdict in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streams.simulation.figures import Figure
from streams.simulation.wave_figures import WaveFigures

__all__ = ["ENOUGH_WAVES", "MOST_S", "OF_ORACLE", "OVER_SINGLE", "Outcome"]

OVER_SINGLE = 1.10  # of the best single template, in the last wave
OF_ORACLE = 0.85
ENOUGH_WAVES = 6  # with fewer the bars are shown, not asked for
MOST_S = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a demo has shown.

    Attributes
    ----------
    sent, counted
        Feedback that the company posted, each piece once however often it did, by kind; and what
        was credited to decisions.
    repeated
        Decisions and outcomes that were committed more than once.
    false_propensities
        Decisions whose propensity is not the logged probability of their action.
    seconds
        By phase.
    """

    waves: Sequence[WaveFigures]
    sent: Mapping[str, int]
    counted: Mapping[str, int]
    repeated: int
    false_propensities: int
    seconds: Mapping[str, float]

    @property
    def last(self) -> WaveFigures:
        """The last wave."""
        return self.waves[-1]

    @property
    def promised(self) -> bool:
        """Whether there were enough waves for the bars to be asked for."""
        return len(self.waves) >= ENOUGH_WAVES

    @property
    def holds(self) -> bool:
        """Whether all holds that is asked for; how long it took is the machine's as much."""
        learned = self.last.over_single >= OVER_SINGLE and self.last.of_oracle >= OF_ORACLE
        exact = not self.repeated and not self.false_propensities
        return exact and (learned or not self.promised)

    def figures(self, total_s: float) -> list[Figure]:
        """Give the figures, those of the last wave with their bars.

        Parameters
        ----------
        total_s
            Seconds from the command's start to its last process's end.
        """
        figures = []
        for wave in self.waves:
            last = wave is self.last
            for peer, value, ratio, bar in (
                ("best single template", wave.best_single, wave.over_single, OVER_SINGLE),
                ("oracle", wave.oracle, wave.of_oracle, OF_ORACLE),
                ("uniform", wave.uniform, wave.over_uniform, None),
            ):
                asked = last and bar is not None
                figures.append(
                    Figure(
                        name=f"wave {wave.wave}, policy, expected",
                        value=wave.policy,
                        unit="reward per send",
                        peer=f"{peer}, expected",
                        peer_value=value,
                        ratio=ratio,
                        bar=f">= {bar:.2f}" if asked else None,
                        holds=ratio >= bar if asked and bar is not None else None,
                    )
                )
            policy, baseline = wave.policy_realised, wave.baseline_realised
            figures.append(
                Figure(
                    name=f"wave {wave.wave}, policy, realised",
                    value=policy.value,
                    unit="reward per send",
                    peer="baseline, realised",
                    peer_value=baseline.value,
                    ratio=policy.value / baseline.value if baseline.value > 0 else None,
                )
            )
        sent, counted = sum(self.sent.values()), sum(self.counted.values())
        return [
            *figures,
            Figure(
                name="feedback credited",
                value=float(counted),
                unit="pieces",
                peer="feedback sent",
                peer_value=float(sent),
                ratio=counted / sent if sent else None,
            ),
            _none("decisions or outcomes committed twice", self.repeated),
            _none("propensities that are not the logged probability", self.false_propensities),
            *(
                Figure(name=f"seconds, {phase}", value=round(seconds, 2), unit="s")
                for phase, seconds in self.seconds.items()
            ),
            Figure(
                name="seconds, all",
                value=round(total_s, 2),
                unit="s",
                bar=f"<= {MOST_S:g}",
                holds=total_s <= MOST_S,
            ),
        ]

    def verdict(self) -> list[str]:
        """Say what the figures show; every number in it is one of theirs."""
        last, n = self.last, len(self.waves)
        lines = []
        if n == 1:
            lines.append(
                "One wave learns nothing: all of it was decided before anything came back. The "
                f"policy knew nobody and earns {last.policy:.4f} a send, {last.over_uniform:.2f} x "
                "a random template."
            )
        else:
            first = self.waves[0]
            lines.append(
                f"Wave 1 was decided knowing nothing: {first.policy:.4f} a send, "
                f"{100 * first.of_oracle:.1f} % of the oracle. Wave {n}: {last.policy:.4f}, "
                f"{100 * last.of_oracle:.1f} %, {last.over_uniform:.2f} x a random template."
            )
        for what, ratio, bar in (
            (
                f"of the best single template ({last.best_single:.4f})",
                last.over_single,
                OVER_SINGLE,
            ),
            (f"of the oracle ({last.oracle:.4f})", last.of_oracle, OF_ORACLE),
        ):
            answer = "yes" if ratio >= bar else "NO"
            asked = "" if self.promised else f", a bar for {ENOUGH_WAVES} waves and more"
            lines.append(
                f"At least {100 * bar:.0f} % {what} in wave {n}: "
                f"{answer}, {100 * ratio:.1f} %{asked}."
            )
        sent, counted = sum(self.sent.values()), sum(self.counted.values())
        twice = "nothing" if not self.repeated else f"{self.repeated} of them"
        lines.append(
            f"The company posted {sent:,} pieces of feedback, some twice and in disorder; "
            f"{counted:,} were credited. Of decisions and outcomes, {twice} was committed twice."
        )
        if self.false_propensities:
            lines.append(
                f"{self.false_propensities} propensities are not the logged probability: a bug."
            )
        return lines


def _none(name: str, count: int) -> Figure:
    return Figure(name=name, value=float(count), unit="pieces", bar="= 0", holds=count == 0)
