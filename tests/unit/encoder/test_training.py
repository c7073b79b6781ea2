"""Training finds what there is to be found, and the same again from its seed."""

# ruff: noqa: E402  # torch is of an extra: where it is missing nothing here can be imported

import dataclasses
import inspect

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: encoder")

from encoder import commands
from encoder.profile.checkpoint import load_checkpoint
from encoder.profile.config import TrainingConfig
from encoder.profile.data import Split, TrainingData, read_parquet
from encoder.profile.export import MODEL_FILE, export
from encoder.profile.graph import to_onnx
from encoder.profile.inputs import fit_inputs
from encoder.profile.losses import Labels, Uncertainty, corrupt, loss_names
from encoder.profile.train import encode, tensors, train
from encoder.profile.whitening import FAINTEST, whiten
from schemas.errors import EncoderError
from schemas.features import PlainProfile, hash_profiles
from streams.releases.encoder import Encoder
from streams.simulation.encoder_log import company_rows
from streams.simulation.world import Company
from tests.unit.encoder.conftest import START_MS, small_rows

DAY_MS = 86_400_000
QUICK = TrainingConfig(z_size=4, bits=6, embedding=8, hidden=16, epochs=3, batch=64)


@pytest.fixture(scope="module")
def split():
    return Split.by_time(TrainingData.of(small_rows(600, seed=3)))


def same(one, other) -> bool:
    a, b = one.net.state_dict(), other.net.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


def test_the_same_seed_gives_the_same_encoder_and_another_seed_another(split):
    first = train(split.train, split.valid, QUICK)
    assert same(first, train(split.train, split.valid, QUICK))
    other = train(split.train, split.valid, dataclasses.replace(QUICK, seed=2))
    assert not same(first, other)


def test_a_run_that_was_interrupted_goes_on_to_the_same_encoder(split, tmp_path):
    path = tmp_path / "run" / "checkpoint.safetensors"
    train(split.train, split.valid, dataclasses.replace(QUICK, epochs=1), checkpoint=path)
    told = []
    resumed = train(
        split.train,
        split.valid,
        QUICK,
        checkpoint=path,
        on_epoch=lambda epoch, losses: told.append(epoch),
    )
    assert told == [2, 3]
    assert same(resumed, train(split.train, split.valid, QUICK))
    assert len(resumed.history) == 3


def test_a_checkpoint_of_another_run_is_refused(split, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    train(split.train, split.valid, dataclasses.replace(QUICK, epochs=1), checkpoint=path)
    with pytest.raises(EncoderError, match="other data or settings"):
        train(split.train, split.valid, dataclasses.replace(QUICK, seed=5), checkpoint=path)
    with pytest.raises(EncoderError, match="other data or settings"):
        train(split.valid, split.train, QUICK, checkpoint=path)


def test_a_checkpoint_that_is_garbled_is_refused(split, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"\x80\x04.")
    net = torch.nn.Linear(1, 1)
    with pytest.raises(EncoderError, match="no checkpoint"):
        load_checkpoint(path, "", net, torch.optim.AdamW(net.parameters()))


def test_training_stops_when_validation_does_not_improve(split):
    config = dataclasses.replace(QUICK, epochs=40, warm_up=4, patience=2, learning_rate=0.05)
    trained = train(split.train, split.valid, config)
    assert len(trained.history) < 40
    assert len(trained.history) == max(trained.best_epoch + 1, 4) + 2


def test_clicks_that_depend_on_the_profile_are_foreseen_on_later_decisions(small):
    test = small.split.test
    inputs = tensors(small.trained.inputs, test.features, torch.device("cpu"))
    with torch.no_grad():
        logits = small.trained.net(inputs).clicked.numpy()
    logits = logits[np.arange(len(test)), test.actions]
    clicked = test.labels["clicked"]
    pairs = logits[clicked == 1][:, None] - logits[clicked == 0][None, :]
    auc = (pairs > 0).mean() + 0.5 * (pairs == 0).mean()
    assert auc > 0.68  # who knows the truth reaches 0.75


def test_encodings_are_white_over_the_training_rows(small):
    z = encode(small.trained, small.split.train.features).astype(np.float64)
    assert np.abs(z.mean(axis=0)).max() < 1e-4
    covariance = np.cov(z.T)
    variances = np.diag(covariance)
    assert np.abs(covariance - np.diag(variances)).max() < 1e-3
    # Columns that hardly vary are not raised to 1; the first half does vary.
    assert np.all(variances < 1.001)
    assert variances[:4] == pytest.approx(1.0, abs=1e-3)


def test_whitening_changes_nothing_of_what_the_heads_say(split):
    data = tensors(fit_inputs(split.train, QUICK), split.train.features, torch.device("cpu"))
    trained = train(split.train, split.valid, dataclasses.replace(QUICK, epochs=1))
    with torch.no_grad():
        net = trained.net
        net.third.weight.mul_(torch.rand_like(net.third.weight) + 0.5)  # white no more
        before = net(data)
        whiten(net, net.encode(data))
        after = net(data)
    for one, other in zip(before, after, strict=True):
        assert torch.allclose(one, other, atol=1e-4)
    assert FAINTEST < 0.01


def test_torch_and_onnxruntime_agree_over_ten_thousand_profiles_in_the_shape_that_is_trained(
    tmp_path,
):
    """The bar of the release: less than 1e-5 apart."""
    torch.set_num_threads(1)
    until_ms = START_MS + 30 * DAY_MS
    rows = list(company_rows(Company.create(7), 12_000, 7, START_MS, until_ms))
    split = Split.by_time(TrainingData.of(rows[:2_000]))
    shape = TrainingConfig()  # as `groundswell encoder train` has it
    trained = train(split.train, split.valid, dataclasses.replace(shape, epochs=4, warm_up=4))
    manifest = export(
        trained,
        split.train,
        [(row.profile, row.at_ms) for row in rows[:3]],
        tmp_path,
        name="people",
        version="1.0.0",
        metrics={},
        created_at_ms=START_MS,
    )
    encoder = Encoder.load(manifest, (tmp_path / MODEL_FILE).read_bytes())
    assert encoder.z_size == shape.z_size == 32
    profiles = [row.profile for row in rows[-10_000:]]
    ours = encode(trained, hash_profiles(profiles, [until_ms] * len(profiles)))
    served = np.concatenate(
        [encoder.encode(profiles[at : at + 500], until_ms) for at in range(0, 10_000, 500)]
    )
    assert ours.std() > 0.5
    assert np.abs(ours - served).max() < 1e-5


def test_the_exported_model_is_the_same_bytes_each_time(small):
    assert to_onnx(small.trained) == small.model


def test_a_model_without_numbers_is_exported_too():
    rows = [
        msgspec.structs.replace(
            row, profile=PlainProfile(attributes={"plan": row.profile.attributes["plan"]})
        )
        for row in small_rows(300, seed=5)
    ]
    split = Split.by_time(TrainingData.of(rows))
    trained = train(split.train, split.valid, dataclasses.replace(QUICK, epochs=1))
    assert trained.inputs.numbers == []
    assert len(to_onnx(trained)) > 1000


def test_what_no_training_row_had_has_no_embedding(small):
    seen = {i & 255 for i in small.split.train.features.tokens.ids.tolist()}
    seen |= {i & 255 for i in small.split.train.features.events.ids.tolist()}
    weight = small.trained.net.embedding.weight.detach().numpy()
    unseen = [row for row in range(256) if row not in seen]
    assert unseen
    assert not weight[unseen].any()
    assert np.all(np.abs(weight[sorted(seen)]).sum(axis=1) > 0)


def test_the_newest_decisions_are_kept_to_be_judged_by():
    data = TrainingData.of(small_rows(1_000))
    split = Split.by_time(data, valid=0.2, test=0.1)
    assert (len(split.train), len(split.valid), len(split.test)) == (700, 200, 100)
    assert split.train.at_ms.max() < split.valid.at_ms.min()
    assert split.valid.at_ms.max() < split.test.at_ms.min()


def test_a_task_that_is_always_the_same_or_never_known_is_left_out(split):
    data = dataclasses.replace(
        split.train,
        labels={
            "clicked": split.train.labels["clicked"],
            "purchased": np.zeros(len(split.train), dtype=np.float32),
            "unsubscribed": np.full(len(split.train), np.nan, dtype=np.float32),
        },
        next_event=np.full(len(split.train), -1, dtype=np.int64),
    )
    inputs = tensors(fit_inputs(data, QUICK), data.features, torch.device("cpu"))
    names = loss_names(Labels(data, torch.device("cpu")), inputs, QUICK)
    assert set(names) == {"clicked", "tokens", "numbers"}
    assert all(
        np.isfinite(train(data, split.valid, QUICK).history[-1]["train clicked"]) for _ in [0]
    )


def test_an_uncertain_task_weighs_less():
    """Kendall et al. 2018: the optimum is at s = log(2 L): twice the loss, half the weight."""
    weights = Uncertainty({"clicked": 1.0, "purchased": 1.0}, auxiliary=0.1)
    optimiser = torch.optim.Adam(weights.parameters(), lr=0.05)
    for _ in range(800):
        optimiser.zero_grad()
        weights({"clicked": torch.tensor(0.4), "purchased": torch.tensor(0.8)}).backward()
        optimiser.step()
    s = {name: float(p.detach()) for name, p in weights.log_variance.items()}
    assert s["clicked"] == pytest.approx(np.log(2 * 0.4), abs=1e-2)
    assert s["purchased"] == pytest.approx(np.log(2 * 0.8), abs=1e-2)


def test_what_is_hidden_was_there_and_is_gone(split):
    inputs = tensors(fit_inputs(split.train, QUICK), split.train.features, torch.device("cpu"))
    config = dataclasses.replace(QUICK, token_dropout=0.5, profile_dropout=0.2)
    hidden, tokens, numbers = corrupt(inputs, config, torch.Generator().manual_seed(1))
    assert bool((inputs.token_weight[tokens] > 0).all())
    assert bool((hidden.token_weight[tokens] == 0).all())
    assert bool((hidden.known[numbers] == 0).all())
    there = (inputs.token_weight > 0).sum()
    assert float(tokens.sum() / there) == pytest.approx(0.5 * 0.8, abs=0.06)
    nothing = (hidden.token_weight.sum(1) + hidden.known.sum(1)) == 0
    assert float(nothing.float().mean()) > 0.15


@pytest.mark.parametrize("command", [commands.train, commands.evaluate])
def test_a_command_trains_by_the_same_settings_unless_told_otherwise(command):
    due = {field.name: field.default for field in dataclasses.fields(TrainingConfig)}
    given = inspect.signature(command).parameters
    options = {name: option.default for name, option in given.items() if name in due}
    assert {"z_size", "bits", "embedding", "epochs", "patience", "seed"} == set(options)
    assert options == {name: due[name] for name in options}


def test_too_few_decisions_are_refused():
    with pytest.raises(EncoderError, match="at least 200 decisions, got 50"):
        TrainingData.of(small_rows(50))


@pytest.mark.parametrize("change", [{"bits": 3}, {"dropout": 1.0}, {"epochs": 0}, {"seed": -1}])
def test_settings_that_cannot_be_are_refused(change):
    with pytest.raises(EncoderError, match=next(iter(change))):
        TrainingConfig(**change)


def test_a_file_without_the_columns_is_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    with pytest.raises(EncoderError, match="cannot be read"):
        read_parquet(path)
    pq.write_table(pa.table({"at_ms": [1]}), path)
    with pytest.raises(EncoderError, match="no column profile"):
        read_parquet(path)
