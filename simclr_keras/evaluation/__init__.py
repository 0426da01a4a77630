"""Measures of a representation: nearest neighbours, linear classifiers."""

from simclr_keras.evaluation.average_precision import mean_average_precision
from simclr_keras.evaluation.distillation import distill
from simclr_keras.evaluation.features import extract_features
from simclr_keras.evaluation.fine_tuning import fine_tune
from simclr_keras.evaluation.image_classifier import ImageClassifier
from simclr_keras.evaluation.knn import knn_accuracy, knn_predict
from simclr_keras.evaluation.label_efficiency import label_efficiency
from simclr_keras.evaluation.label_free import (
    PairSimilarity,
    alignment,
    contrastive_accuracy,
    feature_std,
    pair_similarity,
    rank_me,
    uniformity,
)
from simclr_keras.evaluation.labelled_images import TrainedClassifier
from simclr_keras.evaluation.linear import (
    LinearResult,
    linear_evaluation,
    standardize,
)
from simclr_keras.evaluation.linear_on_images import (
    LinearOnImages,
    linear_evaluation_on_images,
)
from simclr_keras.evaluation.neighbours import Neighbours, nearest_neighbours
from simclr_keras.evaluation.subsets import class_balanced_subset

__all__ = [
    "ImageClassifier",
    "LinearOnImages",
    "LinearResult",
    "Neighbours",
    "PairSimilarity",
    "TrainedClassifier",
    "alignment",
    "class_balanced_subset",
    "contrastive_accuracy",
    "distill",
    "extract_features",
    "feature_std",
    "fine_tune",
    "knn_accuracy",
    "knn_predict",
    "label_efficiency",
    "linear_evaluation",
    "linear_evaluation_on_images",
    "mean_average_precision",
    "nearest_neighbours",
    "pair_similarity",
    "rank_me",
    "standardize",
    "uniformity",
]
