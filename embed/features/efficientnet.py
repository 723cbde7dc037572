"""EfficientNet-Lite0 (Tan and Le 2019; the Lite variant has no squeeze-and-excitation and uses ReLU6).

The module names are those of the published weights, so a state dict loads without renaming. For inference the batch
normalisations are folded into the convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

# (expansion, channels out, repeats, kernel, stride) of each stage.
STAGES = ((1, 16, 1, 3, 1), (6, 24, 2, 3, 2), (6, 40, 2, 5, 2), (6, 80, 3, 3, 2), (6, 112, 3, 5, 1), (6, 192, 4, 5, 2),
          (6, 320, 1, 3, 1))
MEAN = (0.485, 0.456, 0.406)
SPREAD = (0.229, 0.224, 0.225)


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding, which is uneven where the stride is 2."""

    def forward(self, x: Tensor) -> Tensor:
        """The feature map, of size ceil(input / stride)."""
        need = [max((-(-size // stride) - 1) * stride + kernel - size, 0)
                for size, kernel, stride in zip(x.shape[-2:], self.kernel_size, self.stride, strict=True)]
        if any(one % 2 for one in need):
            (top, left), (height, width) = [one // 2 for one in need], need
            x, even = F.pad(x, [left, width - left, top, height - top]), [0, 0]
        else:  # without a copy
            even = [one // 2 for one in need]
        return F.conv2d(x, self.weight, self.bias, self.stride, even, self.dilation, self.groups)


def _relu6_(x: Tensor) -> Tensor:
    """In place: in inference nothing needs the input again, and memory is what a convolution waits for."""
    return x.clamp_(0, 6) if not torch.is_grad_enabled() else F.relu6(x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """An inverted bottleneck: expand, depthwise, project."""

    def __init__(self, channels: int, out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.skip = channels == out and stride == 1
        self._expand_conv = SameConv(channels, wide, 1, bias=False) if expansion > 1 else None
        self._bn0 = _norm(wide) if expansion > 1 else None
        self._depthwise_conv = SameConv(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1: nn.Module = _norm(wide)
        self._project_conv = SameConv(wide, out, 1, bias=False)
        self._bn2: nn.Module = _norm(out)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output, with the input added where the shapes allow."""
        y = x
        if self._expand_conv is not None and self._bn0 is not None:
            y = _relu6_(self._bn0(self._expand_conv(y)))
        y = _relu6_(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skip else y

    def fold(self) -> None:
        """Fold the normalisations into the convolutions."""
        if self._expand_conv is not None and self._bn0 is not None:
            self._expand_conv, self._bn0 = fuse_conv_bn_eval(self._expand_conv, self._bn0), nn.Identity()  # type: ignore
        self._depthwise_conv, self._bn1 = fuse_conv_bn_eval(self._depthwise_conv, self._bn1), nn.Identity()  # type: ignore
        self._project_conv, self._bn2 = fuse_conv_bn_eval(self._project_conv, self._bn2), nn.Identity()  # type: ignore


class EfficientNetLite0(nn.Module):
    """(B, 3, H, W) pixels to (B, 1280) pooled features."""

    width = 1280

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, 2, bias=False)
        self._bn0: nn.Module = _norm(32)
        blocks, channels = [], 32
        for expansion, out, repeats, kernel, stride in STAGES:
            for number in range(repeats):
                blocks.append(Block(channels, out, expansion, kernel, stride if number == 0 else 1))
                channels = out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv(channels, self.width, 1, bias=False)
        self._bn1: nn.Module = _norm(self.width)

    def forward(self, pixels: Tensor) -> Tensor:
        """The pooled features; ``pixels`` are 0..255 and are normalised here."""
        mean, spread = (pixels.new_tensor(v)[:, None, None] * 255 for v in (MEAN, SPREAD))
        x = _relu6_(self._bn0(self._conv_stem((pixels - mean) / spread)))
        for block in self._blocks:
            x = block(x)
        return _relu6_(self._bn1(self._conv_head(x))).mean((2, 3))

    def load_published(self, weights: Mapping[str, Tensor]) -> EfficientNetLite0:
        """The network with the published weights (their classifier is left out), folded, in evaluation mode."""
        self.load_state_dict({name: value for name, value in weights.items() if not name.startswith("_fc.")})
        self.eval()
        self._conv_stem, self._bn0 = fuse_conv_bn_eval(self._conv_stem, self._bn0), nn.Identity()  # type: ignore
        self._conv_head, self._bn1 = fuse_conv_bn_eval(self._conv_head, self._bn1), nn.Identity()  # type: ignore
        for block in self._blocks:
            block.fold()  # type: ignore[operator]
        return self.requires_grad_(False)


def no_gradient(model: nn.Module, pixels: Tensor) -> Tensor:
    """The model's output without a graph."""
    with torch.inference_mode():
        out: Tensor = model(pixels)
    return out
