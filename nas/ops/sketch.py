"""What an operation does to a shape and what it costs, told without torch and without building a module.

A *sketch* is a short function beside every operation's name: it walks the operation's layers over a :class:`Sketch`,
which follows the tensor's shape and tallies parameters and multiply-adds. The tests hold every sketch against the
module it stands for (parameters, output shape, and torch's own counter).
"""

from __future__ import annotations

from collections.abc import Sequence

from nas.errors import ShapeError

Shape = tuple[int, ...]
"""A tensor's shape without the batch: (C, H, W) a map, (L, C) tokens, (C,) a vector."""

Size2 = int | tuple[int, int]


def pair(value: Size2) -> tuple[int, int]:
    """A size for height and width, given one for both or one for each."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def conv_size(size: int, kernel_size: int, stride: int, padding: int, dilation: int = 1, ceil: bool = False) -> int:
    """Output length of a convolution or pooling over ``size`` elements (torch's formula)."""
    span = size + 2 * padding - dilation * (kernel_size - 1) - 1
    out = (-(-span // stride) if ceil else span // stride) + 1
    return out - 1 if ceil and (out - 1) * stride >= size + padding else out


class Sketch:
    """A shape on its way through an operation, with what it has cost so far.

    ``shape`` is the current shape, ``inputs`` the shapes of all inputs; ``num_params`` counts trainable elements,
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

    def conv(self, out_channels: int, kernel_size: Size2 = 1, stride: Size2 = 1, *, padding: Size2 | None = None,
             dilation: int = 1, groups: int = 1, bias: bool = False) -> Sketch:  # fmt: skip
        """A 2-d convolution; padding None keeps the size of odd kernels at stride 1 (``dilation * (k - 1) // 2``)."""
        channels, height, width = self.map()
        (kh, kw), (sh, sw) = pair(kernel_size), pair(stride)
        ph, pw = (dilation * (kh - 1) // 2, dilation * (kw - 1) // 2) if padding is None else pair(padding)
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
        ph, pw = ((kh - 1) // 2, (kw - 1) // 2) if padding is None else pair(padding)
        out_h, out_w = conv_size(height, kh, sh, ph, ceil=ceil), conv_size(width, kw, sw, pw, ceil=ceil)
        self._fits(out_h, out_w, f"{kh}x{kw} pooling")
        self.shape = (channels, out_h, out_w)
        return self

    def linear(self, out_features: int, bias: bool = True) -> Sketch:
        """A linear layer over the features of a vector or of every token."""
        if len(self.shape) == 3:
            raise ShapeError("a linear layer needs a vector or tokens", expected="(C,) or (L, C)", got=self.shape,
                             hint="Put `global_avg_pool` or `flatten` before it.")  # fmt: skip
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
