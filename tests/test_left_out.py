"""What of torch's public names kdl does not have, and why: every name that is missing stands here, and no other.

Compared are the functions of torch, and what tensors, nn, nn.functional, modules, optim, nn.utils and linalg have.
"""
import inspect
import re

import pytest

import kdl

torch = pytest.importorskip("torch", reason="compared with torch: pip install 'kdl-kernels[test]'")

# The reason, and the names as patterns
LEFT_OUT = {
    "complex numbers, and what real ones have only for them": """
        angle cdouble cfloat chalf complex conj conj_physical_? imag is_conj is_neg isreal polar real resolve_conj
        resolve_neg view_as_complex view_as_real eig eigvals stft istft""",
    "sparse tensors": """
        .*sparse.* (ccol|col|crow|row)_indices indices values coalesce is_coalesced dense_dim to_dense .*spmm smm
        h?saddmm hspmm hsmm dsmm sspaddmm SparseAdam""",
    "quantised tensors, and dtypes that NumPy lacks": """
        .*quant.* q_.* qscheme int_repr fbgemm_.* fused_moving_avg_obs_fake_quant choose_qparams_optimized
        .*scaled_(grouped_)?mm grouped_mm (Scaling|Swizzle)Type dequantize""",
    "other devices, several processes": """
        ipu mtia xpu is_(ipu|maia|meta|mkldnn|mps|mtia|vulkan|xla|xpu) is_vulkan_available (mkldnn|miopen|cudnn)_.*
        to_mkldnn is_distributed is_shared share_memory_? to_empty skip_init DataParallel SyncBatchNorm
        batch_norm_(stats|elemt|gather.*|update_stats|backward.*) get_default_device set_default_device get_device
        get_device_module record_stream""",
    "memory underneath: a tensor is an array, which has strides and a base": """
        as_strided.* empty_strided empty_permuted new_empty_strided storage.* untyped_storage resize_?(as_?)?
        resize_as_? set_ is_set_to const_data_ptr layout dim_order narrow_copy slice_inverse unsafe_.* from_file
        nonzero_static new is_storage .*_copy to_padded_tensor is_nested is_inference""",
    "torch's own machinery: compiling, tracing, transforming, subclasses, switches of its backends": """
        compile fork wait cond while_loop vmap sym_.* parse_.* import_ir.* merge_type.* unify_type_list typename
        .*torch_function.* boolean_dispatch assert_int_or_pair BroadcastingList. .*_notes GRID_.* DType Callable
        Optional TYPE_CHECKING Tensor factory_kwargs as_subclass module_load name output_nr grad_dtype hash_tensor
        reinforce T_destination call_super_init dump_patches swap_in_optimizer_params_and_state
        autocast_(in|de)crement_nesting .*anomaly.* compiled_with_cxx11_abi get_file_path .*deterministic_debug_mode
        (set|is)_warn_always.* is_deterministic_algorithms_warn_only_enabled set_flush_denormal .*interop_threads
        init_num_threads set_autocast_.* (get|is)_autocast_(cpu|gpu|ipu|xla).* prepare_multiprocessing_environment
        volatile retains_grad register_post_accumulate_grad_hook profiler_allow.* Uninitialized.* classproperty
        thread_safe_generator index""",
    "internal forms of what nn.functional has": """
        native_.* convolution batch_norm instance_norm embedding embedding_bag embedding_renorm_ ctc_loss kl_div
        dropout_? (feature_)?alpha_dropout_? feature_dropout_? .*_loss binary_cross_entropy_with_logits
        constant_pad_nd grid_sampler.* affine_grid_generator adaptive_max_pool1d norm_except_dim
        (frobenius|nuclear)_norm segment_reduce scalar_tensor detach fill conv_tbc RNNBase RNNCellBase""",
    "deprecated, or of old": """
        (matrix_rank|cholesky|qr|svd|lstsq|symeig|triangular_solve|solve|lu|range|set_default_tensor_type|to_dlpack)
        ger upsample(_bilinear|_nearest)? clip_grad_norm register_backward_hook Container NLLLoss2d CrossMapLRN2d""",
    "factors for reuse and for LAPACK's own steps: inv, solve and lstsq are there": """
        cholesky_ex inv_ex solve_ex ldl_.* lu_.* householder_product geqrf orgqr ormqr tensorinv tensorsolve lobpcg
        (svd|pca)_lowrank""",
    "one element after the other in Python": "apply_ map_ map2_",
    "rare so far: a formula over what is there": """
        i0_? igammac?_? (bartlett|blackman|hamming|hann|kaiser)_window gradient histogram(dd)? can_cast binomial
        renorm_ ldexp_ mvlgamma_ polygamma_ linear_cross_entropy LinearCrossEntropy.* Adafactor Muon
        convert_conv.d_weight_memory_format""",
}


def missing():
    """Every public name of torch's that kdl lacks, by where it is looked for."""
    found = {}
    for place, ours, theirs in (
            ("torch", kdl, torch), ("Tensor", kdl.Tensor, torch.Tensor), ("nn", kdl.nn, torch.nn),
            ("functional", kdl.nn.functional, torch.nn.functional), ("Module", kdl.nn.Module, torch.nn.Module),
            ("optim", kdl.optim, torch.optim), ("utils", kdl.nn.utils, torch.nn.utils),
            ("linalg", kdl.linalg, torch.linalg)):
        for name in dir(theirs):
            value = inspect.getattr_static(theirs, name)
            wanted = inspect.isroutine(value) if theirs is torch else not inspect.ismodule(value)
            if wanted and not name.startswith("_") and not hasattr(ours, name):
                found.setdefault(name, []).append(place)
    return found


def test_what_is_missing_is_left_out_for_a_reason():
    patterns, names = " ".join(LEFT_OUT.values()).split(), missing()
    unsaid = {name: places for name, places in names.items() if not any(re.fullmatch(p, name) for p in patterns)}
    assert not unsaid, "neither there nor left out"
    needless = [p for p in patterns if not any(re.fullmatch(p, name) for name in names)]
    assert not needless, "left out, but there or unknown to torch"
