"""The C layouts and prototypes of the llama.cpp inside one exact `xllamacpp` wheel, as ctypes declarations.

Why it exists: that wheel exports llama.cpp's whole C interface, so a declaration is all it takes to have logits of
every token and batches of many sequences without a compiler. It declares; `llama.py` loads, checks and calls.
The layouts are facts of `include/llama.h` in that wheel's source distribution and are checked against the library's
own default values whenever it is loaded.
"""

import ctypes as c
from collections.abc import Mapping

WHEEL = "xllamacpp"
WHEEL_VERSION = "2026.10.11549"


class ModelParams(c.Structure):
    """`struct llama_model_params`."""

    _fields_ = (
        ("devices", c.c_void_p),
        ("tensor_buft_overrides", c.c_void_p),
        ("n_gpu_layers", c.c_int32),
        ("split_mode", c.c_int32),
        ("load_mode", c.c_int32),
        ("lazy_mode", c.c_int32),
        ("main_gpu", c.c_int32),
        ("tensor_split", c.c_void_p),
        ("progress_callback", c.c_void_p),
        ("progress_callback_user_data", c.c_void_p),
        ("kv_overrides", c.c_void_p),
        ("vocab_only", c.c_bool),
        ("check_tensors", c.c_bool),
        ("use_extra_bufts", c.c_bool),
        ("no_host", c.c_bool),
        ("no_alloc", c.c_bool),
        ("load_mtp", c.c_bool),
    )


class ContextParams(c.Structure):
    """`struct llama_context_params`."""

    _fields_ = (
        ("n_ctx", c.c_uint32),
        ("n_batch", c.c_uint32),
        ("n_ubatch", c.c_uint32),
        ("n_seq_max", c.c_uint32),
        ("n_rs_seq", c.c_uint32),
        ("n_outputs_max", c.c_uint32),
        ("n_outputs_max_per_seq", c.c_uint32),
        ("n_threads", c.c_int32),
        ("n_threads_batch", c.c_int32),
        ("ctx_type", c.c_int32),
        ("rope_scaling_type", c.c_int32),
        ("pooling_type", c.c_int32),
        ("attention_type", c.c_int32),
        ("flash_attn_type", c.c_int32),
        ("rope_freq_base", c.c_float),
        ("rope_freq_scale", c.c_float),
        ("yarn_ext_factor", c.c_float),
        ("yarn_attn_factor", c.c_float),
        ("yarn_beta_fast", c.c_float),
        ("yarn_beta_slow", c.c_float),
        ("yarn_orig_ctx", c.c_uint32),
        ("defrag_thold", c.c_float),
        ("cb_eval", c.c_void_p),
        ("cb_eval_user_data", c.c_void_p),
        ("type_k", c.c_int32),
        ("type_v", c.c_int32),
        ("moe_cache_size", c.c_size_t),
        ("abort_callback", c.c_void_p),
        ("abort_callback_data", c.c_void_p),
        ("embeddings", c.c_bool),
        ("offload_kqv", c.c_bool),
        ("no_perf", c.c_bool),
        ("op_offload", c.c_bool),
        ("swa_full", c.c_bool),
        ("kv_unified", c.c_bool),
        ("samplers", c.c_void_p),
        ("n_samplers", c.c_size_t),
        ("ctx_other", c.c_void_p),
    )


class Batch(c.Structure):
    """`struct llama_batch`."""

    _fields_ = (
        ("n_tokens", c.c_int32),
        ("token", c.c_void_p),
        ("embd", c.c_void_p),
        ("pos", c.c_void_p),
        ("n_seq_id", c.c_void_p),
        ("seq_id", c.c_void_p),
        ("logits", c.c_void_p),
    )


class ChatMessage(c.Structure):
    """`struct llama_chat_message`."""

    _fields_ = (("role", c.c_char_p), ("content", c.c_char_p))


class ChainParams(c.Structure):
    """`struct llama_sampler_chain_params`."""

    _fields_ = (("no_perf", c.c_bool),)


class TokenDataArray(c.Structure):
    """`struct llama_token_data_array`, over rows of `TOKEN_DATA`."""

    _fields_ = (("data", c.c_void_p), ("size", c.c_size_t), ("selected", c.c_int64), ("sorted", c.c_bool))


TOKEN_DATA = (("id", "i4"), ("logit", "f4"), ("p", "f4"))

LogCallback = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)
AbortCallback = c.CFUNCTYPE(c.c_bool, c.c_void_p)

_P, _S, _I, _B, _Z = c.c_void_p, c.c_char_p, c.c_int32, c.c_bool, c.c_size_t

PROTOTYPES = {
    "llama_version": (_S, ()),
    "llama_backend_init": (None, ()),
    "llama_log_set": (None, (LogCallback, _P)),
    "llama_model_default_params": (ModelParams, ()),
    "llama_context_default_params": (ContextParams, ()),
    "llama_model_load_from_file": (_P, (_S, ModelParams)),
    "llama_model_free": (None, (_P,)),
    "llama_model_get_vocab": (_P, (_P,)),
    "llama_model_n_ctx_train": (_I, (_P,)),
    "llama_model_chat_template": (_S, (_P, _S)),
    "llama_init_from_model": (_P, (_P, ContextParams)),
    "llama_free": (None, (_P,)),
    "llama_n_ctx": (c.c_uint32, (_P,)),
    "llama_get_memory": (_P, (_P,)),
    "llama_memory_clear": (None, (_P, _B)),
    "llama_memory_seq_cp": (None, (_P, _I, _I, _I, _I)),
    "llama_memory_seq_rm": (_B, (_P, _I, _I, _I)),
    "llama_decode": (_I, (_P, Batch)),
    "llama_get_logits_ith": (_P, (_P, _I)),
    "llama_set_abort_callback": (None, (_P, AbortCallback, _P)),
    "llama_vocab_n_tokens": (_I, (_P,)),
    "llama_vocab_is_eog": (_B, (_P, _I)),
    "llama_vocab_is_control": (_B, (_P, _I)),
    "llama_vocab_get_add_bos": (_B, (_P,)),
    "llama_tokenize": (_I, (_P, _S, _I, _P, _I, _B, _B)),
    "llama_token_to_piece": (_I, (_P, _I, _P, _I, _I, _B)),
    "llama_chat_apply_template": (_I, (_S, c.POINTER(ChatMessage), _Z, _B, _P, _I)),
    "llama_sampler_chain_init": (_P, (ChainParams,)),
    "llama_sampler_chain_add": (None, (_P, _P)),
    "llama_sampler_init_temp": (_P, (c.c_float,)),
    "llama_sampler_init_top_p": (_P, (c.c_float, _Z)),
    "llama_sampler_init_dist": (_P, (c.c_uint32,)),
    "llama_sampler_init_greedy": (_P, ()),
    "llama_sampler_init_grammar": (_P, (_P, _S, _S)),
    "llama_sampler_apply": (None, (_P, c.POINTER(TokenDataArray))),
    "llama_sampler_accept": (None, (_P, _I)),
    "llama_sampler_free": (None, (_P,)),
}

# What a fresh library answers where the layouts above are right; a shifted field shows at once.
MODEL_DEFAULTS: Mapping[str, object] = {
    "n_gpu_layers": -1,
    "split_mode": 1,
    "load_mode": -1,
    "lazy_mode": 1,
    "kv_overrides": None,
    "vocab_only": False,
    "use_extra_bufts": True,
    "load_mtp": False,
}
CONTEXT_DEFAULTS: Mapping[str, object] = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "n_outputs_max_per_seq": 1,
    "n_threads": 4,
    "rope_scaling_type": -1,
    "flash_attn_type": -1,
    "yarn_beta_slow": -1.0,
    "defrag_thold": -1.0,
    "type_k": 1,
    "type_v": 1,
    "abort_callback": None,
    "embeddings": False,
    "offload_kqv": True,
    "swa_full": True,
    "kv_unified": False,
    "n_samplers": 0,
}
