"""Folders of adapters: what is stored, checked and refused, and the model that they make."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tests.hub.adapters import IDS, our_logits, save_base, their_logits, trained
from tests.models.reference import tiny

import seedbed
from seedbed.base.errors import BundleError, UsageError
from seedbed.hub.adapter import save_adapter
from seedbed.hub.base import Base
from seedbed.hub.bundle import save_bundle
from seedbed.hub.model_contents import describe_adapter
from seedbed.models.network import build, family, initialize
from seedbed.nn.layout import Layout
from seedbed.nn.linear import linear_modules
from seedbed.peft.lora import Settings
from seedbed.text.training import train_tokenizer


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter of a tiny GPT-2, in `adapter` beside `base`."""
    base = Base.open(save_base(tmp_path / "base", "gpt2", "lm"))
    settings = Settings(rank=2)
    return save_adapter(tmp_path / "adapter", trained(base, None, settings), settings, base=base)


def change(folder: Path, **values: Any) -> None:
    """Change keys of adapter_config.json; None leaves one out."""
    file = folder / "adapter_config.json"
    kept = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in kept.items() if value is not None}))


def refused(folder: Path, **how: Any) -> str:
    with pytest.raises((BundleError, UsageError)) as caught:
        seedbed.load(folder, **how)
    said = str(caught.value)
    assert "\n" not in said and len(said) < 1000
    return said


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_dora", True),
        ("bias", "all"),
        ("lora_bias", True),
        ("layer_replication", [[0, 2]]),
        ("target_parameters", ["w"]),
        ("trainable_token_indices", [3]),
        ("alora_invocation_tokens", [3]),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", {"a": 1}),
        ("kasa_config", {}),
        ("use_rslora", "yes"),
        ("r", "8"),
        ("r", True),
        ("r", 0),
        ("r", 2.5),
        ("lora_alpha", "16"),
        ("lora_alpha", -1),
        ("lora_alpha", 10**400),
        ("lora_alpha", [1]),
        ("lora_dropout", 2),
        ("lora_dropout", {}),
        ("alpha_pattern", [1]),
        ("alpha_pattern", {"h.0.attn.c_attn": "x"}),
        ("alpha_pattern", {"(": 4}),
        ("alpha_pattern", {"(a+)+": 4}),
        ("alpha_pattern", {"a" * 300: 4}),
        ("peft_type", "IA4"),
        ("peft_type", ["LORA"]),
        ("peft_type", 7),
        ("base_model_name_or_path", 7),
        ("base_model_name_or_path", ""),
        ("base_model_name_or_path", "adapter"),
        ("base_model_name_or_path", "/absent/model"),
        ("base_model_name_or_path", "a\nb"),
        ("revision", 7),
    ],
)
def test_a_config_that_is_not_supported_is_one_line(adapter: Path, key: str, value: Any) -> None:
    change(adapter, **{key: value})
    if key == "revision":
        change(adapter, base_model_name_or_path="org/name")
    said = refused(adapter)
    if key not in ("base_model_name_or_path", "lora_dropout", "lora_alpha", "alpha_pattern"):
        assert key in said


@pytest.mark.parametrize(
    "key", ["r", "lora_alpha", "lora_dropout", "target_modules", "task_type", "revision"]
)
def test_a_key_that_is_missing_has_its_default(adapter: Path, key: str) -> None:
    change(adapter, **{key: None})
    assert seedbed.load(adapter).adapter is not None


def test_embeddings_and_whole_weights_are_refused(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    for name, expected in (
        ("base_model.model.transformer.wte.lora_embedding_A", "embedding"),
        ("base_model.model.lm_head.weight", "modules_to_save"),
        ("base_model.model.transformer.h.0.attn.c_attn.lora_magnitude_vector", "not supported"),
        ("base_model.model.transformer.h.9.attn.c_attn.lora_A.weight", "h.9"),
        ("x", "modules_to_save"),
    ):
        save_file(tensors | {name: torch.ones(2, 64)}, file)
        assert expected in refused(adapter)
    save_file({}, file)
    assert "no matrices" in refused(adapter)
    first = next(iter(tensors))
    save_file({name: tensor for name, tensor in tensors.items() if name != first}, file)
    assert "cut" in refused(adapter)
    save_file(tensors | {first: tensors[first].int()}, file)
    assert "not a float" in refused(adapter)
    save_file(tensors | {first: torch.ones(5, 5)}, file)
    assert "trained on" in refused(adapter)


def test_damaged_files_are_refused(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    content = file.read_bytes()
    for size in (0, 5, 100, len(content) - 7):
        file.write_bytes(content[:size])
        assert "truncated or damaged" in refused(adapter)
    file.unlink()
    assert "has no adapter_model.safetensors" in refused(adapter)
    (adapter / "adapter_model.bin").write_bytes(b"x")
    assert "pickle" in refused(adapter)
    file.write_bytes(content)
    for text in ("", "[]", "{", "\xff"):
        (adapter / "adapter_config.json").write_bytes(text.encode("latin-1"))
        assert "adapter_config.json" in refused(adapter)


@pytest.mark.parametrize(
    "own",
    ["", "[]", "{", '{"base": 7}', '{"labels": "a"}', '{"kind": "lm"}', '{"kind": "tagging"}', "[" * 9999],
)
def test_wrong_metadata_is_refused(adapter: Path, own: str) -> None:
    file = adapter / "adapter_model.safetensors"
    save_file(load_file(file), file, metadata={"seedbed": own})
    refused(adapter)


def test_another_base_is_refused_with_both_fingerprints(adapter: Path, tmp_path: Path) -> None:
    before = Base.open(tmp_path / "base").fingerprint
    shutil.rmtree(tmp_path / "base")
    save_base(tmp_path / "base", "gpt2", "lm", vocab_size=90)
    said = refused(adapter)
    assert before[:12] in said and Base.open(tmp_path / "base").fingerprint[:12] in said
    assert "90 tokens, not gpt2, 3 layers x 64, 101 tokens" in said
    llama = save_base(tmp_path / "llama", "llama", "lm")
    assert "another base" in refused(llama, adapter=adapter)
    file = adapter / "adapter_model.safetensors"
    save_file(load_file(file), file)
    assert "this llama has only projections such as" in refused(llama, adapter=adapter)


def test_an_adapter_of_an_adapter_is_refused(adapter: Path, tmp_path: Path) -> None:
    shutil.copytree(adapter, tmp_path / "second")
    change(tmp_path / "second", base_model_name_or_path=str(adapter))
    assert "merge that one first" in refused(tmp_path / "second")
    assert "is an adapter itself" in refused(adapter, adapter=adapter)
    assert "is not an adapter" in refused(tmp_path / "base", adapter=tmp_path / "base")
    base, settings = Base.open(adapter), Settings(rank=2)
    with pytest.raises(BundleError, match="merge it first"):
        save_adapter(tmp_path / "third", base.network(), settings, base=base)


def test_a_relative_base_is_found_from_here_and_from_the_adapter(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(adapter, base_model_name_or_path="../base")
    assert Path(Base.open(adapter).parent.path).samefile(tmp_path / "base")  # type: ignore[union-attr]
    change(adapter, base_model_name_or_path="base")
    monkeypatch.chdir(tmp_path)
    lm = seedbed.load("adapter")
    assert lm.adapter is not None and lm.adapter.base == "base"


def test_a_run_and_a_solution_have_the_adapter_as_their_model(adapter: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    adapter.rename(run / "adapter")
    assert Base.open(run).path == run / "adapter"
    solution = tmp_path / "run"
    (solution / "solution.toml").write_text('[model]\nname = "adapter"\n')
    assert Base.open(solution).path == run / "adapter" and seedbed.load(solution).adapter is not None
    (solution / "solution.toml").write_text('[model]\nname = "."\n')
    with pytest.raises(BundleError, match="does not name the model"):
        Base.open(solution)


def test_fingerprints_cover_the_base_and_the_adapter(adapter: Path, tmp_path: Path) -> None:
    def found() -> str:
        return Base.open(adapter).fingerprint

    first = found()
    assert first == found() != Base.open(tmp_path / "base").fingerprint
    change(adapter, lora_alpha=5)
    second = found()
    (tmp_path / "base" / "config.json").write_text((tmp_path / "base" / "config.json").read_text() + " ")
    assert len({first, second, found()}) == 3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_is_merged_saved_and_shown(adapter: Path, tmp_path: Path, dtype: str) -> None:
    lm = seedbed.load(adapter, dtype=dtype)
    types = {parameter.dtype for parameter in lm.module.parameters() if parameter.requires_grad}
    assert types == {torch.float32} and str(lm.module.dtype) == f"torch.{dtype}"
    assert "adapter lora, rank 2, 6,144 parameters" in repr(lm)
    expected = our_logits(lm).float()
    lm.merge()
    assert lm.adapter is None and "adapter" not in repr(lm)
    assert {parameter.dtype for parameter in lm.module.parameters()} == {lm.module.dtype}
    close = {"rtol": 1e-5, "atol": 1e-5} if dtype == "float32" else {"rtol": 0.02, "atol": 0.1}
    torch.testing.assert_close(our_logits(lm).float(), expected, **close)
    with pytest.raises(UsageError, match="no adapter to merge"):
        lm.merge()
    lm.save(tmp_path / "merged")
    if dtype == "float32":
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
        torch.testing.assert_close(their_logits(theirs, "decoder", "lm"), expected, **close)


def test_a_bfloat16_base_is_near_to_float32_and_gives_gradients(adapter: Path) -> None:
    """The difference is that of the base's own rounding: 8 bits of each number."""
    exact, rounded = (seedbed.load(adapter, dtype=dtype) for dtype in ("float32", "bfloat16"))
    expected = our_logits(exact)
    difference = (our_logits(rounded).float() - expected).norm() / expected.norm()
    assert 1e-5 < difference < 0.03  # 0.018 in 2026-11
    gradients = []
    for lm in (exact, rounded):
        module: Any = lm.module
        hidden = module(IDS[0], Layout.of([IDS.size(1)]))
        module.output(hidden).float().log_softmax(-1)[:, 5].sum().backward()
        own = [p.grad for p in module.parameters() if p.requires_grad]
        assert all(gradient is not None and gradient.dtype == torch.float32 for gradient in own)
        gradients.append(torch.cat([gradient.flatten() for gradient in own if gradient is not None]))
    assert (gradients[0] - gradients[1]).norm() < 0.1 * gradients[0].norm()  # 0.046 in 2026-11


def test_a_folder_is_replaced_only_by_itself_or_by_force(adapter: Path, tmp_path: Path) -> None:
    lm = seedbed.load(adapter)
    lm.save(adapter, card="# Again\n")
    assert (adapter / "README.md").read_text() == "# Again\n"
    with torch.no_grad():
        next(p for p in lm.module.parameters() if p.requires_grad).add_(1)
    with pytest.raises(BundleError, match="another adapter"):
        lm.save(adapter)
    lm.save(adapter, force=True)
    with pytest.raises(BundleError, match="which is not part of an adapter"):
        lm.save(tmp_path / "base", force=True)
    (adapter / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"notes\.txt"):
        lm.save(adapter, force=True)
    lm.merge()
    with pytest.raises(BundleError, match="which is not part of a bundle"):
        lm.save(adapter, force=True)
    assert not [path.name for path in tmp_path.iterdir() if "." in path.name]


def test_saving_does_not_change_the_network(adapter: Path, tmp_path: Path) -> None:
    lm = seedbed.load(adapter)
    lm.module.requires_grad_(True)
    before = {name: parameter.clone() for name, parameter in lm.module.named_parameters()}
    paths = [path for path, _ in linear_modules(lm.module)]
    lm.save(tmp_path / "again")
    assert all(parameter.requires_grad for parameter in lm.module.parameters())
    assert [path for path, _ in linear_modules(lm.module)] == paths
    assert all(torch.equal(p, before[name]) for name, p in lm.module.named_parameters())


def test_a_tokenizer_is_stored_where_it_differs(tmp_path: Path) -> None:
    base_tokenizer, other = (train_tokenizer(["ab ab ab"], "bpe", vocab_size=size) for size in (258, 259))
    config = tiny("gpt2", vocab_size=300)
    module = build(config).eval()
    initialize(module, torch.Generator().manual_seed(0))
    save_bundle(tmp_path / "base", module, base_tokenizer)
    base, settings = Base.open(tmp_path / "base"), Settings(rank=2)
    network = trained(base, None, settings)
    same = save_adapter(tmp_path / "same", network, settings, base=base, tokenizer=base.tokenizer)
    assert not (same / "tokenizer.json").exists()
    own = save_adapter(tmp_path / "own", network, settings, base=base, tokenizer=other)
    found = Base.open(own).tokenizer
    assert found is not None and found.fingerprint == other.fingerprint
    assert base.tokenizer is not None and base.tokenizer.fingerprint != other.fingerprint
    chat = type(other)(base.tokenizer._core, base.tokenizer.config | {"chat_template": "{{ messages }}"})
    with_template = save_adapter(tmp_path / "chat", network, settings, base=base, tokenizer=chat)
    assert seedbed.load(with_template).has_chat_template


def test_the_contents_are_described(adapter: Path, tmp_path: Path) -> None:
    found = describe_adapter(adapter)
    assert not found["problems"] and not found["lacks"]
    assert found["holds"]["method"] == "lora" and found["holds"]["parameters"] == "6,144"
    assert found["holds"]["base"] == f"{tmp_path / 'base'}, found" and "r 2" in found["holds"]["settings"]
    assert found["next"] == f'seedbed.load("{adapter}") in Python, with token ids'
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({name: tensor[:, :1].clone() for name, tensor in tensors.items()}, file)
    assert "load it with the base that it was trained on" in describe_adapter(adapter)["problems"][0]
    change(adapter, base_model_name_or_path="org/name")
    assert "which downloads org/name" in describe_adapter(adapter)["next"]
    change(adapter, base_model_name_or_path="/absent")
    assert "there is no model at /absent" in describe_adapter(adapter)["problems"][0]
    file.unlink()
    assert "has no adapter_model.safetensors" in describe_adapter(adapter)["problems"][0]


FULL = """
import resource, sys
from pathlib import Path
import seedbed
from seedbed.base.errors import HardwareError
folder = Path(sys.argv[1])
lm = seedbed.load(folder / "adapter")
before = {file.name: file.read_bytes() for file in (folder / "adapter").iterdir()}
for limit in (100, 2000, 20_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        lm.save(folder / "adapter", card="other")
    except HardwareError as error:
        assert "no space left to write" in str(error) and "\\n" not in str(error), error
    else:
        raise SystemExit("saved")
    assert {file.name: file.read_bytes() for file in (folder / "adapter").iterdir()} == before
    assert sorted(path.name for path in folder.iterdir()) == ["adapter", "base"]
"""

PEAK = """
import sys, torch
from pathlib import Path
import seedbed
from seedbed.base.runtime import begin_peak, peak_resident_bytes
folder = Path(sys.argv[1])
seedbed.load(folder / "adapter")  # what the first call imports does not count
before = begin_peak()
lm = seedbed.load(folder / "big")
opened = peak_resident_bytes() - before
lm.save(folder / "again")
print(opened, peak_resident_bytes() - before, sum(p.nbytes for p in lm.module.parameters()))
"""


def in_child(script: str, folder: Path) -> str:
    command = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_full_disk_is_reported_and_the_earlier_adapter_stays(adapter: Path) -> None:
    in_child(FULL, adapter.parent)


def test_a_base_is_in_memory_once(adapter: Path, tmp_path: Path) -> None:
    """Also where the adapter has a head of its own, and while it is saved and loaded again."""
    folder = tmp_path / "large"
    config = changed(family("bert").sized(1024, 2), vocab_size=50_000)
    module = build(config)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    base, settings = Base.open(save_bundle(folder, module)), Settings(rank=2)
    save_adapter(tmp_path / "big", trained(base, "classification", settings), settings, base=base)
    opened, saved, weights = map(int, in_child(PEAK, tmp_path).split())
    assert weights > 300e6 and weights * 0.9 < opened <= saved < weights + 140e6
