"""The machine: its device, the precision of large products, the libraries' memory settings."""

import contextlib
import os
import platform

import torch

from backstage.errors import UserError

# Settings of the libraries under PyTorch with which sums are rounded otherwise, as other
# instructions compute them, or other shares of them are each thread's.
ROUNDING_SETTINGS = (
    "ATEN_CPU_CAPABILITY", "DNNL_CPU_ISA_HINTS", "DNNL_DEFAULT_FPMATH_MODE", "DNNL_MAX_CPU_ISA",
    "MKL_CBWR", "MKL_DEBUG_CPU_TYPE", "MKL_DOMAIN_NUM_THREADS", "MKL_DYNAMIC",
    "MKL_ENABLE_INSTRUCTIONS", "MKL_NUM_THREADS", "OMP_DYNAMIC", "OMP_THREAD_LIMIT",
    "ONEDNN_CPU_ISA_HINTS", "ONEDNN_DEFAULT_FPMATH_MODE", "ONEDNN_MAX_CPU_ISA",
)


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is a CUDA GPU if there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backend = {"cuda": torch.cuda, "mps": torch.backends.mps, "cpu": torch.cpu}.get(name)
    if backend is None:
        raise UserError(f"-device {name}: no such device; give auto, cpu, cuda or mps")
    if not backend.is_available():
        why = "there is none here (or torch was built without it); use -device cpu"
        raise UserError(f"-device {name}: {why}")
    return torch.device(name)


def choose_precision(name: str, device: torch.device, generating: bool = False) -> torch.dtype:
    """The dtype of large products.

    `auto` is float32, but bfloat16 where hardware multiplies it and nothing is generated.
    """
    if name == "int8":
        if not generating or device.type != "cpu":
            raise UserError(
                "-precision int8: only for -use and -prompt, on the CPU; give bf16 or fp32"
            )
        return torch.int8
    if name == "auto":
        name = "bf16" if multiplies_bfloat16(device) and not generating else "fp32"
    return torch.bfloat16 if name == "bf16" else torch.float32


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the hardware has units for bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


def mixed_precision(precision: torch.dtype, device: torch.device):
    """The context in which recurrent layers compute their products in `precision`.

    On a GPU these are of 19 bits (TF32) where bfloat16 was chosen: as fast as with 16, for the time
    goes to starting kernels. Autocast would take float16 there, in which the small gradients of a
    mean over all tokens vanish.
    """
    low = precision == torch.bfloat16
    if device.type == "cpu":
        return torch.autocast("cpu", torch.bfloat16, enabled=low)
    torch.backends.cudnn.allow_tf32 = low  # in the backward pass too
    return contextlib.nullcontext()


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """What a result depends on, to the bit, beside the program, its flags and its data."""
    about = torch.cpu.get_capabilities()
    settings = [f"{name}={os.environ[name]}" for name in ROUNDING_SETTINGS if name in os.environ]
    return {
        "torch": str(torch.__version__), "device": device.type,
        "threads": torch.get_num_threads(),
        "processor": str(about.get("cpu_name") or platform.machine()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "settings": " ".join(settings) or "none",
    }


def set_up_memory() -> None:
    """Two settings of the libraries under PyTorch, read when the first tensors are made."""
    # Large pages from Linux: fresh memory for a batch's tensors costs a seventh of the time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # oneDNN keeps code for the last 1,024 shapes that it met, up to half a megabyte each. Stories
    # and minibatches are brought to a few lengths, so that a quarter is enough.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
