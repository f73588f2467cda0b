"""Opens a model: ONNX by onnxruntime, torch.export's pt2, or a callable by its import name. Nothing is unpickled."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fusion_models.work.foreign import first_line

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
    ranks: Mapping[str, int] = field(default_factory=dict)
    """Dimensions that its inputs have, of those that say so."""
    output: str = ""
    """The one of its outputs that holds the scores, where they have names."""
    column: str = ""
    """Of its answer, where that has several numbers a document: a place, or the name of a class."""
    positional: bool = False
    """Whether its inputs are known by their places alone; `types` and `ranks` are in their order."""


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
    if model.endswith(".pt2"):
        return _program(Path(model), output)
    if output:
        raise ModelError(
            f"--model {model} is a function, which has one output: leave output = {output!r} out of --inputs"
        )
    return _callable(model)


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
        missing = re.search(r"External data path does not exist: (.*)", str(error))
        newer = re.search(r"(Unsupported model IR version|Current official support).*", str(error))
        if unknown:
            said = f"the operator {unknown[2]} of {unknown[1]} is code of its own: export with standard operators"
        elif missing:
            said = f"its weights lie in a file beside it that is not there: {missing[1]}"
        elif newer:
            said = f"it is newer than this onnxruntime ({newer[0]}): export it for an older opset"
        raise ModelError(f"{path} cannot be opened by onnxruntime: {said}") from error
    wanted_output, column = chosen(path, [entry.name for entry in session.get_outputs()], output)
    types = {entry.name: _onnx_type(path, entry) for entry in session.get_inputs()}
    return Opened(
        name=path.name,
        run=lambda arrays: session.run([wanted_output], dict(arrays))[0],
        names=list(types),
        types=types,
        ranks={entry.name: len(entry.shape) for entry in session.get_inputs() if entry.shape},
        output=wanted_output,
        column=column,
        runtime=f"onnxruntime, {session.get_providers()[0].removesuffix('ExecutionProvider')}",
    )


def chosen(path: Path, names: Sequence[str], asked: str) -> tuple[str, str]:
    """The output that holds the scores, and the column of it that does, if one is asked for.

    Raises ModelError where that cannot be known.
    """
    if not names:
        raise ModelError(f"{path} has no output that is an array: export a model that returns its scores")
    if asked in names:
        return asked, ""
    name, _, column = asked.rpartition(":")
    if asked and (name not in names or not column):
        raise ModelError(f"{path} has no output {asked!r}; it has {', '.join(names)}")
    if asked or len(names) == 1:
        return name or names[0], column
    if "scores" in names:
        return "scores", ""
    raise ModelError(
        f"{path} has the outputs {', '.join(names)}, and nothing says which are the scores: give --inputs a TOML file "
        f'with output = "{names[-1]}", or another of them'
    )


def _onnx_type(path: Path, entry: Any) -> npt.DTypeLike:
    """Of an input. Raises ModelError for one that takes no numbers."""
    kind = str(entry.type).removeprefix("tensor(").removesuffix(")")
    found = {"float": "float32", "double": "float64", "float16": "float16", "bool": "bool"}
    found |= {f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
    if kind not in found:
        what = "texts" if kind == "string" else str(entry.type)
        raise ModelError(
            f"{path}: its input {entry.name} takes {what}, and a dataset holds numbers: export what comes behind the "
            "encoder, give a callable that makes its inputs, or give --scores"
        )
    return np.dtype(found[kind])


def _program(path: Path, output: str) -> Opened:
    """torch.export.load unpickles what its archive calls pickled: such files are refused."""
    _require_no_pickle(path)
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    import torch
    from torch.export.graph_signature import InputKind
    from torch.export.passes import move_to_device_pass
    from torch.utils import _pytree as pytree

    device = "cuda" if torch.cuda.is_available() else "cpu"
    told: list[str] = []
    try:
        with _warnings_of("torch.export", told):
            program = torch.export.load(path)
        if device != "cpu":
            program = move_to_device_pass(program, device)
        module = program.module()
    except Exception as error:
        said = (told[-1] if told else first_line(error))[:300].rstrip(".")
        raise ModelError(
            f"{path} cannot be opened by torch.export of torch {torch.__version__}: {said}. Save it again with this "
            "version where another one saved it"
        ) from error
    specs = [spec for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    dtypes = {spec.arg.name: nodes[spec.arg.name].meta["val"].dtype for spec in specs if _is_tensor(path, spec.arg)}
    outputs = _outputs(program)
    output_name, column = chosen(path, list(outputs), output)
    place, taken = outputs[output_name], program.call_spec.in_spec

    def run(arrays: Arrays) -> Any:
        tensors = {
            name: torch.from_numpy(np.ascontiguousarray(x)).to(device=device, dtype=dtype)
            for x, (name, dtype) in zip(arrays.values(), dtypes.items(), strict=True)
        }
        leaves = [tensors[spec.arg.name] if _is_tensor(path, spec.arg) else spec.arg.value for spec in specs]
        positional, named = pytree.tree_unflatten(leaves, taken)
        with torch.inference_mode():
            return pytree.tree_leaves(module(*positional, **named))[place]

    return Opened(
        name=path.name,
        run=run,
        names=list(dtypes),
        types={name: _numpy_type(dtype) for name, dtype in dtypes.items()},
        ranks={name: nodes[name].meta["val"].dim() for name in dtypes},
        output=output_name,
        column=column,
        runtime=f"torch.export, {device}",
        positional=True,
    )


def _is_tensor(path: Path, argument: Any) -> bool:
    """Whether an argument of a program is a tensor; a number that was fixed at the export is handed over as it was.

    Raises ModelError for a number that varies.
    """
    kind = type(argument).__name__
    if kind not in ("TensorArgument", "ConstantArgument"):
        raise ModelError(
            f"{path}: its argument {argument.name} is a number that varies ({kind}), and a dataset holds arrays: "
            "export it as a tensor, or fixed"
        )
    return kind == "TensorArgument"


def _outputs(program: Any) -> dict[str, int]:
    """A program's outputs that are tensors: the keys of a dict that it returns, else their places, counted from 0."""
    spec, leaves = program.call_spec.out_spec, program.graph_signature.user_outputs
    keyed = spec.type is dict and len(spec.context) == len(leaves)
    names = [str(key) for key in spec.context] if keyed else [str(i) for i in range(len(leaves))]
    return {name: i for i, (name, leaf) in enumerate(zip(names, leaves, strict=True)) if isinstance(leaf, str)}


def _numpy_type(kind: Any) -> npt.DTypeLike:
    import torch

    if kind == torch.bfloat16:  # numpy has none: handed over as float32, and rounded there
        return np.float32
    found: npt.DTypeLike = torch.empty(0, dtype=kind).numpy().dtype
    return found


@contextlib.contextmanager
def _warnings_of(name: str, into: list[str]) -> Iterator[None]:
    """Last line of each warning that a logger gives while the block runs; nobody else sees it."""

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = logging.Formatter().format(record)
            into.append([line.strip() for line in text.splitlines() if line.strip()][-1])

    logger, handler = logging.getLogger(name), Kept()
    propagates, handlers = logger.propagate, logger.handlers
    logger.propagate, logger.handlers = False, [handler]
    try:
        yield
    finally:
        logger.propagate, logger.handlers = propagates, handlers


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
