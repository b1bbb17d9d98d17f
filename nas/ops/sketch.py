"""What an operation does to a shape and what it costs, told without torch and without building a module.

A *sketch* is a short function beside every operation's name: it walks the operation's layers over a :class:`Sketch`,
which follows the tensor's shape and tallies parameters and multiply-adds. The tests hold every sketch against the
module it stands for (parameters, output shape, and torch's own counter).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nas.errors import ShapeError, nearest

Shape = tuple[int, ...]
"""A tensor's shape without the batch: (C, H, W) a map, (L, C) tokens, (C,) a vector."""

Size2 = int | tuple[int, int]


def pair(value: Size2) -> tuple[int, int]:
    """(height, width) of a size that is one number or two; ShapeError when it is neither."""
    if isinstance(value, int):
        return value, value
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(isinstance(v, int) for v in value):
        raise ShapeError("impossible size", expected="a whole number, or two for height and width", got=value)
    return value[0], value[1]


def positive(**values: int) -> None:
    """Every value is a whole number above zero; ShapeError naming the first that is not."""
    for word, value in values.items():
        if not isinstance(value, int) or value < 1:
            raise ShapeError(f"impossible {word}", expected="a whole number above 0", got=value)


def not_negative(**values: float) -> None:
    """Every value is a number from 0; ShapeError naming the first that is not."""
    for word, value in values.items():
        if not isinstance(value, int | float) or value < 0:
            raise ShapeError(f"impossible {word}", expected="0 or more", got=value)


def odd_kernel(kernel_size: int, least: int = 1) -> None:
    """The kernel is odd and not below ``least``; ShapeError otherwise."""
    if not isinstance(kernel_size, int) or kernel_size < least or kernel_size % 2 == 0:
        raise ShapeError("impossible kernel_size", expected=f"an odd number from {least}", got=kernel_size)


def share(word: str, value: float) -> None:
    """The value is a probability below 1; ShapeError otherwise."""
    if not 0 <= value < 1:
        raise ShapeError(f"impossible {word}", expected="0 <= value < 1", got=value)


def one_of(word: str, value: str, known: Iterable[str]) -> None:
    """The value is a known one; ShapeError with the nearest otherwise."""
    names = list(known)
    if value not in names:
        hint = nearest(str(value), names)
        raise ShapeError(f"unknown {word}", expected=f"one of {', '.join(names)}", got=value, hint=hint)


ACTIVATIONS = (
    "relu", "relu6", "leaky_relu", "silu", "gelu", "hard_swish", "hard_sigmoid", "sigmoid", "tanh", "identity",
)  # fmt: skip
"""What the word ``activation`` may say."""


def divides(part: int, whole: int, what: str) -> None:
    """``part`` divides ``whole``; ShapeError with the divisors to choose from otherwise."""
    if part < 1 or whole % part:
        choices = ", ".join(str(d) for d in range(1, whole + 1) if whole % d == 0)
        raise ShapeError(f"{what} does not divide {whole}", expected=f"one of {choices}", got=part)


def conv_size(size: int, kernel_size: int, stride: int, padding: int, dilation: int = 1, ceil: bool = False) -> int:
    """Output length of a convolution or pooling over ``size`` elements (torch's formula)."""
    span = size + 2 * padding - dilation * (kernel_size - 1) - 1
    out = (-(-span // stride) if ceil else span // stride) + 1
    return out - 1 if ceil and (out - 1) * stride >= size + padding else out


class Sketch:
    """A shape on its way through an operation, with what it has cost so far.

    ``shape`` is the current shape, ``inputs`` the shapes of all inputs; ``num_params`` counts elements of weights,
    ``macs`` multiply-adds of convolutions, linear layers and matrix products for one sample.
    """

    __slots__ = ("inputs", "macs", "num_params", "shape")

    def __init__(self, *inputs: Shape) -> None:
        self.inputs: tuple[Shape, ...] = inputs
        self.shape: Shape = inputs[0]
        self.num_params = 0
        self.macs = 0

    @property
    def channels(self) -> int:
        """Channels of a map or vector, features of tokens."""
        return self.shape[1] if len(self.shape) == 2 else self.shape[0]

    def map(self) -> tuple[int, int, int]:
        """(C, H, W); raises ShapeError when the tensor is not a feature map."""
        if len(self.shape) != 3:
            raise ShapeError("the operation works on feature maps", expected="a (C, H, W) input", got=self.shape,
                             hint="Put it before pooling, flattening or patch embedding.")  # fmt: skip
        return self.shape[0], self.shape[1], self.shape[2]

    def tokens(self) -> tuple[int, int]:
        """(L, C); raises ShapeError when the tensor is not a sequence of tokens."""
        if len(self.shape) != 2:
            raise ShapeError("the operation works on tokens", expected="an (L, C) input", got=self.shape,
                             hint="Put it after `patch_embed` or `to_tokens`.")  # fmt: skip
        return self.shape[0], self.shape[1]

    def depthwise(self, kernel_size: Size2, stride: Size2 = 1, *, dilation: int = 1, bias: bool = False) -> Sketch:
        """A convolution of every channel by itself."""
        return self.conv(self.channels, kernel_size, stride, dilation=dilation, groups=self.channels, bias=bias)

    def conv(self, out_channels: int, kernel_size: Size2 = 1, stride: Size2 = 1, *, padding: Size2 | None = None,
             dilation: int = 1, groups: int = 1, bias: bool = False) -> Sketch:  # fmt: skip
        """A 2-d convolution; padding None keeps the size of odd kernels at stride 1 (``dilation * (k - 1) // 2``)."""
        channels, height, width = self.map()
        (kh, kw), (sh, sw) = pair(kernel_size), pair(stride)
        positive(out_channels=out_channels, kernel_size=min(kh, kw), stride=min(sh, sw))
        positive(dilation=dilation, groups=groups)
        ph, pw = (dilation * (kh - 1) // 2, dilation * (kw - 1) // 2) if padding is None else pair(padding)
        not_negative(padding=min(ph, pw))
        if channels % groups or out_channels % groups:
            raise ShapeError("groups must divide the input and output channels", expected=f"multiples of {groups}",
                             got=f"{channels} -> {out_channels}")  # fmt: skip
        out_h, out_w = conv_size(height, kh, sh, ph, dilation), conv_size(width, kw, sw, pw, dilation)
        self._fits(out_h, out_w, f"a {kh}x{kw} convolution (padding {ph},{pw})")
        weights = kh * kw * channels * out_channels // groups
        self.num_params += weights + (out_channels if bias else 0)
        self.macs += weights * out_h * out_w
        self.shape = (out_channels, out_h, out_w)
        return self

    def pool(self, kernel_size: Size2, stride: Size2 | None = None, *, padding: Size2 | None = None,
             ceil: bool = False) -> Sketch:  # fmt: skip
        """Pooling; padding None means ``(k - 1) // 2``, stride None means the kernel size."""
        channels, height, width = self.map()
        (kh, kw), (sh, sw) = pair(kernel_size), pair(kernel_size if stride is None else stride)
        positive(kernel_size=min(kh, kw), stride=min(sh, sw))
        ph, pw = ((kh - 1) // 2, (kw - 1) // 2) if padding is None else pair(padding)
        not_negative(padding=min(ph, pw))
        out_h, out_w = conv_size(height, kh, sh, ph, ceil=ceil), conv_size(width, kw, sw, pw, ceil=ceil)
        self._fits(out_h, out_w, f"{kh}x{kw} pooling")
        self.shape = (channels, out_h, out_w)
        return self

    def linear(self, out_features: int, bias: bool = True) -> Sketch:
        """A linear layer over the features of a vector or of every token."""
        if len(self.shape) == 3:
            raise ShapeError("a linear layer needs a vector or tokens", expected="(C,) or (L, C)", got=self.shape,
                             hint="Put `global_avg_pool` or `flatten` before it.")  # fmt: skip
        positive(out_features=out_features)
        self.num_params += self.channels * out_features + (out_features if bias else 0)
        self.macs += self.channels * out_features * (self.shape[0] if len(self.shape) == 2 else 1)
        self.shape = (*self.shape[:-1], out_features)
        return self

    def norm(self) -> Sketch:
        """Scale and shift per channel: batch, layer, group or instance normalisation."""
        self.num_params += 2 * self.channels
        return self

    def params(self, count: int) -> Sketch:
        """Add ``count`` bare parameters."""
        self.num_params += count
        return self

    def matmul(self, *sizes: int) -> Sketch:
        """Add the multiply-adds of a product whose extents are ``sizes`` (m, k, n, and batch extents)."""
        macs = 1
        for size in sizes:
            macs *= size
        self.macs += macs
        return self

    def branch(self, shape: Shape | None = None) -> Sketch:
        """A sketch of its own at this (or the given) shape, for a side path; join it with :meth:`join`."""
        return Sketch(self.shape if shape is None else shape)

    def join(self, other: Sketch) -> Sketch:
        """Take over what a side path cost; the shape stays this one's."""
        self.num_params += other.num_params
        self.macs += other.macs
        return self

    def _fits(self, height: int, width: int, what: str) -> None:
        if height < 1 or width < 1:
            raise ShapeError(f"the map is too small for {what}", expected="a larger map", got=self.shape,
                             hint="Use a larger input, fewer strides, or more padding.")  # fmt: skip


def same_shapes(shapes: Sequence[Shape], what: str) -> Shape:
    """The one shape that all inputs share; ShapeError otherwise."""
    if any(shape != shapes[0] for shape in shapes):
        raise ShapeError(f"{what} needs inputs of one shape", expected=str(shapes[0]), got=list(shapes),
                         hint="Give the branches equal channels and strides, or write `match:`.")  # fmt: skip
    return shapes[0]
