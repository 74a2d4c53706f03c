"""Keeps the libraries of training from talking past us: bars, reports of what was loaded, and names they renamed."""

import warnings

import transformers


def quiet() -> None:
    """Let transformers and its kin say errors alone. TRL and peft use a name that transformers has renamed."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", "You are using 'rollout_func'", UserWarning)  # the lock pins TRL's version
    warnings.filterwarnings("ignore", r"`(is_)?gradient_checkpointing` is deprecated", FutureWarning)
