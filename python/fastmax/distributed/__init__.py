"""Attention over a sequence whose tokens are spread over the ranks of a `torch.distributed` group.

`sequence_parallel_attention` exchanges states, S = sum_m w_m phi(k^_m) [v_m, 1], never tokens: what a rank sends does
not depend on how many tokens there are.
"""

from fastmax.distributed._attention import sequence_parallel_attention

__all__ = ["sequence_parallel_attention"]
