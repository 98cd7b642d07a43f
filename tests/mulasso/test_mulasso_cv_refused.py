"""What the mu-lasso by cross-validation refuses, and scikit-learn's conventions that it keeps."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from helpers.planted import MUS, labelled
from sklearn.model_selection import PredefinedSplit
from sklearn.utils.estimator_checks import parametrize_with_checks

from interpnet.errors import DataError, InterpNetError
from interpnet.gram import Gram
from interpnet.mulasso import MuLassoCV

EXCEPTIONS = {
    "check_classifiers_classes": "decision_function is (N, 2) for two classes, not (N,): one column a class",
    "check_classifiers_train": "decision_function is (N, 2) for two classes, not (N,): one column a class",
    "check_class_weight_classifiers": "no intercept: the heaviest class cannot take all of centred random blobs",
    "check_supervised_y_2d": "a matrix y is a matrix of targets, also with one column, never labels",
}


@parametrize_with_checks([MuLassoCV()], expected_failed_checks=lambda _: EXCEPTIONS)
def test_scikit_learn_conventions(estimator, check) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite feeds deliberately odd data
        check(estimator)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rule": "min"}, "rule is 'min'; expected 'accuracy' or 'one_se' or 'best'"),
        ({"rule": "accuracy", "per_class": True}, "rule is 'accuracy', which needs accuracy=True and per_class=False"),
        ({"rule": "accuracy", "accuracy": False}, "rule is 'accuracy', which needs accuracy=True and per_class=False"),
        ({"most_channels": 0}, "most_channels is 0; expected a number above 0"),
        ({"most_channels": True}, "most_channels is True; expected a number above 0"),
        ({"per_class": "yes"}, "per_class is 'yes'"),
        ({"accuracy": 1}, "accuracy is 1"),
        ({"mus": 3.0}, "mus is 3.0; expected a vector of numbers"),
        ({"mus": []}, "mus is"),
        ({"mus": [0.0, 1.0]}, r"mus is or holds 0\.0; .* above 0"),
        ({"mus": [1.0, np.nan]}, "mus is or holds nan"),
        ({"tol": -1.0}, "tol is"),
        ({"positive": None}, "positive is None"),
        ({"class_weight": 3}, "class_weight is 3"),
        ({"n_jobs": 0}, "n_jobs is 0"),
    ],
)
def test_parameters_that_are_refused(parameters, message) -> None:
    with pytest.raises(InterpNetError, match=message):
        MuLassoCV(**parameters).fit(*labelled())


def test_data_that_is_refused() -> None:
    X, labels = labelled()
    bad = X.copy()
    bad[200, 3] = np.nan
    with pytest.raises(DataError, match="X contains NaN at row 200, column 3"):
        MuLassoCV(MUS).fit(bad, labels)
    with pytest.raises(DataError, match="one class only"):
        MuLassoCV(MUS).fit(X, np.zeros(240))
    with pytest.raises(DataError, match="every image of fold 1 has weight zero"):
        MuLassoCV(MUS, cv=PredefinedSplit(np.arange(240) % 2)).fit(X, labels, np.arange(240) % 2 == 0)
    gram = Gram.from_scores(X, labels)
    with pytest.raises(InterpNetError, match="grams holds 1 Grams; expected one per fold, at least two"):
        MuLassoCV(MUS).fit_grams([gram])
    with pytest.raises(InterpNetError, match="gram is a int"):
        MuLassoCV(MUS).fit_grams([gram, 3])
    with pytest.raises(InterpNetError, match="cannot add Grams"):
        MuLassoCV(MUS).fit_grams([gram, Gram.from_scores(X, np.ones((240, 1)))])
    with pytest.raises(InterpNetError, match="class_weight is set, but Grams have no images left"):
        MuLassoCV(MUS, class_weight="balanced").fit_grams([gram, gram])
    with pytest.raises(InterpNetError, match=r"classes have shape \(1,\); expected \(3,\)"):
        MuLassoCV(MUS).fit_grams([gram, gram], classes=["a"])
