"""How fast a step can be made here: the precision that the processor has, whether compiling pays. Asked, not known."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from detection.errors import MobileSSDError
from detection.processor import multiplies_bfloat16

log = logging.getLogger("mobilessd.train")
TRIAL_STEPS = 3
STEPS_A_ROUND = 50  # of a run, for each round of its trial of precisions, at most TRIAL_STEPS of them
FASTER = 0.95  # of its time, for a form that is taken in the place of the plain one
Step = Callable[[nn.Module], None]
KEPT_ACTIVATIONS = 0.8  # of what a compiled network would keep for its backward pass
WORTH_SECONDS = 600  # a shorter run than this is over before compiling has paid (1 to 3 minutes on a CPU)


def precisions(wanted: str, device: str) -> tuple[str, ...]:
    """What a run may compute in; where there are several, `fastest_precision` tries them. auto: bfloat16 on a GPU that has
    it, float16 on an older one; on a CPU float32, and bfloat16 if it has instructions for it: much faster on some, slower on
    others (depthwise convolutions have no fast kernels everywhere). Weights, norms' statistics, losses and the moving
    average are float32 in all of them. Raises MobileSSDError for float16 on a CPU."""
    if wanted != "auto":
        if wanted == "float16" and device == "cpu":
            raise MobileSSDError("precision float16 needs a GPU; use float32 or bfloat16 on a CPU")
        return (wanted,)
    if device.startswith("cuda"):
        return ("bfloat16",) if torch.cuda.is_bf16_supported(including_emulation=False) else ("float16",)
    return ("float32", "bfloat16") if device == "cpu" and multiplies_bfloat16() else ("float32",)


def settled(wanted: str, device: str, used: str) -> Any:
    """What config.yaml says of the precision, so that a run of it computes what this one does: that which a trial chose;
    "auto" where asking again gives the same."""
    return used if len(precisions(wanted, device)) > 1 else wanted


def trial_rounds(steps: int) -> int:
    """How many rounds of `fastest_precision` are worth their time in a run of so many steps."""
    return min(max(steps // STEPS_A_ROUND, 1), TRIAL_STEPS)


def fastest_precision(step: Callable[[str], None], tried: tuple[str, ...], rounds: int) -> tuple[str, float]:
    """The fastest of `tried` and the seconds of its step, each made `rounds` times in turns and the best counted, behind a
    first one that gets ready. Another than the first one has to be faster by 5 %. step(precision) makes one, of which
    nothing is kept."""
    seconds = dict.fromkeys(tried, math.inf)
    for turn in range(rounds + 1):
        for precision in tried:
            begun = time.perf_counter()
            step(precision)
            if turn:
                seconds[precision] = min(seconds[precision], time.perf_counter() - begun)
    best = min(tried, key=lambda precision: seconds[precision] / (1.0 if precision == tried[0] else FASTER))
    if len(tried) > 1:
        shown = ", ".join(f"{precision} {spent * 1e3:.0f} ms" for precision, spent in seconds.items())
        log.info("a trial of forward and backward: %s; %s is used", shown, best)
    return best, seconds[best]


@contextmanager
def nothing_learned(network: nn.Module) -> Iterator[None]:
    """A block of trial steps, behind which weights, the norms' statistics, gradients and torch's random numbers are as
    before."""
    rng = torch.get_rng_state()
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    try:
        yield
    finally:
        network.load_state_dict(kept)
        network.zero_grad(set_to_none=True)
        torch.set_rng_state(rng)


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
    False, True (without comparing), or "auto" (only where the run is long enough to pay for compiling). The caller puts
    batch norms' statistics and gradients back.
    """
    if wanted is False:
        return network
    plain = math.inf if wanted is True else parts * _seconds(network, part)  # the first one is slower than the others
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
    faster = fast < FASTER * plain
    against = "" if wanted is True else f" against {plain * 1e3:.0f}"
    verdict = "used" if faster else "not used"
    log.info("torch.compile: %.0f ms a step%s, after %.0f s of compiling: %s", fast * 1e3, against, spent, verdict)
    return other if faster else network


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
