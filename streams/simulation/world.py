"""A company in a box: its people, its templates, and what people really do with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from schemas.campaign import Template
from schemas.errors import SettingsError
from streams.simulation.people import CHANNELS, People, draw_people
from streams.simulation.responses import Delays, Responses, draw_responses
from streams.simulation.templates import TEMPLATES
from streams.simulation.truth import REWARD_WEIGHTS, Truth, best_single, draw_truth

__all__ = ["Company"]

FEWEST_PEOPLE = 1_000  # below, a world's rewards cannot be told from its chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """A company whose truth is known; people and templates are named by their index.

    Attributes
    ----------
    eligible
        Whether each template's channel reaches each person, (n, k).
    """

    seed: int
    people: People
    templates: tuple[Template, ...]
    eligible: NDArray[np.bool_]
    truth: Truth

    @classmethod
    def create(cls, seed: int, n_people: int = 20_000, *, curved: bool = False) -> Self:
        """Found the company of a seed; the same seed always founds the same one.

        Parameters
        ----------
        curved
            Whether people's tastes are far from linear in what is known of them.

        Raises
        ------
        SettingsError
            If there are too few people, or the seed is negative.
        """
        if n_people < FEWEST_PEOPLE:
            raise SettingsError(f"a company has at least {FEWEST_PEOPLE} people, got {n_people}")
        if seed < 0:
            raise SettingsError(f"the seed must be 0 or more, got {seed}")
        rng = np.random.default_rng(seed)
        people = draw_people(rng, n_people)
        eligible = people.reach[:, [CHANNELS.index(template.channel) for template in TEMPLATES]]
        return cls(
            seed=seed,
            people=people,
            templates=TEMPLATES,
            eligible=eligible,
            truth=draw_truth(rng, people, eligible, curved=curved),
        )

    def click_probability(
        self, users: NDArray[np.intp], templates: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Give P(click | user, template) for each of n users and k templates, (n, k)."""
        return self.truth.click[np.ix_(users, templates)]

    def purchase_probability(
        self, users: NDArray[np.intp], templates: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Give P(purchase | click, user, template) for each of n users and k templates, (n, k)."""
        return self.truth.purchase[np.ix_(users, templates)]

    def expected_reward(self, weights: Mapping[str, float] = REWARD_WEIGHTS) -> NDArray[np.float64]:
        """Give E[r | person, template] of everyone, (n, k), with all feedback credited in time."""
        return self.truth.expected_reward(weights)

    def oracle(self, weights: Mapping[str, float] = REWARD_WEIGHTS) -> NDArray[np.intp]:
        """Give the best template for each person among those that reach them, (n,)."""
        rewards = np.where(self.eligible, self.expected_reward(weights), -np.inf)
        choices: NDArray[np.intp] = rewards.argmax(axis=1)
        return choices

    def best_single(self, weights: Mapping[str, float] = REWARD_WEIGHTS) -> NDArray[np.intp]:
        """Give the best choice that does not look at the person, (n,); see `truth.best_single`."""
        return best_single(self.expected_reward(weights), self.eligible)

    def uniform(self) -> NDArray[np.float64]:
        """Give the probabilities of a random template that reaches the person, (n, k).

        Rows of people that nothing reaches are zero.
        """
        reaching = np.maximum(self.eligible.sum(axis=1, keepdims=True), 1)
        probabilities: NDArray[np.float64] = self.eligible / reaching
        return probabilities

    def respond(
        self,
        decision_ids: Sequence[str],
        users: NDArray[np.intp],
        templates: NDArray[np.intp],
        decided_at_ms: NDArray[np.int64] | int,
        delays: Delays | None = None,
    ) -> Responses:
        """Draw what comes of n decisions; the same decision id always gets the same answer.

        Parameters
        ----------
        users, templates
            Who got what, both (n,).
        decided_at_ms
            When, (n,) or one time for all.
        """
        return draw_responses(
            self.seed,
            decision_ids=decision_ids,
            user_ids=self.people.ids[users],
            click=self.truth.click[users, templates],
            purchase=self.truth.purchase[users, templates],
            decided_at_ms=np.broadcast_to(np.asarray(decided_at_ms, np.int64), len(decision_ids)),
            delays=delays or Delays(),
        )
