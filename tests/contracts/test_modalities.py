"""A modality is a dataset's: no list of their names stands in the code, but for what holds where nothing is said."""

import ast
from pathlib import Path

import pytest

from fusion_models.modalities import MODALITIES

ROOT = Path(__file__).parents[2]
BUILDERS = ("fusion_models/data/planted", "fusion_models/data/clipart_build")
"""What makes datasets of its own names them."""
DEFAULT = ROOT / "fusion_models" / "modalities.py"


def listed(source):
    """Lines of literal tuples, lists, sets and dicts that name two of the default modalities or more."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            parts = node.elts
        elif isinstance(node, ast.Dict):
            parts = [key for key in node.keys if key is not None]
        else:
            continue
        names = {part.value for part in parts if isinstance(part, ast.Constant)}
        if len(names & set(MODALITIES)) > 1:
            found.append(node.lineno)
    return found


def fields(source):
    """Fields of classes, and keyword arguments, that are called as two of the default modalities are."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            names = [n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
        elif isinstance(node, ast.arguments):
            names = [argument.arg for argument in (*node.args, *node.kwonlyargs)]
        else:
            continue
        if len(set(names) & set(MODALITIES)) > 1:
            found.append(getattr(node, "lineno", 0))
    return found


@pytest.mark.parametrize("package", ["fusion_models", "search", "spaces"])
def test_no_list_of_the_default_names_stands_in_the_code(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        if path == DEFAULT or place.startswith(BUILDERS):
            continue
        source = path.read_text()
        assert not listed(source), f"{place}: a list of modalities, in line {listed(source)}: ask the dataset"
        assert not fields(source), f"{place}: fields named after modalities, in line {fields(source)}: ask the dataset"


def test_a_list_is_found():
    assert listed('x = ["text", 1, "visual"]') == [1] == listed('\n{"metadata": 1, "text": 2}'[1:])
    assert fields("class A:\n    visual: int\n    text: int = 1") == [1]
    assert not listed('x = ("text", "title")')
    assert not fields("def f(text, title): ...")
