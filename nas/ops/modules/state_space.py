"""State space models over tokens (N, L, C): S4 (Gu et al. 2022) and Mamba (Gu and Dao 2023)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def hippo_legs(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """HiPPO-LegS as normal plus rank one: A = V (diag(eigenvalues) - p p*) V*, with b the input in the same basis.

    Of each conjugate pair only one is returned: three complex vectors of size / 2.
    """
    n = torch.arange(size, dtype=torch.float64)
    b = (2 * n + 1).sqrt()
    p = (n + 0.5).sqrt()
    skew = (b[:, None] * b[None]) / 2
    skew = skew.triu(1) - skew.tril(-1)
    imaginary, basis = torch.linalg.eigh(skew * -1j)
    eigenvalues = torch.complex(torch.full_like(imaginary, -0.5), imaginary)
    to_basis = basis.conj().t()[size // 2 :]
    return eigenvalues[size // 2 :], to_basis @ p.to(basis.dtype), to_basis @ b.to(basis.dtype)


class S4(nn.Module):
    """Structured state space layer in convolution mode: one linear state space a feature, GELU, a gated linear layer.

    Each has the state matrix diag(eigenvalues) - p p* (conjugate pairs, ``state_size`` in all), discretised by the bilinear
    rule. Its impulse response over the L tokens is found from its transfer function at the L roots of unity, and convolved
    with the input by FFT. ``c`` is the output vector times (I - A^L), as in the paper.
    """

    def __init__(self, in_channels: int, state_size: int = 16) -> None:
        super().__init__()
        eigenvalues, p, b = hippo_legs(state_size)

        def every_channel(vector: Tensor) -> nn.Parameter:
            return nn.Parameter(torch.view_as_real(vector.to(torch.complex64)).repeat(in_channels, 1, 1))

        self.log_decay = nn.Parameter(torch.log(-eigenvalues.real).float().repeat(in_channels, 1))
        self.frequency = nn.Parameter(eigenvalues.imag.float().repeat(in_channels, 1))
        self.p, self.b = every_channel(p), every_channel(b)
        self.c = nn.Parameter(torch.randn(in_channels, state_size // 2, 2) * 0.5**0.5)
        self.log_step = nn.Parameter(torch.empty(in_channels).uniform_(math.log(1e-3), math.log(1e-1)))
        self.skip = nn.Parameter(torch.randn(in_channels))
        self.gate = nn.Linear(in_channels, 2 * in_channels)

    def kernel(self, length: int) -> Tensor:
        """The impulse response of every feature: (C, length)."""
        half = torch.complex(-self.log_decay.exp(), self.frequency)
        eigenvalues, p, b, c = (
            torch.cat([v, v.conj()], dim=1)[:, :, None]
            for v in (half, torch.view_as_complex(self.p), torch.view_as_complex(self.b), torch.view_as_complex(self.c))
        )
        angle = torch.arange(length // 2 + 1, device=p.device, dtype=self.skip.dtype) * (-2 * math.pi / length)
        z = torch.polar(torch.ones_like(angle), angle)
        step = self.log_step.exp()[:, None, None]
        resolvent = 1 / (2 * (1 - z) / step - (1 + z) * eigenvalues)
        cb, cp, pb, pp = (
            (left * right * resolvent).sum(1) for left, right in ((c, b), (c, p), (p.conj(), b), (p.conj(), p))
        )
        response = 2 * (cb - (1 + z) * cp * pb / (1 + (1 + z) * pp))
        return torch.fft.irfft(response, n=length)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        u = x.transpose(1, 2).to(self.skip.dtype)
        spectrum = torch.fft.rfft(u, n=2 * length) * torch.fft.rfft(self.kernel(length), n=2 * length)
        y = torch.fft.irfft(spectrum, n=2 * length)[..., :length] + u * self.skip[:, None]
        return F.glu(self.gate(F.gelu(y.transpose(1, 2))), dim=-1)


def scan(decay: Tensor, inputs: Tensor) -> Tensor:
    """All states h_t = decay_t h_(t-1) + inputs_t along axis 1, from h = 0, in log2(L) doubling steps."""
    offset = 1
    while offset < inputs.shape[1]:
        inputs = torch.cat([inputs[:, :offset], inputs[:, offset:] + decay[:, offset:] * inputs[:, :-offset]], dim=1)
        decay = torch.cat([decay[:, :offset], decay[:, offset:] * decay[:, :-offset]], dim=1)
        offset *= 2
    return inputs


class Mamba(nn.Module):
    """Selective state space layer: the step and the input and output vectors of the recurrence depend on the token.

    Linear to twice the inner width; one half passes a causal depthwise convolution, SiLU and the selective scan, the other
    gates it; linear back.
    """

    def __init__(self, in_channels: int, state_size: int = 16, expansion: int = 2, kernel_size: int = 4) -> None:
        super().__init__()
        inner, rank = expansion * in_channels, math.ceil(in_channels / 16)
        self.sizes = [rank, state_size, state_size]
        self.padding = kernel_size - 1
        self.enter = nn.Linear(in_channels, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, kernel_size, groups=inner)
        self.select = nn.Linear(inner, rank + 2 * state_size, bias=False)
        self.step = nn.Linear(rank, inner)
        self.log_decay = nn.Parameter(torch.arange(1.0, state_size + 1).log().repeat(inner, 1))
        self.skip = nn.Parameter(torch.ones(inner))
        self.leave = nn.Linear(inner, in_channels, bias=False)
        self.init_step()

    def init_step(self) -> None:
        """Steps start between 0.001 and 0.1, evenly in their logarithm."""
        nn.init.uniform_(self.step.weight, -(self.sizes[0] ** -0.5), self.sizes[0] ** -0.5)
        with torch.no_grad():
            step = torch.empty_like(self.step.bias).uniform_(math.log(1e-3), math.log(1e-1)).exp()
            self.step.bias.copy_(step + torch.log(-torch.expm1(-step)))

    def recur(self, x: Tensor) -> Tensor:
        """The selective scan over (N, L, inner)."""
        rank_step, b, c = torch.split(self.select(x), self.sizes, dim=-1)
        step = F.softplus(self.step(rank_step))[..., None]
        decay = torch.exp(-step * self.log_decay.exp())
        states = scan(decay, step * b[:, :, None] * x[..., None])
        return (states * c[:, :, None]).sum(-1) + x * self.skip

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.enter(x).chunk(2, dim=-1)
        x = self.conv(F.pad(x.transpose(1, 2), (self.padding, 0))).transpose(1, 2)
        return self.leave(self.recur(F.silu(x)) * F.silu(gate))
