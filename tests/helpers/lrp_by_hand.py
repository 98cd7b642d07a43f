"""LRP's rules by explicit float64 matrices, one image at a time, and a vision transformer through them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import erf, sqrt

import numpy as np
import torch
from torch import Tensor, nn

from helpers.networks import VisionTransformer

Array = np.ndarray


# The reference: each layer an explicit matrix, each rule its formula, one image at a time.


@dataclass
class Dense:
    """z = W x + b, with the pattern of weights that exist."""

    W: Array
    b: Array
    exists: Array


def dense(
    f: Callable[[Tensor], Tensor], shape: tuple[int, ...], ones: Callable[[Tensor], Tensor] | None = None
) -> Dense:
    n = int(np.prod(shape))
    zero = f(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
    columns = f(torch.eye(n, dtype=torch.float64).view(n, *shape)).flatten(1) - zero
    pattern = columns if ones is None else ones(torch.eye(n, dtype=torch.float64).view(n, *shape)).flatten(1)
    return Dense(columns.T.detach().numpy(), zero.detach().numpy(), (pattern.T != 0).detach().numpy().astype(float))


def stable(z: Array, eps: float = 1e-6) -> Array:
    return z + eps * np.where(z >= 0, 1, -1)


def up(v: Array) -> Array:
    return np.maximum(v, 0)


def down(v: Array) -> Array:
    return np.minimum(v, 0)


def rule_epsilon(d: Dense, x: Array, R: Array, eps: float) -> Array:
    return x * (d.W.T @ (R / stable(d.W @ x + d.b, eps)))


def rule_zero(d: Dense, x: Array, R: Array) -> Array:
    return x * (d.W.T @ (R / (d.W @ x + d.b)))


def rule_relative(d: Dense, x: Array, R: Array) -> Array:
    z = d.W @ x + d.b
    return rule_epsilon(d, x, R, 0.05 * float(np.sqrt((z**2).mean())))


def rule_alpha_beta(d: Dense, x: Array, R: Array, alpha: float, beta: float) -> Array:
    contributions = d.W * x
    plus = up(contributions)
    minus = down(contributions)
    zp = plus.sum(1) + up(d.b)
    zn = minus.sum(1) + down(d.b)
    return alpha * plus.T @ (R / stable(zp)) - beta * minus.T @ (R / stable(zn))


def rule_gamma(d: Dense, x: Array, R: Array, gamma: float = 0.25) -> Array:
    contributions = d.W * x
    out = np.zeros_like(x)
    for j, z in enumerate(d.W @ x + d.b):
        favoured = up if z > 0 else down
        c = contributions[j] + gamma * favoured(contributions[j])
        out += c * R[j] / stable(c.sum() + d.b[j] + gamma * favoured(d.b[j]))
    return out


def rule_box(d: Dense, x: Array, R: Array, low: Array, high: Array) -> Array:
    c = d.W * x - up(d.W) * low - down(d.W) * high
    return c.T @ (R / stable(c.sum(1)))


def rule_flat(d: Dense, _x: Array, R: Array) -> Array:
    return d.exists.T @ (R / stable(d.exists.sum(1)))


# A vision transformer, its tokens in rows: every rule its formula.


def rows_rule(X: Array, W: Array, b: Array | float, R: Array, method: str) -> Array:
    """Send relevance (T, out) through ``Z = X W' + b`` by the rule of linear maps; epsilon's unit is all tokens'."""
    Z = X @ W.T + b
    if method == "deep_taylor":
        share = R / stable(up(X) @ up(W).T + down(X) @ down(W).T + up(b))
        return up(X) * (share @ up(W)) + down(X) * (share @ down(W))
    return X * (ratio(R, Z, method) @ W)


def ratio(R: Array, Z: Array, method: str, eps: float | None = None) -> Array:
    """Return ``R / Z``, stabilised as the method does it at linear maps, or by ``eps`` roots of the mean square."""
    if method == "lrp_0":
        return np.divide(R, Z, out=np.zeros_like(R), where=Z != 0)
    if method == "lrp_epsilon":
        eps = 0.05
    unit = 1e-6 if eps is None else eps * np.sqrt((Z**2).mean())
    return R / stable(Z, 1e-6 if method != "lrp_epsilon" and eps is None else unit)


def rule_sum(a: Array, b: Array, R: Array, method: str) -> tuple[Array, Array]:
    if method == "deep_taylor":
        a, b = abs(a), abs(b)
    share = np.divide(R, a + b, out=np.zeros_like(R), where=a + b != 0) if method == "lrp_0" else R / stable(a + b)
    return a * share, b * share


class Norm:
    """A layer norm of rows, as the matrix that it is for a fixed deviation."""

    def __init__(self, norm: nn.LayerNorm, X: Array) -> None:
        self.X = X
        self.w = norm.weight.detach().numpy()
        self.b = norm.bias.detach().numpy()
        self.sd = np.sqrt(X.var(1) + norm.eps)
        self.Y = (X - X.mean(1, keepdims=True)) / self.sd[:, None] * self.w + self.b

    def below(self, R: Array, method: str) -> Array:
        if method == "deep_taylor":
            return R
        n = self.X.shape[1]
        share = ratio(R, self.Y, method)
        rows = [
            x * ((np.diag(self.w) @ (np.eye(n) - 1 / n) / sd).T @ r)
            for x, sd, r in zip(self.X, self.sd, share, strict=True)
        ]
        return np.stack(rows)


def softmax(S: Array) -> Array:
    E = np.exp(S - S.max(-1, keepdims=True))
    return E / E.sum(-1, keepdims=True)


class Attended:
    """Attention of several heads among rows."""

    def __init__(self, attention: nn.Module, X: Array) -> None:
        self.X = X
        self.heads = attention.heads
        self.weights = [p.detach().numpy() for p in attention.parameters()]  # qkv, its bias, proj, its bias
        Wqkv, bqkv, W, b = self.weights
        q, k, v = np.split(X @ Wqkv.T + bqkv, 3, 1)
        self.Q, self.K, self.V = (self.split(t) for t in (q / sqrt(q.shape[1] / self.heads), k, v))
        self.S = self.Q @ self.K.transpose(0, 2, 1)
        self.P = softmax(self.S)
        self.out = self.P @ self.V
        self.Y = self.join(self.out) @ W.T + b

    def split(self, t: Array) -> Array:
        return t.reshape(len(t), self.heads, -1).transpose(1, 0, 2)

    def join(self, t: Array) -> Array:
        return t.transpose(1, 0, 2).reshape(t.shape[1], -1)

    def below(self, R: Array, method: str, attention: str) -> Array:
        Wqkv, bqkv, W, b = self.weights
        R = self.split(rows_rule(self.join(self.out), W, b, R, method))
        back = (0, 2, 1)
        Rq = np.zeros_like(self.Q)
        Rk = np.zeros_like(self.K)
        if method == "deep_taylor":
            Rv = up(self.V) * (self.P.transpose(back) @ (R / stable(self.P @ up(self.V))))
        elif attention == "cp":
            Rv = self.V * (self.P.transpose(back) @ ratio(R, self.out, method))
        else:
            share = ratio(R, self.out, method, 1e-6) / 2
            Rv = self.V * (self.P.transpose(back) @ share)
            Rp = self.P * (share @ self.V.transpose(back))
            Rs = self.S * (Rp - self.P * Rp.sum(-1, keepdims=True))
            share = ratio(Rs, self.S, method, 1e-6) / 2
            Rq = self.Q * (share @ self.K)
            Rk = self.K * (share.transpose(back) @ self.Q)
        Rqkv = np.concatenate([self.join(t) for t in (Rq, Rk, Rv)], 1)
        return rows_rule(self.X, Wqkv, bqkv, Rqkv, method)


def transformer_relevance(net: VisionTransformer, image: Tensor, target: int, method: str, attention: str) -> Array:
    """Return the relevance (C, H, W) of a float64 network, spelled "qkv", by the rules written out."""
    shape = tuple(image.shape)
    ones = nn.Conv2d(3, net.patches.out_channels, 4, stride=4, bias=False).double()
    ones.weight.data.fill_(1)
    first = dense(net.patches, shape, ones)
    x = image.flatten().numpy()
    patches = (first.W @ x + first.b).reshape(net.patches.out_channels, -1).T
    tokens = np.concatenate([net.token[0].detach().numpy(), patches])
    positions = net.positions[0].detach().numpy()
    X = tokens + positions
    steps = []
    for block in net.blocks:
        norm1 = Norm(block.norm1, X)
        attended = Attended(block.attention, norm1.Y)
        X1 = X + attended.Y
        norm2 = Norm(block.norm2, X1)
        W1, b1, W2, b2 = (p.detach().numpy() for p in block.mlp.parameters())
        H = norm2.Y @ W1.T + b1
        G = H * (1 + np.vectorize(erf)(H / sqrt(2))) / 2
        Y = G @ W2.T + b2
        steps.append((X, norm1, attended, X1, norm2, (W1, b1, W2, b2), G, Y))
        X = X1 + Y
    last = Norm(net.norm, X)
    head = net.head.weight.detach().numpy(), net.head.bias.detach().numpy()
    R = np.zeros((1, len(head[1])))
    R[0, target] = (last.Y[:1] @ head[0].T + head[1])[0, target]
    found = np.zeros_like(X)
    found[:1] = rows_rule(last.Y[:1], *head, R, method)
    R = last.below(found, method)
    for X, norm1, attended, X1, norm2, (W1, b1, W2, b2), G, Y in reversed(steps):
        R1, Ry = rule_sum(X1, Y, R, method)
        Rh = rows_rule(G, W2, b2, Ry, method)
        R = R1 + norm2.below(rows_rule(norm2.Y, W1, b1, Rh, method), method)
        R0, Ra = rule_sum(X, attended.Y, R, method)
        R = R0 + norm1.below(attended.below(Ra, method, attention), method)
    R, _ = rule_sum(tokens, positions, R, method)
    return first_rule(first, x, R[1:].T.flatten(), image, method).reshape(shape)


def first_rule(first: Dense, x: Array, R: Array, image: Tensor, method: str) -> Array:
    """Send relevance through the convolution that reads the image."""
    pixels = image.flatten(1)
    low, high = (np.repeat(v.numpy(), pixels.shape[1]) for v in (pixels.amin(1), pixels.amax(1)))
    if method in {"lrp_zbox", "deep_taylor"}:
        return rule_box(first, x, R, low, high)
    if method == "lrp_epsilon_plus_flat":
        return rule_flat(first, x, R)
    if method.startswith("lrp_alpha"):
        alpha = int(method[len("lrp_alpha")])
        return rule_alpha_beta(first, x, R, alpha, alpha - 1)
    return {"lrp_0": rule_zero, "lrp_epsilon": rule_relative, "lrp_gamma": rule_gamma}[method](first, x, R)
