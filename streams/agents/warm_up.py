"""A policy for another release of the encoder: learned from the log, beside the worker's own work.

What is read again must be what the campaign's newest snapshot contains, neither more nor less:
updates that come later are learned by both policies. A user shard writes the examples of a wave
in the order in which it tells the learner of them, so the first n examples of (wave, shard) in
`learning-examples` are those that n rows of updates told of.
"""

import itertools
import threading
from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
import structlog

from schemas.campaign import Campaign
from schemas.errors import GroundswellError
from schemas.learning import LearningExample
from streams.agents.pace import Pace
from streams.core.encoding import ContextEncoder, action_set
from streams.core.learning import BLOCK
from streams.core.policies import Examples, Policy

__all__ = ["COMPLETE", "Learned", "ReadLog", "WarmUp"]

log = structlog.get_logger()

# By wave and shard: rows that a snapshot contains. Under COMPLETE: of the waves before this one it
# contains all.
Learned = Mapping[tuple[int, int], int]
COMPLETE = (-1, 0)
FIRST_SHARE, MOST_SHARE = 0.2, 0.8  # of a core
Placed = tuple[tuple[int, int], int, LearningExample]  # wave and shard, and which of them it is


class ReadLog(Protocol):
    """Reads the log to its end as of now."""

    def __call__(self, since: Mapping[int, int]) -> Iterator[tuple[int, int, LearningExample]]:
        """User shard, offset and example, those of one shard in their order.

        ``since`` says by shard at which offset to begin; of others all is read.
        """
        ...


class WarmUp:
    """One policy in the making. Its methods are called by the learner, its thread does the work.

    The log is read once, however often the campaign learns meanwhile: each pass goes on where the
    last one ended, and is the shorter the sooner it comes. The first pass leaves most of the
    worker's time to its decisions; each that comes after it may take twice as much, so that it
    catches up with a campaign however fast that learns.

    Parameters
    ----------
    policy
        That has learned nothing, of the release's dimensions.
    encoder
        Of the release that the policy is for.
    campaign
        Under another definition of it the warm-up is begun anew: what this one does not know of
        was passed over.
    slot
        Whoever has it reads: the log is long, and one reader at a time is enough for a worker.
    """

    def __init__(
        self,
        read: ReadLog,
        policy: Policy,
        encoder: ContextEncoder,
        campaign: Campaign,
        slot: threading.Semaphore,
    ) -> None:
        self._read = read
        self._slot = slot
        self._given_up = False
        self._policy = policy
        self._encoder = encoder
        self._campaign = campaign
        self._read_to: dict[int, int] = {}  # by shard the first offset that was not read
        self._passed: dict[tuple[int, int], int] = {}  # examples read, by wave and shard
        self._early: list[Placed] = []  # read, and not told of yet
        self._asked: Learned = {}
        self._failure: GroundswellError | None = None
        self._share = FIRST_SHARE
        self._thread: threading.Thread | None = None

    def policy_for(self, learned: Learned) -> Policy | None:
        """The policy once it has learned just this; until then None, and it is worked on.

        Raises
        ------
        GroundswellError
            What the log, or an example in it, made impossible.
        """
        if self._thread is not None and self._thread.is_alive():
            return None
        if self._failure is not None:
            raise self._failure
        if self._thread is not None and self._asked == learned:
            return self._policy
        if not self._slot.acquire(blocking=False):
            return None
        self._asked = dict(learned)
        self._thread = threading.Thread(target=self._catch_up, name="warm-up", daemon=True)
        self._thread.start()
        return None

    @property
    def campaign_version(self) -> int:
        """Of the definition that it goes by."""
        return self._campaign.version

    def give_up(self) -> None:
        """Read no further: nobody will ask for the policy."""
        self._given_up = True

    def _catch_up(self) -> None:
        try:
            for block in _blocks(self._missing(), self._campaign, self._encoder):
                self._policy.learn_many(block)
            short = sum(
                max(number - self._passed.get(key, 0), 0)
                for key, number in self._asked.items()
                if key != COMPLETE
            )
            if short and not self._given_up:
                log.warning("warm_up_short", campaign=self._campaign.campaign_id, examples=short)
        except GroundswellError as error:
            self._failure = error
        except Exception as error:
            log.exception("warm_up_failed", campaign=self._campaign.campaign_id)
            self._failure = GroundswellError(f"{type(error).__name__}: {error}")
        finally:
            self._slot.release()

    def _missing(self) -> Iterator[LearningExample]:
        """Examples that were asked for and not learned yet."""
        early, self._early = self._early, []
        for key, number, example in itertools.chain(early, self._new()):
            # Of the waves before one the snapshot contains all, of the others the first.
            if key[0] < self._asked.get(COMPLETE, 0) or number <= self._asked.get(key, 0):
                yield example
            else:
                self._early.append((key, number, example))

    def _new(self) -> Iterator[Placed]:
        """Examples of the campaign that were not read yet."""
        pace = Pace(self._share)
        self._share = min(2 * self._share, MOST_SHARE)
        for shard, offset, example in self._read(dict(self._read_to)):
            pace.rest()
            if self._given_up:
                return
            self._read_to[shard] = offset + 1
            if example.campaign_id != self._campaign.campaign_id or not example.learn:
                continue
            if example.reward == example.previous_reward:  # the log has it, no update told of it
                continue
            key = (example.wave, shard)
            number = self._passed[key] = self._passed.get(key, 0) + 1
            yield key, number, example


def _blocks(
    examples: Iterator[LearningExample], campaign: Campaign, encoder: ContextEncoder
) -> Iterator[Examples]:
    actions = action_set(campaign)
    rows = {name: row for row, name in enumerate(actions.ids)}

    def block(part: list[LearningExample]) -> Examples:
        taken = [rows[example.action] for example in part]
        contexts = np.array(
            [np.frombuffer(example.context, "<f4") for example in part], dtype=np.float64
        )
        nan = float("nan")
        previous = (example.previous_reward for example in part)
        return Examples(
            contexts=encoder.encode_again(contexts, [example.features for example in part]),
            actions=tuple(example.action for example in part),
            action_features=actions.features[taken],
            rewards=np.array([example.reward for example in part]),
            previous=np.array([nan if value is None else value for value in previous]),
            at_ms=np.array([example.decided_at_ms for example in part], dtype=np.int64),
        )

    part: list[LearningExample] = []
    for example in examples:
        if example.action not in rows:
            continue
        if part and len(example.context) != len(part[0].context):  # a release of another width
            yield block(part)
            part = []
        part.append(example)
        if len(part) == BLOCK:
            yield block(part)
            part = []
    if part:
        yield block(part)
