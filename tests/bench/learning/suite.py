"""Run contestants over worlds and seeds, in as many processes as there are cores.

What was run is kept on disk, and not run again while the code that it came from is the same.
"""

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from streams.core.policies import DEFAULT_POLICY
from tests.bench.figures import BUILD
from tests.bench.learning.ours import Ours
from tests.bench.learning.peers import PEERS, make_peer
from tests.bench.learning.waves import regrets
from tests.bench.learning.worlds import make_world

__all__ = ["DEFAULT", "OURS", "TUNED", "Results", "in_parallel", "run_seed", "run_suite"]

HERE = Path(__file__).parent
CACHE = BUILD / "bench" / "learning" / "cache"
WORLD_CODE = (HERE / "worlds.py", HERE / "waves.py")
PEER_CODE = (HERE / "peers.py",)
OUR_CODE = (
    HERE / "ours.py",
    *sorted((HERE.parents[2] / "streams" / "core" / "policies").glob("*.py")),
)
TUNED = Path(__file__).with_name("tuned.json")  # as `python -m tests.bench.learning.tune` found
DEFAULT = DEFAULT_POLICY
OURS = (
    DEFAULT,
    "linear-thompson",
    "linear-ucb",
    "disjoint-linear-thompson",
    "disjoint-linear-ucb",
    "logistic-thompson",
    "squarecb",
    "epsilon-greedy",
)
# what is there to compare with alone is run with the first seeds alone
FEWER_SEEDS: Mapping[str, int] = {name: 3 for name in OURS if name != DEFAULT}
LARGE = ("30 actions", "100 actions")

# world, contestant, seed: the regret of each wave, (WAVES,)
Results = dict[str, dict[str, dict[int, np.ndarray]]]


def run_seed(world: str, seed: int, contestants: Sequence[str]) -> dict[str, np.ndarray]:
    """Run contestants in the same world, one after the other; a peer with what was found for it."""
    settings = json.loads(TUNED.read_text())[world]
    drawn = None
    found = {}
    for name in contestants:
        kept = CACHE / f"{_key(world, seed, name, settings.get(name))}.json"
        if kept.exists():
            found[name] = np.array(json.loads(kept.read_text()))
            continue
        drawn = drawn or make_world(world, seed)
        d_user = drawn.contexts.shape[2]
        if name in PEERS:
            contestant = make_peer(name, settings[name], drawn.features, d_user, seed)
        else:
            contestant = Ours(drawn.features, d_user, name)
        found[name] = regrets(drawn, contestant, seed)
        CACHE.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(found[name].tolist()))
        part.replace(kept)
    return found


def _key(world: str, seed: int, name: str, settings: object) -> str:
    """Name a result by all that it depends on: the world, the contestant, and their code."""
    code = PEER_CODE if name in PEERS else OUR_CODE
    parts = [world, seed, name, settings, _digest(WORLD_CODE), _digest(code)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@cache
def _digest(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def run_suite(worlds: Sequence[str], seeds: Sequence[int]) -> Results:
    """Run all contestants."""
    jobs = []
    for world in worlds:
        for place, seed in enumerate(seeds):
            names = [name for name in (*OURS, *PEERS) if place < FEWER_SEEDS.get(name, len(seeds))]
            jobs.append((world, seed, names))
    jobs.sort(key=lambda job: job[0] not in LARGE)  # the long ones first
    results: Results = {world: {name: {} for name in (*OURS, *PEERS)} for world in worlds}
    for (world, seed, _), found in zip(jobs, in_parallel(run_seed, jobs), strict=True):
        for name, regret in found.items():
            results[world][name][seed] = regret
    return results


def in_parallel(work: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> Iterable[Any]:
    """Give what `work` makes of each job, in order."""
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    before = {name: os.environ.get(name) for name in threads}
    os.environ.update(threads)  # a process a core: more threads would be in each other's way
    try:
        with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
            return list(pool.map(work, *zip(*jobs, strict=True)))
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
