"""Where the checks of the CUDA kernels run: a GPU, or for comparison the CPU."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

import onnx_snn
from cuda_driver import CudaDriver, NoGpuError
from neuron_model import neuron_model
from onnx_snn.session import LIBRARY_NAME

ROOT = Path(__file__).resolve().parent.parent
ERRORS_ONLY, FATAL_ONLY = 3, 4


@dataclass
class Target:
    """Where models run.

    Attributes:
        device: "cuda" or "cpu", as onnxruntime calls memory.
        library: the native operators.
        driver: of the GPU; None on the CPU.
    """

    device: str
    library: Path
    driver: CudaDriver | None

    def session(
        self,
        model: bytes,
        *,
        device: str = "",
        strict: bool = False,
        profile: str = "",
        optimised: str = "",
        graph: bool = False,
    ) -> ort.InferenceSession:
        """Open a model.

        Args:
            model: the file's content.
            device: where, if not on this target's device.
            strict: whether a node that a GPU target would leave to the CPU is an error.
            profile: start of the name of a profile to write.
            optimised: a file to write, the model as it is run.
            graph: whether to capture a CUDA graph.
        """
        options = ort.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        options.register_custom_ops_library(str(self.library))
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, profile
        if optimised:
            options.optimized_model_filepath = optimised
        providers: list[Any] = ["CPUExecutionProvider"]
        if (device or self.device) == "cuda":
            assert self.driver is not None
            settings = {"use_tf32": "0", "user_compute_stream": str(self.driver.stream)}
            if graph:
                options.log_severity_level = FATAL_ONLY  # a refusal is an answer
                settings["enable_cuda_graph"] = "1"
            providers.insert(0, ("CUDAExecutionProvider", settings))
            if strict:
                options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
                providers.pop()
        return ort.InferenceSession(model, options, providers=providers)


def build_library() -> Path:
    """Build the native library with its CUDA kernels."""
    folder = ROOT / "build" / "gpu_check"
    for command in (
        ["cmake", "-S", str(ROOT / "custom_ops"), "-B", str(folder), "-DONNX_SNN_CUDA=ON"],
        ["cmake", "--build", str(folder), "--parallel"],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            sys.exit("error: cmake is not installed; build elsewhere and give --library PATH")
        if done.returncode != 0:
            sys.exit(f"error: the library does not build\n{(done.stdout + done.stderr)[-2000:]}")
    return next(folder.rglob(LIBRARY_NAME))


def open_target(provider: str, library: Path | None) -> Target:
    """Return the device asked for, "cuda" or "cpu"; ends the program where it is not there.

    Args:
        provider: which.
        library: the native operators; None: those installed, or for CUDA those built here.
    """
    if provider == "cpu":
        return Target("cpu", library or Path(onnx_snn.get_library_path()), None)
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        sys.exit("error: this onnxruntime has no CUDA provider; install onnxruntime-gpu")
    try:
        driver = CudaDriver()
    except NoGpuError as error:
        sys.exit(f"error: {error}; nothing was checked")
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    target = Target("cuda", library or build_library(), driver)
    if "CUDAExecutionProvider" not in target.session(neuron_model(np.float32, {})).get_providers():
        sys.exit(
            "error: onnxruntime could not start its CUDA provider; the versions of CUDA and cuDNN "
            "that it needs must be installed"
        )
    return target
