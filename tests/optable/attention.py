from tests.optable import boolean, case, normal, op

QKV = normal(2, 3, 4, 5), normal(2, 3, 6, 5), normal(2, 3, 6, 2)
op("scaled_dot_product_attention", case(*QKV), case(*QKV, is_causal=True), case(*QKV, scale=0.3),
   case(*QKV, boolean(4, 6)), case(*QKV, normal(4, 6)), case(*QKV, normal(2, 1, 4, 6)), case(*QKV, boolean(2, 1, 1, 6)),
   case(normal(4, 5), normal(6, 5), normal(6, 3)),
   case(normal(2, 4, 5), normal(2, 4, 5), normal(2, 4, 5), None, 0.0, True),
   case(normal(2, 6, 3, 4), normal(2, 2, 5, 4), normal(2, 2, 5, 4), enable_gqa=True),
   case(normal(0, 4, 5), normal(0, 4, 5), normal(0, 4, 5)), case(normal(1, 1, 1), normal(1, 1, 1), normal(1, 1, 1)))
PROJECTIONS = normal(12, 4), normal(12), None, None, False, 0.0, normal(4, 4), normal(4)
op("multi_head_attention_forward",
   case(normal(3, 2, 4), normal(5, 2, 4), normal(5, 2, 4), 4, 2, *PROJECTIONS),
   case(normal(3, 4), normal(5, 4), normal(5, 4), 4, 2, *PROJECTIONS, average_attn_weights=False),
   case(normal(3, 2, 4), normal(5, 2, 4), normal(5, 2, 4), 4, 2, None, normal(12), normal(1, 1, 4), normal(1, 1, 4),
        True, 0.0, normal(4, 4), normal(4), attn_mask=normal(3, 5), use_separate_proj_weight=True,
        q_proj_weight=normal(4, 4), k_proj_weight=normal(4, 4), v_proj_weight=normal(4, 4)))
