"""S4 and Mamba against the recurrences that they stand for, step by step in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nas.ops.modules.state_space import S4, Mamba, hippo_legs, scan


def stepped_s4(layer: S4, length: int) -> Tensor:
    """The impulse response of ``layer`` from its discretised state space, one token after the other."""
    half = torch.complex(-layer.log_decay.exp(), layer.frequency)
    eigenvalues, p, b, c = (
        torch.cat([v, v.conj()], dim=1) for v in (half, *(torch.view_as_complex(v) for v in (layer.p, layer.b, layer.c)))
    )
    responses = []
    for h in range(len(half)):
        step, eye = layer.log_step[h].exp(), torch.eye(eigenvalues.shape[1], dtype=half.dtype)
        a = torch.diag(eigenvalues[h]) - torch.outer(p[h], p[h].conj())
        inverse = torch.linalg.inv(eye - step / 2 * a)
        a_step, b_step = inverse @ (eye + step / 2 * a), inverse @ b[h] * step
        out = c[h] @ torch.linalg.inv(eye - torch.linalg.matrix_power(a_step, length))
        state, response = b_step, []
        for _ in range(length):
            response.append(out @ state)
            state = a_step @ state
        responses.append(torch.stack(response))
    return torch.stack(responses)


@pytest.mark.parametrize("length", [1, 2, 7, 16])
def test_s4_convolves_with_its_recurrences_impulse_response(length: int) -> None:
    torch.manual_seed(0)
    layer = S4(3, state_size=8).double()
    with torch.no_grad():
        expected = stepped_s4(layer, length)
        assert expected.imag.abs().max() < 1e-9
        torch.testing.assert_close(layer.kernel(length), expected.real)

        x = torch.randn(2, length, 3, dtype=torch.float64)
        y = x * layer.skip
        for t in range(length):
            for k in range(t + 1):
                y[:, t] += expected.real[:, k] * x[:, t - k]
        torch.testing.assert_close(layer(x), F.glu(layer.gate(F.gelu(y)), dim=-1))


def test_hippo_is_the_legendre_matrix() -> None:
    """diag - p p*, with both of each conjugate pair, has the eigenvalues of the matrix that HiPPO-LegS defines: 1 to N."""
    eigenvalues, p, _ = (torch.cat([v, v.conj()]) for v in hippo_legs(6))
    spectrum = torch.linalg.eigvals(torch.diag(eigenvalues) - torch.outer(p, p.conj()))
    torch.testing.assert_close(spectrum.real.sort().values, -torch.arange(6.0, 0, -1, dtype=torch.float64))


@pytest.mark.parametrize("length", [1, 2, 3, 8, 13])
def test_scan_is_the_recurrence(length: int) -> None:
    torch.manual_seed(0)
    decay, inputs = torch.rand(2, length, 3, dtype=torch.float64), torch.randn(2, length, 3, dtype=torch.float64)
    state, states = torch.zeros(2, 3, dtype=torch.float64), []
    for t in range(length):
        state = decay[:, t] * state + inputs[:, t]
        states.append(state)
    torch.testing.assert_close(scan(decay, inputs), torch.stack(states, 1))


def test_mamba_is_its_recurrence() -> None:
    torch.manual_seed(0)
    layer = Mamba(6, state_size=4).double()
    x = torch.randn(2, 11, 6, dtype=torch.float64)
    with torch.no_grad():
        u, gate = layer.enter(x).chunk(2, dim=-1)
        weight, bias = layer.conv.weight[:, 0], layer.conv.bias
        state, outputs = torch.zeros(2, 12, 4, dtype=torch.float64), []
        for t in range(11):
            seen = [u[:, t - k] if t >= k else torch.zeros(2, 12, dtype=torch.float64) for k in range(4)]
            v = F.silu(sum(seen[k] * weight[:, 3 - k] for k in range(4)) + bias)
            rank_step, b, c = torch.split(layer.select(v), layer.sizes, dim=-1)
            step = F.softplus(layer.step(rank_step))[..., None]
            state = torch.exp(-step * layer.log_decay.exp()) * state + step * b[:, None] * v[..., None]
            outputs.append((state @ c[..., None])[..., 0] + layer.skip * v)
        expected = layer.leave(torch.stack(outputs, 1) * F.silu(gate))
        torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("kind", [S4, Mamba])
def test_no_token_sees_a_later_one(kind: type[S4 | Mamba]) -> None:
    torch.manual_seed(0)
    layer = kind(4).double()
    x = torch.randn(1, 9, 4, dtype=torch.float64, requires_grad=True)
    layer(x)[:, 4].sum().backward()
    assert x.grad is not None
    assert x.grad[:, :5].abs().amax((0, 2)).min() > 0
    assert x.grad[:, 5:].abs().max() < 1e-12
