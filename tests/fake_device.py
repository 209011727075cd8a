"""A second device for machines without one: it computes like the CPU, and refuses what CUDA refuses.

Tensors on it call themselves ``meta``, the one other device that every PyTorch has, and carry their values in a tensor
on the CPU. An operation that mixes them with tensors of the CPU fails as on a GPU, and so does reading them by NumPy.
"""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "meta"


class _Away(torch.Tensor):
    """A tensor on the device; ``inner`` holds its values."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=NAME, requires_grad=inner.requires_grad
        )

    def __init__(self, inner: torch.Tensor):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class FakeDevice(TorchDispatchMode):
    """Within this block there is a device called :data:`NAME`."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func, args, kwargs):
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    away = [x for x in tensors if isinstance(x, _Away)]
    here = [x for x in tensors if not isinstance(x, _Away)]
    copies = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
    if away and not copies and any(x.dim() for x in here):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found {NAME} and cpu")
    wanted = kwargs.get("device")
    if wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
        goes_away = torch.device(wanted).type == NAME
    elif func is torch.ops.aten.copy_.default:
        goes_away = isinstance(args[0], _Away)
    else:
        goes_away = bool(away)
    inner_args, inner_kwargs = tree_map(lambda x: x.inner if isinstance(x, _Away) else x, (args, kwargs))
    if func is torch.ops.aten._to_copy.default and goes_away != bool(away):
        found = func(*inner_args, **inner_kwargs).clone()
    else:
        found = func(*inner_args, **inner_kwargs)
    if func is torch.ops.aten.copy_.default or func._schema.name.endswith("_"):
        return args[0]
    return tree_map(lambda x: _Away(x) if goes_away and isinstance(x, torch.Tensor) else x, found)
