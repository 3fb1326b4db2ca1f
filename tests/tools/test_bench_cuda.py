import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "bench_cuda.py"
torch = pytest.importorskip("torch")
bench_cuda = pytest.importorskip("bench_cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to measure")
def test_without_a_gpu_it_says_so_and_claims_nothing():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "error: torch sees no GPU; nothing was measured\n"


def test_what_is_outside_convolutions():
    kernels = {
        "sm90_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nhwc": 5.0,
        "void cudnn::ops::nchwToNhwcKernel<float, float, float>": 1.0,
        "void onnx_snn::(anonymous namespace)::if_neuron<float>": 2.0,
        "void onnxruntime::cuda::_UnaryElementWise<float>": 1.0,
        "Memcpy DtoD (Device -> Device)": 0.5,
        "void cudnn::pooling_fw_4d_kernel<float>": 0.5,
    }
    assert bench_cuda.outside_layers(kernels) == 0.4
