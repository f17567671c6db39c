"""A Transformer with random weights for CTranslate2, of about the size of the benchmarked LSTM."""

import tempfile
from collections.abc import Callable

import ctranslate2
import numpy as np
import torch
from ctranslate2.specs import TransformerSpec
from numpy.typing import NDArray

LAYERS, HEADS, SIZE, INNER = 2, 8, 512, 2048
_SPECIAL = ["<unk>", "<s>", "</s>"]


def translator(vocabulary: int) -> ctranslate2.Translator:
    """In float32, on as many threads as PyTorch has."""
    spec = TransformerSpec.from_config((LAYERS, LAYERS), HEADS)
    draw = np.random.default_rng(0)

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return (draw.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    shapes = {"self_attention/linear_0": (3 * SIZE, SIZE), "self_attention/linear_1": (SIZE, SIZE)}
    shapes |= {"attention/linear_0": (SIZE, SIZE), "attention/linear_1": (2 * SIZE, SIZE)}
    shapes |= {"attention/linear_2": (SIZE, SIZE), "ffn/linear_0": (INNER, SIZE), "ffn/linear_1": (SIZE, INNER)}
    shapes |= {"embeddings_0": (vocabulary, SIZE), "embeddings": (vocabulary, SIZE), "projection": (vocabulary, SIZE)}
    for name, value in spec.variables().items():
        if value is not None:
            continue
        owner = spec
        *path, attribute = name.split("/")
        for part in path:
            head, _, index = part.rpartition("_")
            owner = getattr(owner, part) if hasattr(owner, part) else getattr(owner, head)[int(index)]
        if attribute in ("gamma", "beta"):
            setattr(owner, attribute, np.full(SIZE, float(attribute == "gamma"), np.float32))
        else:
            shape = next(shape for end, shape in shapes.items() if "/".join(path).endswith(end))
            setattr(owner, attribute, matrix(*shape))
    words = _SPECIAL + [f"w{i}" for i in range(len(_SPECIAL), vocabulary)]
    spec.register_source_vocabulary(words)
    spec.register_target_vocabulary(words)
    spec.validate()
    with tempfile.TemporaryDirectory() as folder:
        spec.save(folder)
        return ctranslate2.Translator(folder, intra_threads=torch.get_num_threads(), compute_type="float32")


def beam_search(sources: list[list[int]], vocabulary: int, beam: int, steps: int) -> Callable[[], object]:
    """All documents at once, every hypothesis of exactly ``steps`` tokens."""
    model = translator(vocabulary)
    texts = [[f"w{i}" for i in row] for row in sources]
    return lambda: model.translate_batch(
        texts, beam_size=beam, max_decoding_length=steps, min_decoding_length=steps, max_batch_size=len(texts)
    )
