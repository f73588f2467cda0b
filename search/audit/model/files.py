"""Opens a model: ONNX by onnxruntime, torch.export's pt2, or a callable by its import name. Nothing is unpickled."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]
PICKLES = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".bin")
WANTED = "give an .onnx file, a .pt2 file (torch.export), or package.module:callable"
CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class ModelError(ValueError):
    """A model that cannot be opened or does not score as it must: what, where and what to do, in one line."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A model that is ready to score."""

    name: str
    run: Callable[[Arrays], Any]
    """Input -> array, to scores."""
    names: Sequence[str] | None
    """Its inputs; None: a callable, which takes one dict of whatever it is given."""
    types: Mapping[str, npt.DTypeLike]
    """Of its inputs; float32 where nothing is said."""
    runtime: str
    positional: bool = False
    """Whether its inputs are known by their places alone; `types` are in their order."""


def require_known(model: str) -> None:
    """Raise ModelError for what is no model file and no import name, before a process is started for it."""
    path = Path(model)
    if path.suffix in (".onnx", ".pt2"):
        if not path.is_file():
            raise ModelError(f"--model {model} is not there: {WANTED}")
        return
    if path.suffix in PICKLES:
        raise ModelError(f"--model {model}: a {path.suffix} file runs code when it is opened, so it is not: {WANTED}")
    if not CALLABLE.fullmatch(model):
        raise ModelError(f"--model {model} is no model: {WANTED}")


def open_model(model: str, output: str, threads: int) -> Opened:
    """The model. Raises ModelError in one line."""
    require_known(model)
    if model.endswith(".onnx"):
        return _onnx(Path(model), output, threads)
    return _program(Path(model)) if model.endswith(".pt2") else _callable(model)


def _onnx(path: Path, output: str, threads: int) -> Opened:
    if importlib.util.find_spec("onnxruntime") is None:
        raise ModelError("onnxruntime is not installed: pip install 'fusion-search[export]'")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:
        said = first_line(error)
        unknown = re.search(r"([\w.]+):(\w+)\(-?\d+\) is not a registered", str(error))
        if unknown:
            said = f"the operator {unknown[2]} of {unknown[1]} is code of its own: export with standard operators"
        raise ModelError(f"{path} cannot be opened by onnxruntime: {said}") from error
    outputs = [entry.name for entry in session.get_outputs()]
    if output and output not in outputs:
        raise ModelError(f"{path} has no output {output!r}; it has {', '.join(outputs)}")
    kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
    kinds |= {"tensor(bool)": np.bool_, "tensor(int64)": np.int64, "tensor(int32)": np.int32}  # type: ignore[dict-item]
    types = {entry.name: kinds.get(entry.type, np.float32) for entry in session.get_inputs()}
    return Opened(
        name=path.name,
        run=lambda arrays: session.run([output or outputs[0]], dict(arrays))[0],
        names=[entry.name for entry in session.get_inputs()],
        types=types,
        runtime=f"onnxruntime, {session.get_providers()[0].removesuffix('ExecutionProvider')}",
    )


def _program(path: Path) -> Opened:
    """torch.export.load unpickles what its archive calls pickled: such files are refused."""
    _require_no_pickle(path)
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    import torch
    from torch.export.passes import move_to_device_pass

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        program = torch.export.load(path)
        if device != "cpu":
            program = move_to_device_pass(program, device)
        module = program.module()
    except Exception as error:
        raise ModelError(f"{path} cannot be opened by torch.export: {first_line(error)}") from error
    given = set(program.graph_signature.user_inputs)
    places = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in given]
    types = {node.name: _numpy_type(node.meta["val"].dtype) for node in places}

    def run(arrays: Arrays) -> npt.NDArray[Any]:
        with torch.inference_mode():
            inputs = [torch.from_numpy(np.ascontiguousarray(x)).to(device) for x in arrays.values()]
            found = module(*inputs)
        found = found[0] if isinstance(found, tuple | list) else found
        return np.asarray(found.float().cpu().numpy() if found.dtype == torch.bfloat16 else found.cpu().numpy())

    return Opened(
        name=path.name,
        run=run,
        names=[node.name for node in places],
        types=types,
        runtime=f"torch.export, {device}",
        positional=True,
    )


def _numpy_type(kind: Any) -> npt.DTypeLike:
    import torch

    found: npt.DTypeLike = torch.empty(0, dtype=kind).numpy().dtype
    return found


def _require_no_pickle(path: Path) -> None:
    """Of the archive's parts: no scripted objects, no pickled weights, and not the format of before torch 2.9."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            configs = [archive.read(n).decode() for n in names if n.endswith("_config.json")]
    except (zipfile.BadZipFile, OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} is no archive of torch.export: {first_line(error)}") from error
    if any(re.search(r'"use_pickle":\s*true', text) for text in configs) or any("custom_obj" in n for n in names):
        raise ModelError(f"{path} holds pickled objects, which are code: export a model of plain tensors")
    if any(name.endswith("serialized_state_dict.pt") for name in names):
        raise ModelError(f"{path} is of an old format that pickles its weights: save it again with torch 2.9 or newer")


def _callable(model: str) -> Opened:
    module, _, attribute = model.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise ModelError(f"--model {model} cannot be imported: {type(error).__name__}: {first_line(error)}") from error
    if not callable(found):
        raise ModelError(f"--model {model} is a {type(found).__name__}, which cannot be called")
    return Opened(name=model, run=found, names=None, types={}, runtime="Python")


def first_line(error: BaseException) -> str:
    """What an exception says first, in one line of 300 characters at the most."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return (" ".join(lines[:2]) if lines else type(error).__name__)[:300]
