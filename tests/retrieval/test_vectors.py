"""Search by vectors beside cosines of numpy."""

import numpy as np
import torch

from seedbed.retrieval.vectors import VectorIndex


def test_the_nearest_are_those_of_the_highest_cosine() -> None:
    vectors = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    index = VectorIndex(vectors)
    for query in torch.randn(5, 8, generator=torch.Generator().manual_seed(1)) * 100:
        table, own = vectors.double().numpy(), query.double().numpy()
        cosines = table @ own / np.linalg.norm(table, axis=1) / np.linalg.norm(own)
        assert index.nearest(query, 7) == np.argsort(-cosines)[:7].tolist()


def test_ties_are_in_order_and_the_number_is_a_limit() -> None:
    index = VectorIndex(torch.tensor([[0.0, 1.0], [2.0, 0.0], [1.0, 0.0], [0.0, 0.0]], dtype=torch.bfloat16))
    query = torch.tensor([3.0, 0.0])
    assert index.nearest(query, 2) == [1, 2] and index.nearest(query, 9) == [1, 2, 0, 3]
    assert index.nearest(query, 0) == index.nearest(query, -1) == []
