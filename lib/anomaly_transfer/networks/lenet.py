"""The small network of the literature on one-class learning, for training from scratch."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from anomaly_transfer.networks.backbones import Backbone, with_network

CHANNELS, CODE = (32, 64, 128), 128
#: Side of the pictures that it is made for: three halvings leave 4 x 4.
SIDE = 32


class LeNet(nn.Module):
    """Three convolutions, each with batch norm, leaky ReLU and pooling, and a linear code.

    After the network that Deep SVDD (Ruff et al., 2018) uses on CIFAR-10. Without bias there is no parameter that makes
    the output the same for all images; with it, there is one.

    Parameters
    ----------
    bias : bool
        Whether layers have a bias.
    """

    def __init__(self, bias: bool = False):
        super().__init__()
        widths = (3, *CHANNELS)
        for number, (before, after) in enumerate(itertools.pairwise(widths), 1):
            block = nn.Sequential(
                nn.Conv2d(before, after, 5, padding=2, bias=bias),
                nn.BatchNorm2d(after, affine=bias),
                nn.LeakyReLU(0.1),
                nn.MaxPool2d(2),
            )
            self.add_module(f"conv{number}", block)
        self.code = nn.Conv2d(CHANNELS[-1], CODE, SIDE // 8, bias=bias)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Maps of all levels, for pictures of shape (n, 3, side, side) with side at least :data:`SIDE`."""
        maps = []
        for block in self.children():
            x = block(x)
            maps.append(x)
        return maps


def lenet(seed: int = 0, bias: bool = False) -> Backbone:
    """The network with random parameters, as a stack of levels.

    Parameters
    ----------
    seed : int
    bias : bool
        See :class:`LeNet`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = LeNet(bias)
    levels = tuple(name for name, _ in network.named_children())
    grey = (127.0, 127.0, 127.0)
    empty = Backbone("lenet", network, levels, SIDE, 1.0, grey, (64.0, 64.0, 64.0), "", "")
    return with_network(empty, network, f"random, seed {seed}")
