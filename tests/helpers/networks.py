"""Small networks for tests: two architectures written five ways each, and real shapes of trouble."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SPELLINGS = ("module", "inplace", "functional", "method", "reused")


class Step(nn.Module):
    """A network of one function."""

    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x)


class Spelled(nn.Module):
    """conv, relu, strided conv, relu, a residual sum, relu, pool, linear: the ReLU written in one of five ways."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(8, 8, 3, padding=1)
        self.fc1 = nn.Linear(8, 10)
        self.fc2 = nn.Linear(10, 4)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator) * 0.4
        self.bn1.running_mean.uniform_(-0.5, 0.5, generator=generator)
        self.bn1.running_var.uniform_(0.5, 1.5, generator=generator)
        self.spelling = spelling
        inplace = spelling == "inplace"
        if spelling in {"module", "inplace"}:
            self.r1, self.r2, self.r3, self.r4 = (nn.ReLU(inplace=inplace) for _ in range(4))
        elif spelling == "reused":
            self.relu = nn.ReLU(inplace=True)

    def act(self, x: Tensor, k: int) -> Tensor:
        if self.spelling in {"module", "inplace"}:
            return getattr(self, f"r{k}")(x)
        if self.spelling == "functional":
            return F.relu(x)
        if self.spelling == "method":
            torch.relu_(x)  # the return value is dropped, as people do
            return x
        return self.relu(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn1(self.conv1(x)), 1)
        x = self.act(self.conv2(x), 2)
        y = self.conv3(x)
        y += x
        y = self.act(y, 3)
        y = y.mean((2, 3))
        return self.fc2(self.act(self.fc1(y), 4))


class Branches(nn.Module):
    """A concatenation, average and max pooling, a gate, and an in-place sum after a rectifier."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 4, 3, padding=1)
        self.b = nn.Conv2d(2, 4, 5, padding=2, bias=False)
        self.squeeze = nn.Conv2d(8, 2, 1)
        self.excite = nn.Conv2d(2, 8, 1)
        self.c = nn.Conv2d(8, 6, 3, stride=2)
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.a(x))
        b = F.relu(self.b(x))
        x = F.max_pool2d(torch.cat([a, b], 1), 2)
        scale = F.adaptive_avg_pool2d(x, 1)
        scale = torch.sigmoid(self.excite(F.relu(self.squeeze(scale))))
        x = F.avg_pool2d(x * scale, 2)
        x = F.relu(self.c(x))
        return self.out(x.mean((2, 3)))


#: Five ways to write one attention; see :func:`attention_network`.
ATTENTIONS = ("module", "fused", "bmm", "einsum", "qkv")


class Attention(nn.Module):
    """Attention of 2 heads among tokens (B, T, 8): torch's module, its fused function, or written out."""

    def __init__(self, spelling: str, wide: int, heads: int) -> None:
        super().__init__()
        self.spelling = spelling
        self.heads = heads
        # Its weights serve every spelling.
        self.attend = nn.MultiheadAttention(wide, heads, batch_first=True)
        if spelling == "qkv":
            self.qkv = nn.Linear(wide, 3 * wide)
            self.proj = nn.Linear(wide, wide)

    def forward(self, x: Tensor) -> Tensor:
        if self.spelling == "module":
            return self.attend(x, x, x, need_weights=False)[0]
        batch, tokens, wide = x.shape
        if self.spelling == "qkv":  # as timm writes it
            qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, wide // self.heads).permute(2, 0, 3, 1, 4)
            q, k, v = qkv.unbind(0)
            weights = (q * (wide // self.heads) ** -0.5 @ k.transpose(-2, -1)).softmax(-1)
            return self.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, wide))
        out = self.attend.out_proj
        q, k, v = (
            F.linear(x, w, b)
            for w, b in zip(self.attend.in_proj_weight.chunk(3), self.attend.in_proj_bias.chunk(3), strict=True)
        )
        if self.spelling == "einsum":
            q, k, v = (t.view(batch, tokens, self.heads, -1) for t in (q, k, v))
            weights = F.softmax(torch.einsum("bqhc,bkhc->bhqk", q, k) / math.sqrt(wide // self.heads), dim=-1)
            return out(torch.einsum("bhqk,bkhc->bqhc", weights, v).flatten(2))
        q, k, v = (t.view(batch, tokens, self.heads, -1).transpose(1, 2) for t in (q, k, v))
        if self.spelling == "fused":
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            q, k, v = (t.flatten(0, 1) for t in (q, k, v))
            scores = torch.bmm(q, k.mT) * (wide // self.heads) ** -0.5
            y = torch.bmm(torch.softmax(scores, 2), v).unflatten(0, (batch, self.heads))
        return out(y.transpose(1, 2).reshape(batch, tokens, wide))


class Block(nn.Module):
    """A layer of a vision transformer: attention and a GELU perceptron, each behind a norm and beside a sum."""

    def __init__(self, spelling: str, wide: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(wide)
        self.attention = Attention(spelling, wide, heads)
        self.norm2 = nn.LayerNorm(wide)
        self.mlp = nn.Sequential(nn.Linear(wide, 2 * wide), nn.GELU(), nn.Linear(2 * wide, wide))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Patches of 4 pixels, a class token, positions, blocks, a norm and a linear map on the class token."""

    def __init__(self, spelling: str, wide: int = 8, heads: int = 2, blocks: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, wide, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, wide))
        self.positions = nn.Parameter(torch.zeros(1, 17, wide))
        self.blocks = nn.Sequential(*(Block(spelling, wide, heads) for _ in range(blocks)))
        self.norm = nn.LayerNorm(wide)
        self.head = nn.Linear(wide, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


def attention_network(spelling: str = "module") -> VisionTransformer:
    """Return a small vision transformer for images (B, 3, 16, 16) and four classes, its attention in one spelling.

    All spellings have the same weights: the patches of 4 pixels make 16 tokens of 8 channels beside the class token,
    in two blocks of two heads. In evaluation mode, float32, random weights large enough for attention to be uneven.
    """
    generator = torch.Generator().manual_seed(11)
    net = VisionTransformer(spelling)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if ".qkv." not in name and ".proj." not in name:  # copies of the others, below
                p.copy_(torch.randn(p.shape, generator=generator) * 0.5)
                if "norm" in name and name.endswith("weight"):
                    p.add_(1)
        for block in net.blocks:
            one = block.attention
            if spelling == "qkv":
                one.qkv.weight.copy_(one.attend.in_proj_weight)
                one.qkv.bias.copy_(one.attend.in_proj_bias)
                one.proj.load_state_dict(one.attend.out_proj.state_dict())
                del one.attend
    return net.eval()


def small() -> nn.Module:
    """Return a network of three classes for :func:`small_images`."""
    return Branches().eval()


def small_images(n: int = 2) -> Tensor:
    """Return (n, 2, 16, 16) of noise, the same each time."""
    return torch.randn(n, 2, 16, 16, generator=torch.Generator().manual_seed(2))


def images(*shape: int, seed: int = 0) -> Tensor:
    """Return float64 noise of the shape, the same each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def torchvision_network(name: str) -> nn.Module:
    """Return a network of torchvision with five classes, thin for tests, the caller's own."""
    from experiments.attribution_table.networks import network

    return copy.deepcopy(network(name, narrow=True))
