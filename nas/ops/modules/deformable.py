"""Deformable convolution in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DeformableConv(nn.Module):
    """Convolution, batch norm, ReLU whose sampling points a sibling convolution shifts (Dai et al. 2017).

    The sibling predicts a (dy, dx) in pixels for each of the k*k taps at every output position. Its weights start at
    zero, so that the operation starts as an ordinary convolution. Samples outside of the map are zeros.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        padding = (kernel_size - 1) // 2
        self.offset = nn.Conv2d(in_channels, 2 * kernel_size**2, kernel_size, stride, padding)
        for parameter in self.offset.parameters():
            nn.init.zeros_(parameter)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=kernel_size, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(self.sample(x, self.offset(x)))))

    def sample(self, x: Tensor, offset: Tensor) -> Tensor:
        """A map k times as large in each direction: every output position's k*k samples as one tile."""
        n, _, height, width = x.shape
        k, (out_height, out_width) = self.kernel_size, offset.shape[2:]
        shift = offset.view(n, k, k, 2, out_height, out_width).permute(0, 4, 1, 5, 2, 3)  # n, row, k, column, k, 2
        taps = torch.arange(k, device=x.device) - (k - 1) // 2
        rows = torch.arange(out_height, device=x.device) * self.stride
        columns = torch.arange(out_width, device=x.device) * self.stride
        ys = (rows[:, None] + taps)[:, :, None, None] + shift[..., 0]
        xs = (columns[:, None] + taps)[None, None] + shift[..., 1]
        grid = torch.stack([(2 * xs + 1) / width - 1, (2 * ys + 1) / height - 1], dim=-1)
        grid = grid.reshape(n, out_height * k, out_width * k, 2).to(x.dtype)
        return F.grid_sample(x, grid, align_corners=False)
