"""The loss where clips have several classes: which texts fit which clips is then not the same both ways."""

import numpy as np
import torch

from action_clip.training.finetune.loss import contrastive_loss, label_matrix

LABELS = torch.tensor([[True, True, False], [False, True, False], [False, True, True]])
CHOSEN = torch.tensor([0, 1, 2])


def test_a_text_fits_every_clip_that_has_its_class() -> None:
    assert label_matrix(LABELS, CHOSEN).tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 1]]
    assert label_matrix(LABELS, torch.tensor([1, 1, 2])).tolist() == [[1, 1, 0], [1, 1, 0], [1, 1, 1]]


def softmax(rows: np.ndarray) -> np.ndarray:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def test_both_directions_are_compared_with_the_matrix_as_it_is_from_there() -> None:
    random = np.random.default_rng(0)
    videos, texts = random.normal(size=(3, 5)), 7 * random.normal(size=(3, 5))
    matrix = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1]])
    lengths = [np.linalg.norm(features, axis=1, keepdims=True) for features in (videos, texts)]
    similarities = 6.5 * (videos / lengths[0]) @ (texts / lengths[1]).T

    def divergence(rows: np.ndarray, fits: np.ndarray) -> float:
        target = softmax(10.0 * fits)
        return float((target * (np.log(target) - np.log(softmax(rows)))).sum() / len(rows))

    expected = (divergence(similarities, matrix) + divergence(similarities.T, matrix.T)) / 2
    found = contrastive_loss(
        torch.from_numpy(videos), torch.from_numpy(texts), torch.tensor(6.5), label_matrix(LABELS, CHOSEN)
    )
    assert abs(found.item() - expected) < 1e-6
    assert abs(divergence(similarities.T, matrix) - divergence(similarities.T, matrix.T)) > 0.1


def test_in_half_precision_the_sums_are_in_single() -> None:
    random = torch.Generator().manual_seed(0)
    videos, texts = (torch.randn(8, 16, generator=random).bfloat16() for _ in range(2))
    matrix = torch.eye(8)
    found = contrastive_loss(videos, texts, torch.tensor(100.0), matrix)
    assert found.dtype == torch.float32
    assert torch.equal(found, contrastive_loss(videos.float(), texts.float(), torch.tensor(100.0), matrix))
