import numpy as np
import pytest
import torch
from tiny import tiny_model

from rlseq2seq.data.word_vectors import WordVectors
from rlseq2seq.errors import UserError
from stages.pretrain import start_from

SIZE = 9
VECTORS = WordVectors(np.array([4, 7]), np.arange(10, dtype=np.float32).reshape(2, 5))


@pytest.mark.parametrize("output_weights", ["tied", "projected", "separate"])
def test_the_embedding_starts_from_the_word_vectors(device: torch.device, output_weights: str) -> None:
    model = tiny_model(SIZE, output_weights=output_weights, dtype=torch.float32).to(device)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    start_from(VECTORS, model)
    for name, parameter in model.named_parameters():
        if name != "embedding.weight":
            assert torch.equal(parameter, before[name])
    others = [id_ for id_ in range(SIZE) if id_ not in (4, 7)]
    assert torch.equal(model.embedding.weight[others], before["embedding.weight"][others])
    assert model.embedding.weight[[4, 7]].tolist() == VECTORS.vectors.tolist()
    # They are trained like any others.
    model.embed(torch.tensor([4], device=device)).sum().backward()
    assert model.embedding.weight.grad is not None and model.embedding.weight.grad[4].ne(0).all()


def test_vectors_of_another_size_are_told_with_both_keys() -> None:
    model = tiny_model(SIZE, embedding_size=6)
    with pytest.raises(UserError, match=r"^model\.embedding_size is 6: must be 5, .* tokenization\.word_vectors"):
        start_from(VECTORS, model)
