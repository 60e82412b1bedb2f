"""Heads trained as one: what they know at the start, and that each taken out answers as before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from classkinfy_export.training import heads

GRADED, FEATURES, WIDTH, IMAGES = 3, 5, 40, 200


@pytest.fixture
def seen() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    few = rng.normal(size=(IMAGES, 4)) * (9, 5, 3, 2)
    embeddings = 2 + few @ rng.normal(size=(4, WIDTH)) + rng.normal(size=(IMAGES, WIDTH)) * 0.01
    features = rng.normal(size=(IMAGES, FEATURES)) * 30 - 7
    features[:, 4] = 12  # the same in every image
    return embeddings.astype(np.float32), features.astype(np.float32)


def test_what_a_head_starts_from_is_centred_and_of_unit_deviation(
    seen: tuple[np.ndarray, np.ndarray],
) -> None:
    embeddings, features = seen
    head = heads.start(embeddings, features, GRADED, outputs=3)
    centred = embeddings - embeddings.mean(axis=0)
    wanted = np.linalg.svd(centred, full_matrices=False)[2][:4]
    overlap = np.linalg.svd(head.axes[:4].numpy() @ wanted.T)[1]
    np.testing.assert_allclose(overlap, 1, atol=1e-4)
    known = np.concatenate((embeddings @ head.axes.numpy().T, features), axis=1)
    entered = (known - head.mean[:-GRADED].numpy()) * head.scale[:-GRADED].numpy()
    np.testing.assert_allclose(entered.mean(axis=0), 0, atol=2e-3)
    deviation = np.ones(len(entered[0]))
    deviation[-1] = 0
    np.testing.assert_allclose(entered.std(axis=0), deviation, atol=2e-3)
    assert head.mean[-GRADED:].tolist() == [0] * GRADED
    assert head.scale[-GRADED:].tolist() == [1] * GRADED


@pytest.mark.parametrize(("images", "components"), [(3, 1), (40, 4), (IMAGES, 16)])
def test_few_images_give_few_components(
    images: int, components: int, seen: tuple[np.ndarray, np.ndarray]
) -> None:
    embeddings, features = (part[:images] for part in seen)
    head = heads.start(embeddings, features, GRADED, outputs=3)
    assert head.axes.shape == (components, WIDTH)
    assert torch.isfinite(head.scale).all()


@pytest.mark.parametrize("diagnosis", range(GRADED))
def test_a_head_taken_out_answers_as_the_whole_does(
    diagnosis: int, seen: tuple[np.ndarray, np.ndarray]
) -> None:
    torch.manual_seed(diagnosis)
    embeddings, features = seen
    whole = heads.start(embeddings, features, GRADED, outputs=3).eval()
    which = np.eye(GRADED, dtype=np.float32)[np.full(IMAGES, diagnosis)]
    rows = [
        torch.from_numpy(np.concatenate(parts, axis=1))
        for parts in ((embeddings, features, which), (embeddings, features))
    ]
    own = heads.take(whole, diagnosis, GRADED)
    assert own.hidden.in_features == whole.hidden.in_features - GRADED
    with torch.no_grad():
        answers, expected = heads.OnRows(own)(rows[1]), heads.OnRows(whole)(rows[0])
        other = heads.OnRows(heads.take(whole, (diagnosis + 1) % GRADED, GRADED))(rows[1])
    torch.testing.assert_close(answers, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(other, expected, atol=1e-3), "the diagnosis counts"


def test_components_beyond_the_rank_of_the_embedding_are_left_out(
    seen: tuple[np.ndarray, np.ndarray],
) -> None:
    rng = np.random.default_rng(1)
    flat = (rng.normal(size=(IMAGES, 3)) @ rng.normal(size=(3, WIDTH))).astype(np.float32)
    head = heads.start(flat, seen[1], GRADED, outputs=3)
    assert head.axes.shape == (3, WIDTH)
    same = np.full((IMAGES, WIDTH), 0.7, np.float32)
    assert heads.start(same, seen[1], GRADED, outputs=3).axes.shape == (1, WIDTH)
