"""The ops of the corpus in plain PyTorch, as they are defined. Copy a function and put your kernel in its place.

Every op takes the parameters of a case and its tensors by name, and returns tensors by name. It sees the data of all
ranks: what ranks would exchange lies in one tensor. Nothing is imported but torch.
"""

from reference.attention import decode_step, partial_attention
from reference.combines import a2a_combine, correct_attn_out, gather_query, merge_attn_states, reduce_output
from reference.ownership import kv_groups, local_lengths, local_ranges, slot_mapping
from reference.packing import pack_seq, unpack_seq
from reference.prefill import prefill_parts, prefill_step

__all__ = [
    "a2a_combine",
    "correct_attn_out",
    "decode_step",
    "gather_query",
    "kv_groups",
    "local_lengths",
    "local_ranges",
    "merge_attn_states",
    "pack_seq",
    "partial_attention",
    "prefill_parts",
    "prefill_step",
    "reduce_output",
    "slot_mapping",
    "unpack_seq",
]
