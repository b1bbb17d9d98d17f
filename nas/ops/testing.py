"""A contract test for operations of your own: inherit it in a test file, and pytest does the rest.

::

    from my_ops import ScaledConv
    from nas.ops.testing import OpContract

    class TestScaledConv(OpContract):
        op = "scaled_conv"
        words = ({}, {"kernel_size": 5})
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nas.ops.catalogue import FROM_CONTEXT, find, from_wiring
from nas.ops.measured import Measured, measure
from nas.ops.sketch import Shape, Sketch

if TYPE_CHECKING:
    from torch import Tensor, nn


class Case(NamedTuple):
    """One call of an operation: its complete words, and the shapes of its inputs without the batch."""

    words: dict[str, Any]
    shapes: tuple[Shape, ...]


class OpContract:
    """What every operation keeps to. Set ``op``; where the defaults do not fit, ``words`` and ``shapes`` too.

    ``words`` lists sets of words to try (``stride`` 1 and 2 are tried by themselves, ``out_channels`` is the input's
    channels where it is left out); ``shapes`` lists input shapes (C, H, W), (L, C) or (C,), even sizes and odd ones;
    an operation of several inputs gets that shape for each (``num_inputs``).
    """

    op: str
    words: Sequence[Mapping[str, Any]] = ({},)
    shapes: Sequence[Shape] = ((8, 8, 6), (8, 7, 5))
    num_inputs = 2
    num_classes = 3

    def cases(self) -> Iterator[Case]:
        """Every call that is tried."""
        spec = find(self.op)
        count = self.num_inputs if spec.inputs is None else spec.inputs
        for shape in self.shapes:
            shapes = (tuple(shape),) * count
            context = dict(zip(FROM_CONTEXT, (Sketch(*shapes).channels, self.num_classes), strict=True))
            inferred = {word: value for word, value in context.items() if word in spec.required}
            for words in self.words:
                for stride in (1, 2) if "stride" in spec.defaults and "stride" not in words else (None,):
                    yield Case({**inferred, **words, **({"stride": stride} if stride else {})}, shapes)

    def test_the_sketch_tells_what_the_module_does(self) -> None:
        """Output shape, trainable elements and multiply-adds, the latter as torch counts them."""
        spec = find(self.op)
        for case in self.cases():
            sketch = self._sketched(case)
            told = Measured(sketch.shape, sketch.num_params, sketch.macs)
            found = measure(spec.name, spec.load(), spec.takes, case.shapes, case.words)
            assert told == found, f"{case}: the sketch tells {told}, the module does {found}"
            assert tuple(self._built(case).eval()(*self._inputs(case)).shape[1:]) == found.shape, case

    def test_every_parameter_gets_a_gradient(self) -> None:
        """And none that is not finite."""
        import torch

        for case in self.cases():
            module = self._built(case)
            torch.autograd.backward(self._weighed(module(*(x.requires_grad_() for x in self._inputs(case)))))
            for name, parameter in module.named_parameters():
                if parameter.requires_grad:
                    assert parameter.grad is not None, f"{case}: {name} has no gradient"
                    assert bool(parameter.grad.isfinite().all()), f"{case}: the gradient of {name} is not finite"

    def test_the_output_is_finite(self) -> None:
        """With fresh weights, in training and in evaluation."""
        for case in self.cases():
            module, inputs = self._built(case), self._inputs(case)
            for training in (True, False):
                assert bool(module.train(training)(*inputs).isfinite().all()), f"{case}: not finite, training={training}"

    def test_evaluation_is_deterministic(self) -> None:
        """The same input has the same output, whatever else is in the batch."""
        import torch

        for case in self.cases():
            module, inputs = self._built(case).eval(), self._inputs(case)
            with torch.no_grad():
                once, again, alone = module(*inputs), module(*inputs), module(*(x[:1] for x in inputs))
            assert torch.equal(once, again), f"{case}: two evaluations differ"
            assert torch.allclose(once[:1], alone, rtol=1e-3, atol=1e-4), f"{case}: a sample sees the rest of its batch"

    def test_the_state_can_be_loaded(self) -> None:
        """Into a second module, which then computes the same."""
        import torch

        for case in self.cases():
            first, second, inputs = self._built(case).eval(), self._built(case, seed=1).eval(), self._inputs(case)
            second.load_state_dict(first.state_dict())
            with torch.no_grad():
                assert torch.equal(first(*inputs), second(*inputs)), f"{case}: something is missing in the state_dict"

    def _sketched(self, case: Case) -> Sketch:
        sketch = Sketch(*case.shapes)
        find(self.op).sketch(sketch, **case.words)
        return sketch

    def _built(self, case: Case, seed: int = 0) -> nn.Module:
        import torch

        spec = find(self.op)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return spec.load()(**{word: from_wiring(word, Sketch(*case.shapes)) for word in spec.takes}, **case.words)

    def _inputs(self, case: Case) -> list[Tensor]:
        import torch

        generator = torch.Generator().manual_seed(0)
        return [torch.randn(4, *shape, generator=generator) for shape in case.shapes]

    def _weighed(self, output: Tensor) -> Tensor:
        """A sum with random weights: a plain one has no gradient behind a normalisation."""
        import torch

        return (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(2))).sum()
