"""What does not convert, and the nearest thing that does.

The texts end up in `ConversionError` and on the book's page *What converts*.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import nn

from snnlib.conversion.registry import refuse

STATISTICS = "its statistics depend on the image: train with nn.BatchNorm2d, which folds"
PRODUCT = "a product of activations has no spiking form: use convolutions or linear layers"
_REASONS: dict[str, tuple[Any, ...]] = {
    "a spike count is a ReLU: train with nn.ReLU in its place": (
        nn.GELU, "gelu", nn.SiLU, "silu", nn.Mish, "mish", nn.ELU, "elu", nn.SELU, "selu", nn.CELU,
        "celu", nn.Softplus, "softplus", nn.Hardswish, "hardswish", nn.GLU, "glu", "square", "pow",
        "__pow__", "__rpow__", "exp", "log", "sqrt",
    ),
    "its slope is random in training: use nn.LeakyReLU with its mean slope": (nn.RReLU, F.rrelu),
    "not a ReLU: train with nn.ReLU, or nn.Hardtanh(0, 1) for a bounded unit; at the very end, "
    "return the logits before it": (
        nn.Tanh, "tanh", nn.Sigmoid, "sigmoid", nn.LogSigmoid, F.logsigmoid, nn.Softsign,
        F.softsign, nn.Softmin, F.softmin, "sign", "heaviside",
    ),
    STATISTICS: (
        nn.LayerNorm, "layer_norm", nn.GroupNorm, "group_norm", nn.LocalResponseNorm,
        F.local_response_norm, F.normalize, nn.RMSNorm, "rms_norm", "std", "var", "norm",
    ),
    PRODUCT: (
        nn.MultiheadAttention, F.multi_head_attention_forward, F.scaled_dot_product_attention,
        nn.Bilinear, "bilinear", nn.TransformerEncoderLayer, nn.TransformerEncoder,
    ),
    "a division by an activation: only constants can divide": ("__rdiv__", "reciprocal"),
    "it has a time of its own: unroll it, or train a feed-forward network": (
        nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell,
    ),
    'use nn.Upsample(mode="nearest"), or an nn.ConvTranspose2d that interpolates': (
        nn.UpsamplingBilinear2d, F.grid_sample,
    ),
    "a choice that depends on the images: use nn.MaxPool2d or torch.amax over one activation": (
        "topk", "sort", "argmax", "argmin", "kthvalue", "median", "gather", "eq", "__eq__", "ne",
    ),
    "it takes whole numbers: start the network at the real-valued activation after it": (
        nn.Embedding, nn.EmbeddingBag, "embedding",
    ),
    "its arithmetic is not one ReLU network's: use its counterpart among what converts": (
        nn.LPPool2d, nn.FractionalMaxPool2d, nn.MaxUnpool2d, nn.Fold, nn.Unfold,
    ),
}  # fmt: skip

for _reason, _targets in _REASONS.items():
    refuse(_reason, *_targets)
