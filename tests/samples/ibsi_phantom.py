"""The digital phantom of IBSI: 4 slices of 4 x 5 voxels of 2 mm; 0 is outside of its region of 74 voxels.

Source: the reference manual of IBSI (arXiv 1612.07003), 5.1, and the values that it states there.
"""

from __future__ import annotations

import numpy as np

SPACING = (2.0, 2.0, 2.0)
VALUES = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [0, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ]
)
SHAPE = {
    "volume_mesh": 556,
    "volume_voxels": 592,
    "surface_area": 388,
    "surface_to_volume": 0.698,
    "compactness_1": 0.0411,
    "compactness_2": 0.599,
    "spherical_disproportion": 1.19,
    "sphericity": 0.843,
    "asphericity": 0.186,
    "maximum_diameter": 13.1,
    "major_axis_length": 11.4,
    "minor_axis_length": 9.31,
    "least_axis_length": 8.54,
    "elongation": 0.816,
    "flatness": 0.749,
    "volume_density_convex_hull": 0.961,
}
FIRST_ORDER = {
    "mean": 2.15,
    "variance": 3.05,
    "skewness": 1.08,
    "kurtosis": -0.355,
    "median": 1,
    "minimum": 1,
    "p10": 1,
    "p90": 4,
    "maximum": 6,
    "interquartile_range": 3,
    "range": 5,
    "mean_absolute_deviation": 1.55,
    "robust_mean_absolute_deviation": 1.11,
    "median_absolute_deviation": 1.15,
    "coefficient_of_variation": 0.812,
    "quartile_coefficient_of_dispersion": 0.6,
    "energy": 567,
    "root_mean_square": 2.77,
    "entropy": 1.27,
    "uniformity": 0.512,
}
GLCM = {
    "joint_maximum": 0.509,
    "joint_average": 2.15,
    "joint_variance": 3.13,
    "joint_entropy": 2.57,
    "difference_average": 1.38,
    "difference_variance": 3.21,
    "difference_entropy": 1.64,
    "sum_average": 4.3,
    "sum_variance": 7.41,
    "sum_entropy": 2.11,
    "angular_second_moment": 0.291,
    "contrast": 5.12,
    "dissimilarity": 1.38,
    "inverse_difference": 0.688,
    "normalised_inverse_difference": 0.856,
    "inverse_difference_moment": 0.631,
    "normalised_inverse_difference_moment": 0.902,
    "inverse_variance": 0.0574,
    "correlation": 0.183,
    "autocorrelation": 5.19,
    "cluster_tendency": 7.41,
    "cluster_shade": 17.4,
    "cluster_prominence": 147,
    "information_correlation_1": -0.0288,
    "information_correlation_2": 0.269,
}
