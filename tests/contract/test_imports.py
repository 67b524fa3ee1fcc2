"""What importing costs, and that a bare install imports everything."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from folio.cli import VERBS

CORE = {"torch", "numpy", "tokenizers", "tiktoken", "safetensors", "pydantic", "tyro", "rich"}
OPTIONAL = {
    *("transformers", "huggingface_hub", "pyarrow", "datasets", "datatrove", "zstandard", "lm_eval", "peft"),
    *("bitsandbytes", "openai", "fastapi", "uvicorn", "sse_starlette", "gguf", "onnx", "onnxscript", "onnxruntime"),
    *("gensim", "matplotlib", "tensorboard", "wandb", "rustbpe", "psutil", "pytest", "hypothesis"),
    *("fsspec", "py3langid", "ray", "loguru"),
}
LOADED = "import json, sys; print(json.dumps([name for name in sys.modules if '.' not in name]))"


def loaded_after(code: str) -> set[str]:
    """The top-level modules in a fresh interpreter after ``code``."""
    answer = subprocess.run([sys.executable, "-c", f"{code}\n{LOADED}"], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return set(json.loads(answer.stdout.splitlines()[-1]))


def test_import_folio_loads_nothing_heavy() -> None:
    assert not loaded_after("import folio") & (CORE | OPTIONAL)


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["trian"]], ids=" ".join)
def test_the_overview_loads_nothing_heavy(args: list[str]) -> None:
    assert not loaded_after(f"from folio.cli import main; main({args})") & (CORE | OPTIONAL)


def test_verbs_load_torch_only_when_they_run() -> None:
    modules = [module for module, _ in VERBS.values()]
    code = f"import importlib\nfor name in {modules}: importlib.import_module(name).ACTIONS"
    assert not loaded_after(code) & ({"torch"} | OPTIONAL)


def test_a_bare_install_imports_every_module() -> None:
    code = f"""
import importlib, pkgutil, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {OPTIONAL!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import folio
count = 0
for module in pkgutil.walk_packages(folio.__path__, "folio."):
    if module.name != "folio.__main__":
        importlib.import_module(module.name)
        count += 1
assert count > 20, count
"""
    assert not loaded_after(code) & OPTIONAL
