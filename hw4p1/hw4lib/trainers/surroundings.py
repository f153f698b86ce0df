"""What decides the last bits of a training beside its configuration, and what has changed of it."""

import os

import torch

from ..reading import printable

# Variables by which a library takes other instructions or orders of summation.
VARIABLES = (
    "ATEN_CPU_CAPABILITY", "CUBLAS_WORKSPACE_CONFIG", "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_DEBUG_CPU_TYPE", "MKL_DYNAMIC", "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS", "NVIDIA_TF32_OVERRIDE", "OMP_DYNAMIC", "OMP_NUM_THREADS",
    "ONEDNN_DEFAULT_FPMATH_MODE", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)


def surroundings(device: str | torch.device, precision: torch.dtype) -> dict[str, str]:
    """Name -> value of what the results of sums and products depend on, all of it text."""
    device = torch.device(device)
    on_gpu = device.type == "cuda" and torch.cuda.is_available()
    facts = {
        "torch": torch.__version__,
        "the device": torch.cuda.get_device_name(device) if on_gpu else device.type,
        "the processor": torch.cpu.get_capabilities().get("cpu_name", "unknown"),
        "its instructions": torch.backends.cpu.get_cpu_capability(),
        "the precision": precision,
        "the number of threads": torch.get_num_threads(),
        "oneDNN": "on" if torch.backends.mkldnn.enabled else "off",
        "float32 products": torch.get_float32_matmul_precision(),
    }
    facts |= {name: os.environ.get(name, "not set") for name in VARIABLES}
    return {name: str(value) for name, value in facts.items()}


def changes(before: dict[str, str], now: dict[str, str]) -> str:
    """A note that names each value which is another one than `before`, or nothing."""
    changed = [
        f"{name} was {printable(before[name])[:60]}, {now[name]} now"
        for name in now if before.get(name, now[name]) != now[name]
    ]
    if not changed:
        return ""
    return (
        f"note: {'; '.join(changed)}: from here on the results may differ in their last bits from "
        "those of a run that was never stopped"
    )
