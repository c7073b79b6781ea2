"""Search the peers' settings for each world, on seeds that the suite does not use.

``python -m tests.bench.learning.tune`` writes ``tuned.json``; it takes some minutes.
"""

import json
import sys
from dataclasses import replace

from tests.bench.learning.peers import PEERS, make_peer
from tests.bench.learning.suite import TUNED, in_parallel
from tests.bench.learning.waves import regrets
from tests.bench.learning.worlds import WAVES, available, make_world

SEEDS = (9_001, 9_002)
SLOW = ("VW SquareCB", "VW cover")  # searched on the first half of the first seed alone
LONG, AS = ("30 actions", "100 actions"), "linear"  # the slow ones take theirs from AS


def total(world: str, peer: str, index: int) -> float:
    """Sum the regret of one of a peer's settings over the seeds."""
    regret = 0.0
    for seed in SEEDS[:1] if peer in SLOW else SEEDS:
        drawn = make_world(world, seed)
        if peer in SLOW:
            drawn = replace(drawn, contexts=drawn.contexts[: WAVES // 2])
        settings = PEERS[peer][1][index]
        contestant = make_peer(peer, settings, drawn.features, drawn.contexts.shape[2], seed)
        regret += float(regrets(drawn, contestant, seed).sum())
    return regret


def main(worlds: list[str]) -> None:
    """Search all worlds that can be made here, or those that are named."""
    jobs = [
        (world, peer, index)
        for world in worlds
        for peer, (_, grid) in PEERS.items()
        for index in range(len(grid))
        if not (world in LONG and peer in SLOW)
    ]
    totals = dict(zip(jobs, in_parallel(total, jobs), strict=True))
    tuned = json.loads(TUNED.read_text()) if TUNED.exists() else {}
    for world in worlds:
        tuned[world] = {}
        for peer, (_, grid) in PEERS.items():
            if world in LONG and peer in SLOW:
                tuned[world][peer] = tuned[AS][peer]
                continue
            best = min(range(len(grid)), key=lambda index: totals[world, peer, index])
            tuned[world][peer] = grid[best]
    TUNED.write_text(json.dumps(tuned, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:] or available())
