"""Folio as a library: the twin of the command line.

>>> model = folio.load("runs/demo")                                          # doctest: +SKIP
>>> model.generate("ROMEO:\\n", max_new_tokens=60, top_k=50, seed=1)         # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from folio.artifacts import ADAPTER_PART, MODEL_PART, new_folder, write_manifest
from folio.config import build
from folio.errors import ArtifactError, ConfigError, nearest
from folio.finetuning.adapters import verify_adapter
from folio.finetuning.chat import Chat
from folio.finetuning.lora import DEFAULT
from folio.generation.config import GenerationConfig
from folio.generation.engine import Generation, device_of, prompt_ids
from folio.model.config import GPTConfig
from folio.model.find import is_adapter, other_checkpoints
from folio.model.folder import ending, save_model
from folio.model.gpt import GPT
from folio.model.packed import PackedGPT, pack, packing_helps
from folio.model.quantized import quantize_int8
from folio.runtime import choose_device
from folio.shards import Shards
from folio.shards import open_shards as _open_shards
from folio.tokenizer import Tokenizer
from folio.tokenizer import load_tokenizer as _load_tokenizer
from folio.verbs.adapted import Adapters, Place, adapter_folder, moved, open_plain, place_of
from folio.verbs.hub import model_folder
from folio.verbs.recipe import Recipe, load_recipe

Dtype = Literal["fp32", "bf16", "fp16", "int8"]
TORCH_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32}


def load(
    path: str | Path,
    dtype: Dtype | torch.dtype | None = None,
    device: str | torch.device | None = None,
    base: str | Path | None = None,
) -> Model:
    """Open a run (its best checkpoint), a checkpoint, a Hugging Face-style folder, an adapter, or a hub id.

    ``dtype`` of the weights: "fp32" (the default), "bf16", "fp16", or "int8" (CPU only: for writing and scoring, not
    for saving). ``device``: "cpu", "cuda", "mps"; by default a GPU if there is one.

    An adapter, Folio's or PEFT's, is merged into its base, which is looked for where the adapter says unless ``base``
    names it: :class:`ArtifactError` if it is not there or is another than the adapter was made for.

    Every file that a manifest speaks of is compared with it first: :class:`ArtifactError` names a damaged one, and in a
    run the other checkpoints; no other is taken in its stead.
    """
    name = dtype_name(dtype)
    device = choose_device(str(device or "auto"))
    folder = model_folder(path)
    with _or_others(path, folder):
        if is_adapter(folder):
            verify_adapter(folder)
    place = place_of(folder, base)
    with _or_others(path, place.home):
        gpt = open_plain(place, device=device, dtype=TORCH_DTYPES[name])
    return Model(quantize_int8(gpt) if name == "int8" else gpt, place)


@contextmanager
def _or_others(path: str | Path, folder: Path) -> Iterator[None]:
    """Of a ``folder`` that is damaged in the run ``path``, the error names the run's other checkpoints."""
    try:
        yield
    except ArtifactError as error:
        remedy = other_checkpoints(path, folder) if Path(path) in folder.parents else ""
        raise ArtifactError(error.problem, remedy or error.remedy) from None


class Model:
    """A language model with its tokenizer.

    ``model(ids)`` gives logits, :meth:`generate` text, :meth:`score` log-probabilities. ``gpt`` is the module itself,
    ``adapter`` the name of the adapter that is merged into it, if one is.
    """

    def __init__(self, gpt: GPT, place: Place | Path, tokenizer: Tokenizer | None = None) -> None:
        self.gpt = gpt
        self.place = place if isinstance(place, Place) else Place(place)
        self.adapter: str | None = None
        self._adapters = Adapters(self.place.home)
        self._given_tokenizer = tokenizer
        if self.place.adapter is not None:
            self._adapters.expect(self.place.adapter, DEFAULT)
            self.adapter = DEFAULT

    @property
    def folder(self) -> Path:
        """Where it was opened from: a model folder, or that of the adapter in use."""
        return self.place.folder

    @property
    def config(self) -> GPTConfig:
        """The shape."""
        return self.gpt.config

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer in the adapter's folder or the model's; :class:`ArtifactError` if Folio reads none there."""
        return self._given_tokenizer or _load_tokenizer(self.place.tokenizer)

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """The ids that end a text besides the tokenizer's end-of-text, as the model's own files name them."""
        return self.place.end_ids(self.tokenizer) if self._given_tokenizer is None else ()

    @cached_property
    def _writer(self) -> GPT:
        return pack(self.gpt) if packing_helps(self.gpt) else self.gpt

    @cached_property
    def _kind(self) -> tuple[torch.device, torch.dtype, bool]:
        """Device and dtype of the weights, and whether they are int8: what every adapter's model is made to be."""
        weight = next(iter(self.gpt.norm.parameters()))
        return weight.device, weight.dtype, isinstance(self.gpt, PackedGPT)

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names that :meth:`set_adapter` knows."""
        return tuple(self._adapters.folders)

    def add_adapter(self, path: str | Path, name: str) -> None:
        """Make the adapter at ``path`` known under ``name``: a folder of Folio's or PEFT's, a checkpoint or a run.

        The model stays as it is until :meth:`set_adapter`. :class:`ArtifactError` for one that was made for another
        base, :class:`ConfigError` for a name that is taken.
        """
        self._adapters.add(adapter_folder(path), name)

    def set_adapter(self, name: str | None) -> None:
        """Become the base with the adapter ``name``, or with None the base alone: bit for bit what :func:`load` gives.

        ``gpt`` is then another module, in the same dtype and place. The base stays in memory in fp32, on the CPU, so
        that the next one needs no reading. :class:`ConfigError` for a name that no adapter has.
        """
        device, dtype, int8 = self._kind
        plain = self._adapters.plain(name)
        self.gpt = quantize_int8(plain) if int8 else moved(plain, device, dtype)
        self.adapter = name
        self.place = Place(self.place.home, None if name is None else self._adapters.folders[name])
        for made in ("tokenizer", "end_ids", "_writer"):
            self.__dict__.pop(made, None)

    @torch.no_grad()
    def __call__(self, ids: Tensor | np.ndarray | Sequence[Sequence[int]]) -> Tensor:
        """Logits, (B, T, vocab_size) in fp32, of int64 ids (B, T); padding rows of the head are not among them."""
        given = torch.as_tensor(ids, dtype=torch.int64, device=device_of(self.gpt))
        if given.ndim != 2:
            raise ValueError(f"ids have the shape {tuple(given.shape)}; (batch, time) is needed")
        if given.numel() and not 0 <= int(given.min()) <= int(given.max()) < self.config.vocab_size:
            raise ValueError(f"ids must lie in [0, {self.config.vocab_size})")
        logits: Tensor = self.gpt(given)
        return logits.float()

    def generate(self, prompt: str = "", **settings: Any) -> str:
        """What the model writes after ``prompt``, the prompt not included.

        ``settings`` are the keys of ``GenerationConfig``: max_new_tokens, temperature, top_k, top_p, min_p,
        repetition_penalty, seed, stop. :class:`ConfigError` for a key or value that cannot be.
        """
        return "".join(self.stream(prompt, **settings))

    def stream(self, prompt: str = "", **settings: Any) -> Iterator[str]:
        """The same, in pieces as they are written."""
        writing = Generation(self._writer, self.tokenizer, [prompt], build(GenerationConfig, settings), self.end_ids)
        return (piece.text for piece in writing if piece.text)

    def chat(self, messages: Sequence[Mapping[str, str]], **settings: Any) -> str:
        """What the model answers to a conversation: messages with ``role`` and ``content``, the last one the user's.

        They are written in the chat template of the model's own tokenizer, and the answer ends where the template ends
        one; white space around it is left out. ``settings`` are those of :meth:`generate`. :class:`ArtifactError` for a
        tokenizer without a template, :class:`DataError` for a conversation that it refuses.
        """
        chat = Chat.of(self.tokenizer, str(self.folder))
        config, end_ids = chat.stopping(build(GenerationConfig, settings)), (*self.end_ids, *chat.end_ids)
        writing = Generation(self._writer, self.tokenizer, [chat.ids(messages)], config, end_ids)
        return "".join(piece.text for piece in writing).strip()

    def score(self, prompt: str, continuation: str) -> float:
        """Summed natural log-probability of ``continuation`` after ``prompt``.

        The two are encoded apart, so the scored span is known in ids: a space between them belongs to either. An empty
        prompt is end-of-text. Beyond the context every id is scored with at least half a context before it.
        """
        context, scored = prompt_ids(self.tokenizer, prompt), self.tokenizer.encode(continuation)
        ids, block_size = context + scored, self.config.block_size
        total, start = 0.0, len(context)
        while start < len(ids):
            stop = min(len(ids), max(block_size + 1, start + max(1, block_size // 2)))
            window = torch.tensor([ids[max(0, stop - 1 - block_size) : stop]], device=device_of(self.gpt))
            nats = self.gpt.token_nats(window[:, :-1], window[:, 1:])
            total -= float(nats[0, start - stop :].cpu().double().sum())
            start = stop
        return total

    def save(self, path: str | Path) -> None:
        """Write a Hugging Face folder, whole or not at all; :class:`ArtifactError` if ``path`` holds something else."""
        if isinstance(self.gpt, PackedGPT):
            raise ArtifactError("int8 weights are for use, not for keeping", 'Load with dtype "fp32", then save.')
        with new_folder(Path(path), replace="model") as folder:
            save_model(
                self.gpt,
                folder,
                eos_id=self.tokenizer.eot_id,
                tokenizer_files=self.tokenizer.save_into,
                generation=ending(self.tokenizer.eot_id, self.end_ids),
                dtype=self.gpt.embed.weight.dtype,
            )
            write_manifest(folder, "model", self.config.model_dump(mode="json"), device=str(device_of(self.gpt)))


def as_dtype(gpt: GPT, dtype: Dtype | torch.dtype) -> GPT:
    """A copy of ``gpt`` for writing as fast as its device can: in that dtype, and with packed weights on a CPU."""
    name = dtype_name(dtype)
    if name == "int8":
        return quantize_int8(gpt)
    with torch.no_grad():
        state = {key: value.to(TORCH_DTYPES[name]) for key, value in gpt.state_dict().items()}
    from folio.model.build import allocate

    cast = allocate(gpt.config, device=device_of(gpt), dtype=TORCH_DTYPES[name]).eval()
    cast.load_state_dict(state, strict=True, assign=True)
    return pack(cast) if packing_helps(cast) else cast


def train(config: Recipe | Mapping[str, Any] | str | Path, out: str | Path | None = None) -> Path:
    """Train as ``folio train`` does and return the run's folder.

    ``config`` is a :class:`Recipe`, its tables as a mapping, a preset's name or the path of a TOML file. ``out`` is the
    run's folder; by default the first free name under ``runs/``.
    """
    from folio.ranks import joined
    from folio.verbs.action import Terminal
    from folio.verbs.pretraining import PretrainingJob
    from folio.verbs.run import start
    from folio.verbs.run_folder import fresh_folder
    from folio.verbs.train import recipe_name

    if isinstance(config, str | Path):
        recipe, name = load_recipe(str(config)), str(config)
    else:
        recipe = config if isinstance(config, Recipe) else build(Recipe, config)
        name = "custom"
    with joined(recipe.train.device, timeout_s=recipe.train.rank_timeout_s) as ranks:
        run = ranks.share(Path(out) if out is not None else fresh_folder(Path("runs") / recipe_name(name)))
        terminal = Terminal(quiet=True)
        start(PretrainingJob(recipe, name, terminal), run, terminal, ranks)
    return run


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer in a tokenizer folder, a model folder, an adapter, a checkpoint or a run; see its manifest."""
    folder = Path(path)
    if not (folder / "tokenizer.json").is_file() and (_holds_a_model(folder) or not folder.exists()):
        folder = model_folder(path)
        if is_adapter(folder) and not (folder / "tokenizer.json").is_file():
            folder = place_of(folder).tokenizer
    return _load_tokenizer(folder)


def _holds_a_model(folder: Path) -> bool:
    return is_adapter(folder) or any((folder / part).is_dir() for part in (MODEL_PART, ADAPTER_PART, "checkpoints"))


def open_shards(path: str | Path, tokenizer: Tokenizer | None = None, *, verify: bool = True) -> Shards:
    """Shards on disk; with a ``tokenizer``, refused if another one made them.

    Every byte is compared with the manifest's sha256; ``verify=False`` checks sizes and headers alone.
    """
    return _open_shards(Path(path), tokenizer, verify=verify)


def dtype_name(dtype: Dtype | torch.dtype | None) -> Dtype:
    """The name of a dtype, fp32 for None; :class:`ConfigError` for what weights cannot be."""
    names = {TORCH_DTYPES[name]: name for name in ("fp32", "bf16", "fp16")}
    name = "fp32" if dtype is None else names.get(dtype, str(dtype)) if isinstance(dtype, torch.dtype) else dtype
    if name in get_args(Dtype):
        return name  # type: ignore[return-value]
    guess = nearest(name, get_args(Dtype))
    raise ConfigError(
        f"there is no dtype '{name}'", f"Did you mean {guess}?" if guess else f"One of: {', '.join(get_args(Dtype))}."
    )
