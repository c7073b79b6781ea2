"""The sample release that is shipped: small, sound, and trusted nowhere but in the demo."""

import dataclasses

import numpy as np
import pytest

from schemas.errors import ReleaseError
from schemas.signing import PublicKey
from streams.releases.fetch import Fetcher
from streams.releases.store import Store, signed
from streams.settings import Settings
from streams.simulation.encoder_log import company_profile
from streams.simulation.people import draw_people
from streams.simulation.sample_release import CREATED_AT, DEMO_KEY, FOLDER, NAME, announced

MIB = 1024 * 1024


def fetcher(*trusted: PublicKey) -> Fetcher:
    return Fetcher(store=Store(str(FOLDER)), trusted=trusted, most_bytes=MIB)


def test_the_sample_is_small_and_loads_without_torch():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < MIB
    encoder = fetcher(DEMO_KEY.public).fetch(NAME, announced())
    assert encoder.version == f"{NAME}@1.0.0"
    people = draw_people(np.random.default_rng(1), 2_000)
    at_ms = encoder.manifest.window.until_ms
    rng = np.random.default_rng(2)
    z = encoder.encode([company_profile(rng, people, n, at_ms) for n in range(2_000)], at_ms)
    assert z.shape == (2_000, 16)
    # White over what it was trained on, and these people are of the same kind.
    assert np.abs(z.mean(axis=0)).max() < 0.25
    assert 0.7 < z[:, :4].std(axis=0).min() <= z[:, :4].std(axis=0).max() < 1.3


def test_the_demos_key_is_marked_and_not_trusted_by_default():
    assert DEMO_KEY.public.comment == "demo-only"
    assert Settings.model_fields["trusted_keys"].default == ""
    with pytest.raises(ReleaseError, match=DEMO_KEY.public.key_id):
        fetcher().fetch(NAME, announced())


def test_the_sample_foresees_clicks_better_than_chance():
    metrics = fetcher(DEMO_KEY.public).manifest(NAME, announced()).metrics
    assert metrics["auc clicked head"] > 0.6
    assert metrics["auc clicked probe"] > 0.6
    assert metrics["auc hidden tokens"] > 0.6


def test_the_sample_under_another_version_is_not_believed():
    other = dataclasses.replace(announced(), version="9.0.0")
    with pytest.raises(ReleaseError, match="its manifest is of"):
        fetcher(DEMO_KEY.public).fetch(NAME, other)


def test_the_sample_says_when_it_was_made_by_its_script_and_not_by_the_clock():
    manifest = fetcher(DEMO_KEY.public).manifest(NAME, announced())
    assert manifest.created_at_ms == announced().published_at_ms == 1000 * CREATED_AT
    # The signature is of the content alone: the same again is the same file.
    model = Store(str(FOLDER)).model(manifest.model_sha256, MIB)
    assert signed(manifest, model, DEMO_KEY)[1] == announced()
