"""Logistic regression on the same hashed features: what an encoder has to beat."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import rankdata

from encoder.profile.data import TrainingData
from schemas.encoder_inputs import EncoderInputs

__all__ = ["auc", "crossed", "fit_logistic", "hashed_matrix", "tuned_scores"]

STRENGTHS = (1.0, 10.0, 100.0, 1000.0)  # of the penalty, chosen on the validation rows

Matrix = sparse.csr_array


def hashed_matrix(inputs: EncoderInputs, data: TrainingData) -> Matrix:
    """The model's inputs side by side: hashed tokens and events, places, what is known, and 1.

    Returns
    -------
    (n, 2**bits + 2 m + 1).
    """
    size = 1 << inputs.bits
    parts = []
    for lists in (data.features.tokens, data.features.events):
        columns = (lists.ids & np.uint32(size - 1)).astype(np.int64)
        parts.append(
            Matrix(
                (lists.values.astype(np.float64), columns, lists.starts), shape=(len(data), size)
            )
        )
    places, known = inputs.places(inputs.matrix(data.features.numbers))
    dense = np.hstack([places, known, np.ones((len(data), 1))]).astype(np.float64)
    return Matrix(sparse.hstack([parts[0] + parts[1], Matrix(dense)]))


def crossed(x: Matrix, actions: NDArray[np.int64], count: int) -> Matrix:
    """Each row as it is, and once more in the columns of its action: (n, d * (1 + count)).

    So that a coefficient is what all actions share, plus what one has of its own.
    """
    blocks = [x]
    for action in range(count):
        chosen = sparse.diags_array((actions == action).astype(np.float64))
        blocks.append(Matrix(chosen @ x))
    return Matrix(sparse.hstack(blocks))


def fit_logistic(x: Matrix, y: NDArray[np.floating], penalty: float) -> NDArray[np.float64]:
    """Coefficients that maximise the likelihood less ``penalty / 2 * |w|^2``, (d,)."""
    transposed = Matrix(x.T)

    def loss(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = x @ w
        value = np.logaddexp(0.0, logits).sum() - (y * logits).sum() + penalty / 2.0 * (w @ w)
        return float(value), transposed @ (expit(logits) - y) + penalty * w

    found = minimize(
        loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 200}
    )
    coefficients: NDArray[np.float64] = found.x
    return coefficients


def tuned_scores(
    parts: Sequence[Matrix], labels: Sequence[NDArray[np.floating]]
) -> NDArray[np.float64]:
    """Logits of the third part, by the penalty that does best on the second; nan labels left out.

    Parameters
    ----------
    parts, labels
        Of the training, validation and test rows.
    """
    known = [~np.isnan(y) for y in labels]
    train, valid = ((parts[i][known[i]], labels[i][known[i]]) for i in (0, 1))
    fitted = [fit_logistic(*train, penalty) for penalty in STRENGTHS]
    best = max(fitted, key=lambda w: np.nan_to_num(auc(valid[0] @ w, valid[1])))
    scores: NDArray[np.float64] = parts[2] @ best
    return scores


def auc(scores: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Area under the ROC curve: how often a 1 is scored above a 0; nan where one is missing."""
    ones = int((y == 1).sum())
    zeros = int((y == 0).sum())
    if not ones or not zeros:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[y == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros))
