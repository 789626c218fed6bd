"""What does not convert, and the nearest thing that does.

The texts end up in `ConversionError` and on the book's page *What converts*.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from snnlib.conversion.registry import REJECTED

_NOT_RELU = "a spike count is a ReLU: train with nn.ReLU in its place"
_BOUNDED = (
    "not a ReLU: train with nn.ReLU, or nn.Hardtanh(0, 1) for a bounded unit; at the very end, "
    "return the logits before it"
)
_STATISTICS = "its statistics depend on the image: train with nn.BatchNorm2d, which folds"
_PRODUCT = "a product of activations has no spiking form: use convolutions or linear layers"
_RECURRENT = "it has a time of its own: unroll it, or train a feed-forward network"
_LINEAR_UP = 'use nn.Upsample(mode="nearest"), or an nn.ConvTranspose2d that interpolates'
_CHOICE = "a choice that depends on the images: use nn.MaxPool2d or torch.amax over one activation"
_LOOKUP = "it takes whole numbers: start the network at the real-valued activation after it"
_INDICES = "return_indices=True: only the maximum itself converts"
_SHUFFLED = "its arithmetic is not one ReLU network's: use its counterpart among what converts"
_TABLE: dict[str, tuple[Any, ...]] = {
    _NOT_RELU: (
        nn.GELU, F.gelu, nn.SiLU, F.silu, nn.Mish, F.mish, nn.ELU, F.elu, nn.SELU, F.selu, nn.CELU,
        F.celu, nn.Softplus, F.softplus, nn.Hardswish, F.hardswish, nn.LeakyReLU, F.leaky_relu,
        nn.PReLU, F.prelu, nn.RReLU, F.rrelu, nn.GLU, F.glu, torch.abs, "abs", torch.square,
        "pow", torch.pow, operator.pow,
    ),
    _BOUNDED: (
        nn.Tanh, torch.tanh, F.tanh, "tanh", nn.Sigmoid, torch.sigmoid, F.sigmoid, "sigmoid",
        nn.Hardsigmoid, F.hardsigmoid, nn.LogSigmoid, F.logsigmoid, nn.Softsign, F.softsign,
        nn.Softmin,
    ),
    _STATISTICS: (
        nn.LayerNorm, F.layer_norm, nn.GroupNorm, F.group_norm, nn.InstanceNorm1d,
        nn.InstanceNorm2d, nn.InstanceNorm3d, F.instance_norm, nn.LocalResponseNorm,
        F.local_response_norm, F.normalize, nn.RMSNorm,
    ),
    _PRODUCT: (
        nn.MultiheadAttention, F.scaled_dot_product_attention, torch.matmul, operator.matmul,
        "matmul", torch.bmm, torch.einsum, nn.Bilinear, nn.TransformerEncoderLayer,
        nn.TransformerEncoder,
    ),
    _RECURRENT: (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell),
    _LINEAR_UP: (nn.UpsamplingBilinear2d, F.grid_sample),
    _CHOICE: (torch.max, "max", torch.maximum, torch.min, torch.minimum, torch.where, torch.topk),
    _INDICES: (
        F.max_pool1d_with_indices, F.max_pool2d_with_indices, F.max_pool3d_with_indices,
        F.adaptive_max_pool2d_with_indices,
    ),
    _LOOKUP: (nn.Embedding, nn.EmbeddingBag, F.embedding),
    _SHUFFLED: (nn.LPPool2d, nn.FractionalMaxPool2d, nn.MaxUnpool2d, nn.Fold, nn.Unfold),
}  # fmt: skip

for _reason, _targets in _TABLE.items():
    for _target in _targets:
        REJECTED[_target] = _reason
