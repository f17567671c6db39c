"""Arguments of copy_attention for tests, what comes out of them, and how near it has to be."""

from collections.abc import Callable

import torch
from torch import Tensor

from rlseq2seq.ops import Attended

KINDS = ["additive", "coverage", "bilinear"]
NAMES = ["query", "keys", "values", "score_weight", "coverage", "coverage_weight", "past"]
# Relative to the largest number of a tensor: sums of some hundred rounded numbers.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-11, torch.bfloat16: 3e-2}
Case = dict[str, Tensor | None]


def attention_case(
    seed: int,
    rows: int = 3,
    width: int = 5,
    scale: float = 1.0,
    *,
    shared: int = 1,
    sizes: tuple[int, int] = (4, 2),
    kind: str = "coverage",
    temporal: bool = False,
) -> Case:
    """Arguments of copy_attention in float64; the last source is nothing but padding, and padding holds numbers."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)

    sources, (score_size, value_size) = rows // shared, sizes
    lengths = torch.randint(1, width + 1, (sources,), generator=generator) if width else torch.zeros(sources)
    lengths[-1:] = 0
    past = normal(rows, width)
    past[torch.rand(rows, width, generator=generator) < 0.3] = -torch.inf
    return {
        "query": normal(rows, score_size),
        "keys": normal(sources, width, score_size),
        "values": normal(sources, width, value_size),
        "mask": torch.arange(width) < lengths[:, None],
        "score_weight": None if kind == "bilinear" else normal(score_size),
        "coverage": normal(rows, width).abs() if kind == "coverage" else None,
        "coverage_weight": normal(score_size) if kind == "coverage" else None,
        "past": past if temporal else None,
    }


def moved(case: Case, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """``case`` without what it lacks. What is kept a position is float32 beside bfloat16, as the operator asks."""
    kept = torch.float32 if dtype == torch.bfloat16 else dtype
    types = {"mask": torch.bool, "coverage": kept, "past": kept}
    return {k: v.to(device, types.get(k, dtype)) for k, v in case.items() if v is not None}


def differentiable(case: dict[str, Tensor]) -> list[str]:
    return [name for name in NAMES if name in case]


def called(operator: Callable[..., Attended], case: dict[str, Tensor]) -> Attended:
    return operator(**{"score_weight": None, **case})


def results_and_gradients(operator: Callable[..., Attended], case: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the operator returns, and gradients of a sum of it with weights that differ."""
    leaves = {name: case[name].detach().requires_grad_() for name in differentiable(case)}
    attended = called(operator, {**case, **leaves})
    results = {k: v for k, v in zip(Attended._fields, attended, strict=True) if v is not None}
    total = torch.zeros((), dtype=torch.float64, device=case["query"].device)
    for result in results.values():
        weights = torch.linspace(-1, 2, max(result.numel(), 1), dtype=torch.float64).to(result.device)
        product = result.double().flatten() * weights[: result.numel()]
        total = total + torch.where(result.flatten() == -torch.inf, 0, product).sum()
    total.backward()
    gradients = {f"gradient of {name}": leaf.grad for name, leaf in leaves.items()}
    assert all(gradient is not None for gradient in gradients.values())
    return {**results, **gradients}


def assert_agree(found: dict[str, Tensor], expected: dict[str, Tensor], dtype: torch.dtype) -> None:
    assert found.keys() == expected.keys()
    for name, mine in found.items():
        theirs = expected[name]
        finite = theirs[theirs.isfinite()].abs()
        largest = finite.max().item() if finite.numel() else 0.0
        tolerance = TOLERANCE[dtype]
        torch.testing.assert_close(
            mine.cpu().double(),
            theirs.cpu().double(),
            rtol=tolerance,
            atol=tolerance * max(largest, 1.0),
            msg=lambda text, name=name: f"{name}: {text}",
        )
