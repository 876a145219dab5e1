"""The types of arguments and results, by name: what the stubs are written from."""

# A type, and the arguments that have it; where None is the default it is added.
ARGUMENTS = {
    "Tensor": """
        input input1 input2 x x1 x2 y weight target targets tensor mask index indices src source key query value mat
        mat1 mat2 vec vec1 vec2 batch1 batch2 tensor1 tensor2 anchor positive negative log_probs grid theta
        boundaries sorted_sequence sorter values var pos_weight attn_mask src_mask tgt_mask memory_mask
        key_padding_mask src_key_padding_mask tgt_key_padding_mask memory_key_padding_mask tgt memory
        out_proj_weight out_proj_bias q_proj_weight k_proj_weight v_proj_weight static_k static_v running_mean
        running_var w_ih w_hh b_ih b_hh batch_sizes prepend append fweights aweights weights condition
        per_sample_weights offsets adjacency edges gradient new_state logits input_ target_ _weight _random_samples
        param val head_bias A B conv_w linear_w bn_rm bn_rv""",
    "Scalar": """
        alpha fill_value lambd margin a b gain correction posinf neginf nan rtol atol dx momentum from_ to threshold
        delta beta p norm_type eps maxnorm max_norm base mean std sigma median lower upper negative_slope min_val
        max_val label_smoothing dropout dropout_p scale tau lr weight_decay dampening rho lr_decay
        initial_accumulator_value tolerance_grad tolerance_change momentum_decay t0 layer_norm_eps init_scale
        growth_factor backoff_factor test_size start end step div_value new_factor clip_value padding_value decay
        new_scale rcond""",
    "TensorLike": "other min max elements test_elements obj loc rate low high probs",
    "builtins.bool": """
        keepdim inplace requires_grad bias affine batch_first bidirectional ceil_mode count_include_pad
        return_indices training train descending stable largest sorted accumulate include_self unbiased equal_nan
        size_average align_corners recompute_scale_factor retain_graph create_graph allow_unused amsgrad maximize
        copy non_blocking has_biases is_causal tgt_is_causal memory_is_causal src_is_causal decoupled_weight_decay
        elementwise_affine need_weights average_attn_weights small_images shortcut skips enabled cache_enabled
        error_if_nonfinite foreach validate_args use_reentrant preserve_rng_state unsafe leave_parametrized
        enforce_sorted strict use_buffers warn_only signed use_trivialization create_graph raise_exception
        full_matrices left unitriangular increasing transpose""",
    "builtins.int": """
        dim dim0 dim1 dim2 start_dim end_dim dimension diagonal offset groups num_groups num_channels num_classes
        num_features in_channels out_channels in_features out_features hidden_size input_size num_layers embed_dim
        num_heads d_model nhead dim_feedforward num_embeddings embedding_dim padding_idx kdim vdim n m k row col
        steps chunks batch_size num_workers prefetch_factor seed ignore_index blank decimals inplanes planes
        vocabulary width layers heads hidden context classes depth image_size patch_size latent proj_size
        upscale_factor downscale_factor divisor_override minlength bins num_samples count num_threads num_parameters
        max_iter max_eval history_size in1_features in2_features n_classes num_encoder_layers num_decoder_layers
        step_size T_max last_epoch total_steps epochs embed_dim_to_check growth_interval edgeitems linewidth
        precision new_interval segments total_length anneal_epochs reinterpreted_batch_ndims n_power_iterations
        opset_version columns cells N""",
    "Ints": """
        indices_or_sections size shape kernel_size stride padding dilation output_padding output_size dims shifts
        normalized_shape repeats""",
    "Sequence[builtins.int]": """
        sizes split_sizes pad milestones unflattened_size sample_shape batch_shape event_shape""",
    "DType": "dtype",
    "DeviceLike": "device",
    "builtins.str": """
        reduction mode padding_mode rounding_mode interpolation indexing approximate nonlinearity compute_mode name
        prefix line_search_fn anneal_strategy reduce device_type profile api_version padding_side orthogonal_map
        tensor_name title xlabel ylabel UPLO""",
    "MemoryFormat": "memory_format",
    "Optimizer": "optimizer",
    "builtins.dict[builtins.str, Any]": "state_dict param_group defaults",
    "Iterable[Module]": "modules",
    "Generator": "generator",
    "Sequence[Tensor]": "tensors",
    "Iterable[Any]": "params parameters",
    "tuple[Scalar, Scalar]": "betas etas step_sizes",
    "Module": "module model parametrization bn",
    "PathLike[builtins.str] | builtins.str": "path",
    "Callable[..., Any]": """
        hook func function fn avg_fn multi_avg_fn closure distance_function collate_fn lr_lambda predict""",
    "NDArray": "ndarray",
    "Tensor | None": "hx",
    "Scalar | Sequence[Scalar]": "output_ratio",
    "Any": "stream array data torch_only memo samples sampler activation",
}
# Of one function or class
OF = {
    "TensorLike": """
        where.other float_power.input pow.exponent float_power.exponent bucketize.input searchsorted.input
        index_fill.value masked_fill.value fill.value full.fill_value quantile.q nanquantile.q __pow__.other
        clamp_min.min Tensor.value pow.input xlogy.input mul.input add.input sub.input div.input __eq__.other
        __ne__.other Normal.scale Bernoulli.logits Categorical.logits""",
    "Tensor | Scalar": "clip_grads_with_norm_.total_norm normal.mean normal.std lerp.weight gaussian_nll_loss.var",
    "Tensor": "ParametrizationList.original lerp.end tensordot.a tensordot.b Embedding._weight heaviside.values",
    "Scalar": """
        threshold.value addcmul.value addcdiv.value pad.value scatter.value local_response_norm.k
        LocalResponseNorm.k SGD.lr histc.min histc.max log_normal_.mean PReLU.init""",
    "Tensor | None": """
        fuse_conv_bn_weights.conv_b fuse_conv_bn_weights.bn_w fuse_conv_bn_weights.bn_b fuse_linear_bn_weights.linear_b
        fuse_linear_bn_weights.bn_w fuse_linear_bn_weights.bn_b scatter.src batch_norm.running_mean
        batch_norm.running_var multi_head_attention_forward.bias_k
        multi_head_attention_forward.bias_v multi_head_attention_forward.in_proj_weight
        multi_head_attention_forward.in_proj_bias invert_permutation.permutation""",
    "Iterable[Tensor]": "pack_sequence.sequences pad_sequence.sequences",
    "PackedSequence": "pad_packed_sequence.sequence unpack_sequence.packed_sequences PackedSequence.data",
    "Distribution": "Independent.base_distribution kl_divergence.p kl_divergence.q",
    "_M": """
        weight_norm.module spectral_norm.module orthogonal.module remove_weight_norm.module
        remove_spectral_norm.module register_parametrization.module remove_parametrizations.module""",
    "_T": "GradScaler.outputs fuse_conv_bn_eval.conv fuse_linear_bn_eval.linear",
    "Sequence[Tensor]": "hstack.tensors index_put.indices lstm.hx lstm_cell.hx",
    "Any": """
        tensordot.dims min.dim max.dim min.other max.other var.dim std.dim Tensor.array Module.state_dict
        DataLoader.dataset images.size image_rows.size ModuleDict.modules Sequential.modules Dataset.index
        Subset.index TensorDataset.index
        Dataset.indices TensorDataset.indices Subset.indices ParameterDict.value ParameterList.value Module.value
        from_torch.tensor filters.weight heatmap.values ResNet.block Sequential.index ModuleList.index save.obj
        __getitem__.key __setitem__.key""",
    "Tensor | builtins.int": "repeat_interleave.repeats",
    "Tensor | Sequence[Tensor]": """
        grad.inputs grad.outputs grad.grad_outputs backward.tensors backward.grad_tensors backward.inputs
        gradcheck.inputs jacobian.inputs vjp.inputs vjp.v get_total_norm.tensors""",
    "builtins.int": """
        select.index select_scatter.index select.dim narrow.length local_response_norm.size LocalResponseNorm.size
        GCN.hidden random_.from_ random_.to combinations.r slice_scatter.start slice_scatter.end slice_scatter.step
        unfold.step unfold.size device.index ParameterList.index figure.width""",
    "Tensor | Sequence[builtins.int]": """
        pack_padded_sequence.lengths unpad_sequence.lengths ctc_loss.input_lengths ctc_loss.target_lengths""",
    "builtins.int | Tensor": "narrow.start",
    "Ints": """
        interpolate.size split.split_size_or_sections Upsample.size movedim.source movedim.destination
        moveaxis.source moveaxis.destination rot90.dims roll.dims vector_norm.dim matrix_norm.dim""",
    "Scalar | Sequence[Scalar]": "SWALR.swa_lr interpolate.scale_factor Upsample.scale_factor",
    "Sequence[builtins.int]": "ResNet.layers unflatten.sizes MLP.sizes",
    "tuple[Tensor, Tensor]": "LSTM.hx LSTMCell.hx",
    "builtins.str": """
        searchsorted.side index_reduce.reduce scatter.reduce Module.target device.type LeNet5.variant""",
    "DType | builtins.str | builtins.type[Any]": "type.dtype Module.dst_type",
    "builtins.bool": """
        Linear.bias Module.recurse set_grad_enabled.mode use_deterministic_algorithms.mode cholesky.upper
        solve_triangular.upper cholesky_solve.upper cholesky_inverse.upper""",
    "Ints | builtins.str": """
        conv1d.padding conv2d.padding conv3d.padding Conv1d.padding Conv2d.padding Conv3d.padding""",
    "DType": "finfo.type iinfo.type",
    "builtins.int | Sequence[builtins.int]": "flip.dims",
    "Iterable[Any]": "ParameterList.values",
    "Sequence[Scalar]": "random_split.lengths",
    "object": "is_tensor.obj device.other",
    "Scalar | builtins.str | None": "norm.p norm.ord cond.p",
    "Scalar | builtins.str": "matrix_norm.ord",
    "Ints | Sequence[builtins.int | None]": """
        adaptive_avg_pool2d.output_size adaptive_avg_pool3d.output_size adaptive_max_pool2d.output_size
        adaptive_max_pool3d.output_size AdaptiveAvgPool2d.output_size AdaptiveAvgPool3d.output_size
        AdaptiveMaxPool2d.output_size AdaptiveMaxPool3d.output_size""",
}
# *args, of all functions or of one
STARS = {"size": "Ints", "sizes": "Ints", "dims": "Ints", "shape": "Ints", "repeats": "Ints", "tensors": "Tensor",
         "matrices": "Tensor", "bounds": "builtins.int", "TensorDataset.tensors": "Any", "atleast_1d.tensors": "Any",
         "atleast_2d.tensors": "Any", "atleast_3d.tensors": "Any"}
# Where `dim` may be several
SEVERAL_DIMS = """
    sum nansum mean nanmean prod any all amax amin logsumexp norm std var std_mean var_mean squeeze count_nonzero
    normalize""".split()

# A type, and the functions, methods and properties that give it; the others give a Tensor.
RESULTS = {
    "builtins.bool": """
        is_tensor is_floating_point is_complex is_signed is_nonzero is_grad_enabled is_contiguous equal allclose
        is_same_size is_inference_mode_enabled is_pinned is_cuda is_cpu is_leaf __bool__ __contains__
        are_deterministic_algorithms_enabled is_autocast_enabled is_autocast_cache_enabled is_available is_enabled
        is_bf16_supported is_autocast_available gradcheck is_parametrized""",
    "builtins.int": """
        ndim dim ndimension numel nelement data_ptr get_device element_size itemsize nbytes __int__ __len__
        __index__ initial_seed seed get_num_threads device_count current_device memory_allocated memory_reserved
        get_growth_interval""",
    "builtins.float": "__float__ get_scale get_growth_factor get_backoff_factor",
    "builtins.str": "__format__ extra_repr get_float32_matmul_precision get_conv_precision get_device_name",
    "None": """
        __init__ __exit__ backward retain_grad
        set_default_dtype set_printoptions set_num_threads __setitem__ __delitem__
        save use_deterministic_algorithms set_float32_matmul_precision set_conv_precision __setattr__ __delattr__
        register_buffer register_parameter add_module zero_grad add_param_group set_rng_state clear update
        reset_parameters register_module clear_autocast_cache set_submodule set_extra_state
        set_device synchronize empty_cache manual_seed_all unscale_ set_growth_factor set_backoff_factor
        set_growth_interval clip_grad_value_ clip_grads_with_norm_ vector_to_parameters update_bn update_parameters
        curves confusion_matrix filters images image_rows boundary draw_boundary draw_points heatmap""",
    "Size": "shape broadcast_shapes",
    "Device": "device",
    "DType": "dtype get_default_dtype promote_types result_type get_autocast_dtype",
    "NDArray": "numpy __array__",
    "Any": """
        tolist item grad_fn hooks explain __reduce__ __dlpack__ to_torch load_state_dict unique
        unique_consecutive default_collate batch atleast_1d atleast_2d atleast_3d fractional_max_pool2d
        fractional_max_pool3d max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d
        adaptive_max_pool3d""",
    "_M": """
        weight_norm spectral_norm remove_weight_norm remove_spectral_norm register_parametrization
        remove_parametrizations""",
    "_T": "scale fuse_conv_bn_eval fuse_linear_bn_eval",
    "builtins.tuple[Parameter, Parameter]": "fuse_conv_bn_weights fuse_linear_bn_weights",
    "Summary": "summary",
    "SlogDet": "slogdet",
    "SVD": "svd",
    "QR": "qr",
    "Eigh": "eigh",
    "Lstsq": "lstsq",
    "Callable[..., Any]": "get_swa_avg_fn get_ema_avg_fn get_ema_multi_avg_fn wrap",
    "AbstractContextManager[Any]": "stream use cached figure",
    "PackedSequence": "pack_padded_sequence pack_sequence",
    "builtins.list[Tensor]": "unpack_sequence unpad_sequence originals",
    "builtins.list[builtins.str]": "get_arch_list",
    "builtins.type[Module]": "type_before_parametrizations",
    "Tensor | None": "invert_permutation",
    "Self": """
        train eval to cpu cuda float double half bfloat16 apply requires_grad_ __enter__ append extend insert
        clone_state""",
    "Iterator[Parameter]": "parameters",
    "Iterator[tuple[builtins.str, Parameter]]": "named_parameters",
    "Iterator[Tensor]": "buffers __iter__",
    "Iterator[tuple[builtins.str, Tensor]]": "named_buffers",
    "Iterator[Module]": "modules children",
    "Iterator[tuple[builtins.str, Module]]": "named_modules named_children",
    "builtins.dict[builtins.str, Any]": "state_dict",
    "builtins.tuple[Tensor, ...]": """
        chunk split tensor_split split_with_sizes hsplit vsplit dsplit unbind meshgrid broadcast_tensors
        unravel_index""",
    "Selection": "sort topk kthvalue mode cummax cummin",
    "builtins.tuple[Tensor, Tensor]": """
        var_mean std_mean aminmax frexp lstm_cell rnn_tanh rnn_relu gru
        pad_packed_sequence multi_head_attention_forward max_pool1d_with_indices max_pool2d_with_indices
        max_pool3d_with_indices
        adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices
        fractional_max_pool2d_with_indices fractional_max_pool3d_with_indices""",
    "builtins.tuple[Tensor, Tensor, Tensor]": "lstm",
    "builtins.tuple[builtins.int, builtins.int]": "__dlpack_device__ get_device_capability mem_get_info",
    "Generator": "manual_seed set_state",
}
# Of one class or module
RESULTS_OF = {
    "Tensor": """
        Tensor.to Tensor.cpu Tensor.cuda Tensor.float Tensor.double Tensor.half Tensor.bfloat16 Tensor.data Tensor.T
        Module.get_buffer Linear.forward Tensor.type_as torch.from_torch rnn.pad_sequence utils.clip_grad_norm_
        utils.get_total_norm utils.parameters_to_vector distributions.kl_divergence
        Distribution.sample Distribution.rsample Distribution.log_prob Distribution.cdf Distribution.icdf
        Distribution.entropy Distribution.perplexity Distribution.mean Distribution.mode Distribution.stddev
        Distribution.variance Distribution.enumerate_support""",
    "Self": "Tensor.requires_grad_ Module.type Distribution.expand PackedSequence.to",
    "Tensor | None": "Tensor.grad",
    "Any": """
        Tensor.array Tensor.__array_namespace__
        Module.__call__ Module.forward Module.__getattr__ Module.__dir__ Sequential.forward kdl.load
        AveragedModel.forward functional.jacobian functional.vjp Optimizer.step Dataset.__getitem__
        Subset.__getitem__ Identity.forward Tensor.__reduce__
        Sequential.__getitem__ ModuleList.__getitem__ ModuleDict.__getitem__ ParameterList.__getitem__
        ParameterDict.__getitem__ MaxPool1d.forward MaxPool2d.forward MaxPool3d.forward AdaptiveMaxPool1d.forward
        AdaptiveMaxPool2d.forward AdaptiveMaxPool3d.forward FractionalMaxPool2d.forward FractionalMaxPool3d.forward
        AdaptiveLogSoftmaxWithLoss.forward""",
    "builtins.bool": "Tensor.requires_grad Tensor.is_view",
    "builtins.int": "Tensor.output_index Size.numel kdl.numel",
    "builtins.list[builtins.int]": "Tensor.version",
    "Handle": """
        Tensor.register_hook Module.register_forward_hook Module.register_forward_pre_hook
        Module.register_full_backward_hook Module.register_full_backward_pre_hook Module.register_state_dict_pre_hook
        Module.register_state_dict_post_hook Module.register_load_state_dict_pre_hook
        Module.register_load_state_dict_post_hook Handle.__enter__""",
    "builtins.dict[builtins.str, Tensor]": "Module.state_dict",
    "None": """
        GradScaler.load_state_dict cuda.manual_seed plots.scatter
        Optimizer.load_state_dict ReduceLROnPlateau.step LRScheduler.step LRScheduler.load_state_dict
        DataLoader.load_state_dict Handle.remove Handle.__exit__ Handle.__init__ Tensor.__setitem__""",
    "builtins.list[builtins.float]": "LRScheduler.get_last_lr LRScheduler.get_lr",
    "Parameter": "Module.get_parameter",
    "Module": "Module.get_submodule onnx.load",
    "_M": "parametrizations.orthogonal",
    "AbstractContextManager[Any]": "cuda.device",
    "builtins.tuple[Tensor | None, ...]": "kdl.grad autograd.grad",
    "Iterator[Any]": "DataLoader.__iter__ Sequential.__iter__ ModuleList.__iter__ ParameterList.__iter__",
    "builtins.tuple[Tensor, ...]": "TensorDataset.__getitem__",
    "builtins.list[Subset]": "data.random_split",
    "builtins.list[Any]": "data.train_test_split",
    "builtins.tuple[Tensor, Tensor | None]": "MultiheadAttention.forward",
    "builtins.tuple[Tensor, builtins.tuple[Tensor, Tensor]]": "LSTM.forward",
    "builtins.tuple[Tensor, Tensor]": "GRU.forward RNN.forward LSTMCell.forward GATLayer.attend",
    "builtins.tuple[Tensor, Tensor, Tensor]": "VAE.forward",
    "builtins.tuple[Tensor, Any]": "CharLSTM.read",
    "ResNet": "models.resnet18 models.resnet20 models.resnet34 models.resnet50",
    "Generator": "kdl.manual_seed",
    "Iterator[builtins.str]": "ModuleDict.__iter__ ParameterDict.__iter__",
    "builtins.float": "init.calculate_gain",
}
