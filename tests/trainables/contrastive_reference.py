"""Contrastive losses as the papers write them, by double loop: what the tests of both forms of CSI compare with."""

from __future__ import annotations

import torch


def cosine(a, b):
    return (a * b).sum() / (a.norm() * b.norm())


def pairwise(p, positives_of, *, temperature):
    """Mean over anchors of −mean over positives of log(exp(s_ip) / sum over a ≠ i of exp(s_ia)), double loop."""
    total, anchors = 0.0, 0
    for i in range(len(p)):
        denominator = sum(torch.exp(cosine(p[i], p[a]) / temperature) for a in range(len(p)) if a != i)
        positives = positives_of(i)
        if positives:
            terms = [torch.log(torch.exp(cosine(p[i], p[j]) / temperature) / denominator) for j in positives]
            total, anchors = total - sum(terms) / len(positives), anchors + 1
    return total / anchors
