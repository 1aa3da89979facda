"""What this machine computes fast."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def cpu_computes_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware; False where torch is too old to say."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    abilities: Mapping[str, object] = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))
