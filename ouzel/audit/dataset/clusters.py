"""Clusters of like saliency maps: SpRAy, spectral relevance analysis.

A cluster nominates a region and decides nothing: `cluster_tests` moves the region.

References:
    Lapuschkin et al. 2019, "Unmasking Clever Hans predictors and assessing what machines really learn", Nature
    Communications 10, 1096, arXiv 1902.10178.
    von Luxburg 2007, "A tutorial on spectral clustering", Statistics and Computing 17, arXiv 0711.0189: the eigengap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MOST = 8  # clusters of a class
FEWEST = 12  # maps of a class that are worth clustering
LARGEST = 500  # maps of a class that are clustered: the work grows with the cube
_WEAK = 1e-6  # affinity between any two maps: eigenvectors of a graph in pieces are not unique
_MARKED = 0.5  # of the greatest difference: what a cluster's mean map must exceed the others' by
_WIDEST = 0.125  # share of the picture that may be marked, before the rim


@dataclass(frozen=True, eq=False)
class Alike:
    """Maps that are alike.

    Attributes:
        members: Indices of the maps, the nearest to their mean first.
        mean: (16, 16) float32: mean of the maps.
    """

    members: tuple[int, ...]
    mean: np.ndarray


def alike(maps: np.ndarray, seed: int) -> tuple[Alike, ...]:
    """Spectral clusters of maps; their number is where the eigenvalues of the graph's Laplacian have their first gap.

    The affinity falls with the distance of two maps, in units of the usual distance to the nearest log(N) maps.

    Args:
        maps: (N, 16, 16), each with a sum of 1; N is 2 or more.
        seed: Of the eigenvectors' solver.

    Returns:
        1 to 8 clusters, the largest first.
    """
    from sklearn.cluster import SpectralClustering

    points = maps.reshape(len(maps), -1).astype(np.float64)
    affinity = _affinity(points)
    count = _clusters(affinity)
    numbers = np.zeros(len(points), dtype=int)
    if count > 1:
        clustering = SpectralClustering(
            count, affinity="precomputed", assign_labels="cluster_qr", random_state=np.random.RandomState(seed)
        )
        numbers = clustering.fit_predict(affinity)
    made = []
    for number in range(count):
        members = np.flatnonzero(numbers == number)
        if len(members):
            mean = points[members].mean(0)
            order = np.linalg.norm(points[members] - mean, axis=1).argsort(kind="stable")
            made.append(Alike(tuple(members[order].tolist()), mean.reshape(maps.shape[1:]).astype(np.float32)))
    return tuple(sorted(made, key=lambda each: (-len(each.members), each.members)))


def _affinity(points: np.ndarray) -> np.ndarray:
    squares = (points**2).sum(1)
    distances = np.maximum(squares[:, None] + squares[None] - 2 * points @ points.T, 0)
    near = min(len(points) - 1, max(3, math.ceil(math.log(len(points)))))
    scale = float(np.median(np.sort(distances, axis=1)[:, near]))
    similar = np.exp(-distances / (2 * scale)) if scale > 0 else (distances == 0).astype(np.float64)
    return similar + _WEAK


def _clusters(affinity: np.ndarray) -> int:
    """How many clusters the largest eigengap suggests."""
    from scipy.sparse.csgraph import laplacian

    most = min(MOST, len(affinity) - 1)
    values = np.linalg.eigvalsh(laplacian(affinity, normed=True))[: most + 1]
    return int(np.diff(values).argmax()) + 1


def marked(mean: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The region that a cluster's mean map marks beyond that of other images.

    Args:
        mean: (16, 16): of the cluster.
        others: (16, 16): of the images that it is compared with.

    Returns:
        (16, 16) of bool: at most an eighth of the places, and a rim of one place, as maps are coarse.
    """
    from scipy import ndimage

    beyond = mean.astype(np.float64) - others
    order = np.argsort(-beyond, axis=None, kind="stable")[: int(_WIDEST * beyond.size)]
    region = np.zeros(beyond.size, dtype=bool)
    region[order[beyond.ravel()[order] >= _MARKED * beyond.max()]] = True
    region[order[0]] = True
    return np.asarray(ndimage.binary_dilation(region.reshape(beyond.shape), np.ones((3, 3))))
