"""The check that fake kernels share."""

from torch import Tensor


def check_devices(op: str, **tensors: Tensor | None) -> None:
    """Raise ValueError unless all of the ``tensors`` that are there are on the device of the first.

    One meta tensor among others is enough to come to a fake kernel, which would return memory that nobody wrote, and
    the kernels, which look at the devices too, would never see it.
    """
    (first, like), *others = ((name, tensor) for name, tensor in tensors.items() if tensor is not None)
    for name, tensor in others:
        if tensor.device != like.device:
            raise ValueError(f"{op}: {name} is on {tensor.device} but {first} on {like.device}.")
