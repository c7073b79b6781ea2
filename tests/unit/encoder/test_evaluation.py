"""What an encoder is judged by: AUCs, the regressions beside it, and its parts left out."""

# ruff: noqa: E402  # torch is of an extra: where it is missing nothing here can be imported

import dataclasses

import numpy as np
import pytest
from scipy.special import expit

torch = pytest.importorskip("torch", reason="training needs the extra: encoder")

from encoder.profile import device as devices
from encoder.profile.config import TrainingConfig
from encoder.profile.data import Split, TrainingData
from encoder.profile.device import choose_device
from encoder.profile.evaluate import FULL, ablations, evaluate
from encoder.profile.logistic import (
    STRENGTHS,
    Matrix,
    auc,
    crossed,
    fit_logistic,
    hashed_matrix,
    tuned_scores,
)
from encoder.profile.train import train
from schemas.errors import EncoderError
from schemas.features import number_id
from tests.unit.encoder.conftest import small_rows

QUICK = TrainingConfig(z_size=4, bits=6, embedding=8, hidden=16, epochs=2, batch=128)


@pytest.fixture(scope="module")
def split():
    return Split.by_time(TrainingData.of(small_rows(1_500, seed=3)))


@pytest.fixture(scope="module")
def judged(small):
    return evaluate(small.trained, small.split)


def test_auc_is_how_often_a_one_is_scored_above_a_zero():
    y = np.array([0.0, 0.0, 1.0, 1.0])
    assert auc(np.array([0.1, 0.4, 0.35, 0.8]), y) == 0.75
    assert auc(np.array([0.1, 0.4, 0.4, 0.8]), y) == 0.875  # a tie is half
    assert auc(-np.array([0.1, 0.2, 0.3, 0.4]), y) == 0.0
    assert np.isnan(auc(np.zeros(3), np.zeros(3)))
    rng = np.random.default_rng(1)
    scores, y = rng.integers(0, 9, 300).astype(float), rng.integers(0, 2, 300).astype(float)
    apart = scores[y == 1][:, None] - scores[y == 0][None, :]
    assert auc(scores, y) == pytest.approx((apart > 0).mean() + 0.5 * (apart == 0).mean())


def test_the_regression_is_where_its_gradient_is_nil_and_a_penalty_shrinks_it():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(400, 3))
    y = (rng.random(400) < expit(x @ [1.0, -2.0, 0.0])).astype(float)
    w = fit_logistic(Matrix(x), y, 1.0)
    assert np.abs(x.T @ (expit(x @ w) - y) + w).max() < 0.05  # of sums over 400 rows
    assert np.abs(fit_logistic(Matrix(x), y, 1e6)).max() < 1e-3
    assert w == pytest.approx([1.0, -2.0, 0.0], abs=0.5)


def test_a_crossed_row_stands_once_for_all_and_once_for_its_action():
    x = Matrix(np.array([[1.0, 2.0], [3.0, 4.0]]))
    found = crossed(x, np.array([1, 0]), 2).toarray()
    assert found.tolist() == [[1, 2, 0, 0, 1, 2], [3, 4, 3, 4, 0, 0]]


def test_hashed_columns_are_what_the_model_takes(small):
    data, inputs = small.split.test, small.trained.inputs
    found = hashed_matrix(inputs, data).toarray()
    numbers = len(inputs.numbers)
    assert found.shape == (len(data), 256 + 2 * numbers + 1)
    tokens = data.features.tokens
    row = np.zeros(256)
    for lists in (tokens, data.features.events):
        part = slice(lists.starts[7], lists.starts[8])
        np.add.at(row, lists.ids[part] & 255, lists.values[part])
    assert found[7, :256] == pytest.approx(row)
    assert np.all(found[:, -1] == 1.0)
    column = [number.name for number in inputs.numbers].index(["number", "age"])
    lists = data.features.numbers
    ages = {
        int(np.searchsorted(lists.starts, at, side="right")) - 1
        for at in np.flatnonzero(lists.ids == number_id("number", "age"))
    }
    known = np.flatnonzero(found[:, 256 + numbers + column])
    assert set(known.tolist()) == ages
    assert 0 < len(ages) < len(data)


def test_the_penalty_is_the_one_that_validation_rows_like_best_and_unknown_labels_are_left_out():
    rng = np.random.default_rng(5)
    parts, labels = [], []
    for n in (60, 300, 300):  # few rows, many columns of noise: only a penalty helps
        x = rng.normal(size=(n, 40))
        parts.append(Matrix(x))
        labels.append((rng.random(n) < expit(2.0 * x[:, 0])).astype(float))
    scores = tuned_scores(parts, labels)
    fitted = [fit_logistic(parts[0], labels[0], strength) for strength in STRENGTHS]
    best = max(fitted, key=lambda w: auc(parts[1] @ w, labels[1]))
    assert scores == pytest.approx(parts[2] @ best)
    assert best is not fitted[0]
    blank = [np.where(np.arange(len(y)) < 20, np.nan, y) for y in labels]
    short = [Matrix(part[20:]) for part in parts[:2]]
    due = tuned_scores([*short, parts[2]], [*(y[20:] for y in labels[:2]), labels[2]])
    assert tuned_scores(parts, blank) == pytest.approx(due)


def test_an_encoder_is_judged_beside_a_regression_on_the_same_features(judged):
    """The age's effect has a hump, which no line through places finds."""
    clicked = judged.tasks["clicked"]
    assert set(clicked) == {"head", "probe", "hashed"}
    assert clicked["head"] > 0.68  # who knows the truth reaches 0.75
    assert clicked["probe"] > 0.66
    assert clicked["head"] > clicked["hashed"] + 0.01
    assert set(judged.tasks) == {"clicked", "purchased"}  # too few left to judge that by


def test_what_was_hidden_comes_back_and_the_next_event_is_foreseen(judged):
    assert judged.tokens > 0.7
    assert judged.numbers > -0.1  # the world's numbers do not tell of each other
    assert judged.next_event["foreseen"] > judged.next_event["most common"] + 0.2


def test_who_is_not_known_is_judged_by_the_action_alone(judged):
    assert 0.4 < judged.cold < judged.tasks["clicked"]["head"] - 0.05


def test_metrics_are_finite_numbers_by_name(judged):
    metrics = judged.metrics()
    assert metrics["auc clicked head"] == judged.tasks["clicked"]["head"]
    assert {"auc hidden tokens", "r2 hidden numbers", "auc clicked cold"} <= set(metrics)
    assert all(np.isfinite(value) for value in metrics.values())
    unknown = dataclasses.replace(judged, tokens=float("nan"))
    assert "auc hidden tokens" not in unknown.metrics()


def test_each_part_is_left_out_once_and_compared_with_the_full_model(split):
    full = train(split.train, split.valid, QUICK)
    told = []
    found = ablations(split, full, told.append)
    assert list(found) == [FULL, *told]
    assert told == ["without auto-encoder", "without multi-task", "without hashing (vocabulary)"]
    assert set(found[FULL]) == {f"{t} {j}" for t in ("clicked", "purchased") for j in JUDGES}
    assert set(found["without multi-task"]) == set(found[FULL]) - {"purchased head"}
    assert found[FULL]["clicked head"] == evaluate(full, split).tasks["clicked"]["head"]
    assert len({aucs["clicked head"] for aucs in found.values()}) == 4  # each is another model


JUDGES = ("head", "probe")


def test_what_is_left_out_is_not_trained(split):
    losses = {
        name: set(train(split.train, split.valid, config).history[0])
        for name, config in {
            "all": QUICK,
            "no reconstruction": dataclasses.replace(QUICK, reconstruct=False),
            "one task": dataclasses.replace(QUICK, multi_task=False),
        }.items()
    }
    reconstruction = {f"{part} {n}" for part in ("train", "valid") for n in ("tokens", "numbers")}
    assert losses["all"] - losses["no reconstruction"] == reconstruction
    tasks = {n.partition(" ")[2] for n in losses["all"] - losses["one task"]}
    assert tasks == {"purchased", "unsubscribed", "next_event"}


def test_a_vocabulary_has_one_index_for_each_feature_and_none_for_what_is_new(split):
    from encoder.profile.evaluate import _vocabulary

    rows, config = _vocabulary(split, QUICK)
    before, after = split.train.features.tokens, rows.train.features.tokens
    pairs = set(zip(before.ids.tolist(), after.ids.tolist(), strict=True))
    assert len(pairs) == len(set(before.ids.tolist())) == len(set(after.ids.tolist()))
    assert 1 << config.bits > int(after.ids.max())
    assert np.array_equal(before.values, after.values)
    stranger = dataclasses.replace(
        split.test,
        features=dataclasses.replace(
            split.test.features,
            tokens=dataclasses.replace(
                split.test.features.tokens, ids=split.test.features.tokens.ids ^ np.uint32(1 << 31)
            ),
        ),
    )
    new = _vocabulary(dataclasses.replace(split, test=stranger), QUICK)[0].test
    assert not new.features.tokens.values.any()


def test_a_gpu_is_taken_where_there_is_one_and_asked_for_in_words_where_not(monkeypatch):
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: 2)
    assert [choose_device(d) for d in ("auto", "cpu", "cuda", "cuda:1")] == [
        "cuda",
        "cpu",
        "cuda",
        "cuda:1",
    ]
    with pytest.raises(EncoderError, match="cuda:2 is not there, torch finds 2"):
        choose_device("cuda:2")
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: 0)
    assert choose_device("auto") == "cpu"
    with pytest.raises(EncoderError, match="--device auto"):
        choose_device("cuda")


@pytest.mark.parametrize("asked", ["", "gpu", "cpu:1", "cuda:x", "mps"])
def test_a_device_that_is_none_is_refused(asked):
    with pytest.raises(EncoderError, match="must be auto, cpu, cuda"):
        choose_device(asked)


def test_a_run_is_on_the_device_that_it_was_told(split, monkeypatch):
    """Everything that training makes is moved there: ``meta`` holds shapes and no numbers."""
    with pytest.raises(NotImplementedError, match="meta"):
        train(split.train, split.valid, QUICK, device="meta")
