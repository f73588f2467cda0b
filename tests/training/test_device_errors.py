"""What PyTorch's errors say: memory is short, the device is lost, or only a recording has failed."""

import pytest
import torch

from fusion_models.training.device_errors import lost_device, out_of_memory

SHORT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    MemoryError(),
]
LOST = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be ..."),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, ...`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    torch.AcceleratorError("HIP error: unspecified launch failure"),
]
NEITHER = [
    torch.AcceleratorError("CUDA error: operation not permitted when stream is capturing"),
    torch.AcceleratorError("CUDA error: operation failed due to a previous error during capture"),
    RuntimeError("Offset increment outside graph capture encountered unexpectedly."),
    RuntimeError("shapes do not match"),
    FloatingPointError("the loss is not finite"),
]


def said(error):
    return str(error)[:40]


@pytest.mark.parametrize("error", SHORT, ids=said)
def test_short_of_memory(error):
    assert out_of_memory(error)
    assert not lost_device(error)


@pytest.mark.parametrize("error", LOST, ids=said)
def test_a_device_that_is_lost(error):
    assert lost_device(error)
    assert not out_of_memory(error)


@pytest.mark.parametrize("error", NEITHER, ids=said)
def test_neither(error):
    assert not lost_device(error)
    assert not out_of_memory(error)


@pytest.mark.parametrize(("first", "memory", "lost"), [(SHORT[0], True, False), (LOST[0], False, True)], ids=said)
def test_what_ends_a_recording_does_not_hide_why_it_ended(first, memory, lost):
    def record():
        try:
            raise first
        finally:
            raise NEITHER[1]

    with pytest.raises(torch.AcceleratorError) as found:
        record()
    assert (out_of_memory(found.value), lost_device(found.value)) == (memory, lost)
