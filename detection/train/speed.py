"""How fast a step can be made here: the precision that the processor has, whether compiling pays. Asked, not known."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from detection.errors import MobileSSDError

log = logging.getLogger("mobilessd.train")
TRIAL_STEPS = 3
Step = Callable[[nn.Module], None]
KEPT_ACTIVATIONS = 0.8  # of what a compiled network would keep for its backward pass
WORTH_SECONDS = 600  # a shorter run than this is over before compiling has paid (1 to 3 minutes on a CPU)


def choose_precision(wanted: str, device: str) -> str:
    """auto: bfloat16 on a GPU that has it, float16 on an older one, float32 on every CPU: bfloat16 there speeds up few
    of these layers (depthwise convolutions and their gradients have no fast kernels), also with AMX."""
    if wanted != "auto":
        if wanted == "float16" and device == "cpu":
            raise MobileSSDError("precision float16 needs a GPU; use float32 or bfloat16 on a CPU")
        return wanted
    if not device.startswith("cuda"):
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def autocast(precision: str, device: str) -> AbstractContextManager:
    """The context that a forward pass runs in."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.split(":")[0], {"bfloat16": torch.bfloat16, "float16": torch.float16}[precision])


def compile_network(network: nn.Module, sizes: int = 1) -> nn.Module:
    """The network through torch.compile, which works when it is first called, and again at each of `sizes` input sizes:
    one form for all of them would be slower than each of its own.

    What is cheap to compute again (norm, activation) is computed again in the backward pass in the place of being kept:
    measured on SSDLite V2 at batch 32 that is 3.2 GB in the place of 4.2, and no slower.
    """
    import torch._functorch.config as functorch

    functorch.activation_memory_budget = KEPT_ACTIVATIONS  # type: ignore[attr-defined]
    if sizes == 1:
        return torch.compile(network)  # type: ignore[return-value]
    import torch._dynamo.config as dynamo

    dynamo.recompile_limit = max(dynamo.recompile_limit, 2 * sizes)
    return torch.compile(network, dynamic=False)  # type: ignore[return-value]


def try_compile(
    network: nn.Module, step: Step, part: Step, parts: int, steps_left: int, wanted: bool | str, sizes: int = 1
) -> nn.Module:
    """The network compiled, where that is faster: both forms make a few steps without learning; it says what it saw.

    step: runs forward and backward once on a network; part: the same on one of `parts` parts of the batch. wanted:
    False, True (without comparing), or "auto" (only where the run is long enough to pay for compiling). Batch norms'
    statistics and gradients are put back afterwards.
    """
    if wanted is False:
        return network
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    try:
        plain = (
            math.inf if wanted is True else parts * _seconds(network, part)
        )  # the first one is slower than the others
        if plain * steps_left >= WORTH_SECONDS and wanted is not True:
            plain = parts * _seconds_a_step(network, part)
        if plain * steps_left < WORTH_SECONDS:
            log.info("compiling would not pay: about %.0f s to go without it", plain * steps_left)
            return network
        log.info("compiling, about a minute (on a busy machine three)")
        begun = time.perf_counter()
        other = compile_network(network, sizes)
        try:
            step(other)
        except Exception as error:  # a compiler that is missing or fails must not end a training
            log.warning("torch.compile failed (%s); going on without it", str(error).splitlines()[0][:120])
            return network
        spent = time.perf_counter() - begun
        fast = _seconds_a_step(other, step)
        faster = fast < 0.95 * plain
        against = "" if wanted is True else f" against {plain * 1e3:.0f}"
        verdict = "used" if faster else "not used"
        log.info("torch.compile: %.0f ms a step%s, after %.0f s of compiling: %s", fast * 1e3, against, spent, verdict)
        return other if faster else network
    finally:
        network.load_state_dict(kept)
        network.zero_grad(set_to_none=True)


def _seconds_a_step(network: nn.Module, step: Step) -> float:
    """The best of a few, behind a first one."""
    step(network)
    return min(_seconds(network, step) for _ in range(TRIAL_STEPS))


def _seconds(network: nn.Module, step: Step) -> float:
    begun = time.perf_counter()
    step(network)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun
