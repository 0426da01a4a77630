"""Measures of a representation: nearest neighbours, linear classifiers."""

from simclr_keras.evaluation.features import extract_features
from simclr_keras.evaluation.knn import knn_accuracy, knn_predict
from simclr_keras.evaluation.label_efficiency import label_efficiency
from simclr_keras.evaluation.linear import (
    LinearResult,
    linear_evaluation,
    standardize,
)
from simclr_keras.evaluation.subsets import class_balanced_subset

__all__ = [
    "LinearResult",
    "class_balanced_subset",
    "extract_features",
    "knn_accuracy",
    "knn_predict",
    "label_efficiency",
    "linear_evaluation",
    "standardize",
]
