"""Models by their name on the hub, from a server on this machine, with huggingface_hub as users have it."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import seedbed
from seedbed.base.errors import BundleError
from seedbed.hub.bundle import save_bundle
from seedbed.hub.download import NAME
from seedbed.hub.locate import hub_name, locate
from seedbed.models.network import build, family, initialize
from seedbed.text.training import train_tokenizer

CLIENT = """
import json, sys
from seedbed.generation.loading import load
from seedbed.hub.locate import locate
from seedbed.base.errors import SeedbedError
for name, how in json.loads(sys.argv[1]):
    try:
        if how.pop("load", False):
            said = sum(p.sum().item() for p in load(name, **how).module.parameters())
        else:
            said = str(locate(name, **how))
    except SeedbedError as error:
        said = f"{type(error).__name__}: {error}"
    print(json.dumps(said))
"""


@pytest.fixture(scope="session")
def hub_module() -> Any:
    spec = importlib.util.spec_from_file_location("hub_server", Path(__file__).with_name("hub_server.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def hub(hub_module: Any) -> Iterator[Any]:
    serving: AbstractContextManager[Any] = hub_module.serve()
    with serving as hub:
        yield hub


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small model's files, and others that are not needed."""
    module = build(family("gpt2").sized(64, 2)).eval()
    initialize(module, torch.Generator().manual_seed(0))
    tokenizer = train_tokenizer(["a text to learn from"], "bpe", vocab_size=300)
    folder = save_bundle(tmp_path_factory.mktemp("hub") / "bundle", module, tokenizer)
    needless = dict.fromkeys(("tf_model.h5", "onnx/model.safetensors", "flax_model.msgpack"), b"x" * 100)
    return {file.name: file.read_bytes() for file in folder.iterdir()} | needless


@pytest.fixture
def ask(hub: Any, tmp_path: Path) -> Any:
    """Let a process of its own load or locate models with the hub's address and an empty cache."""

    def run(
        *requests: tuple[str, dict[str, Any]], largest_file_bytes: int | None = None, **environment: str
    ) -> list[Any]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        command = [sys.executable, "-c", CLIENT, json.dumps(requests)]
        if largest_file_bytes is not None:
            command = ["bash", "-c", f'ulimit -f {largest_file_bytes // 1024}; exec "$@"', "-", *command]
        done = subprocess.run(command, env=kept | own | environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said = [json.loads(line) for line in done.stdout.splitlines()]
        assert not [line for line in said if isinstance(line, str) and "\n" in line]
        return said

    return run


def test_a_model_is_downloaded_once_and_then_read_without_a_network(
    hub: Any, hub_module: Any, ask: Any, files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.repos["org/small"] = {"main": files, "v1": files | {"config.json": b"{}"}}
    first = ask(("org/small", {"load": True}), ("org/small", {}))
    needed = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert hub.names() == sorted(needed | {"tokenizer_config.json"})
    folder = Path(first[1])
    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert folder.is_relative_to(tmp_path / "home" / "hub")
    num_downloads, commit = len(hub.downloads()), hub_module.commit_of
    again = ask(("org/small", {"load": True}), ("org/small@v1", {"load": True}))
    assert again[0] == first[0] and "model_type 'None'" in again[1]
    later = hub.downloads()[num_downloads:]
    assert later and all(commit("v1") in request.path for request in later)
    hub.requests.clear()
    assert ask(("org/small", {"load": True}), HF_HUB_OFFLINE="1") == [first[0]] and not hub.requests
    nowhere = ask(("org/small", {"load": True}), ("org/other", {}), HF_ENDPOINT="http://127.0.0.1:9")
    assert nowhere[0] == first[0]
    assert nowhere[1].startswith("BundleError: no file or folder org/other exists, the hub's cache")
    assert nowhere[1].endswith("the hub cannot be reached; correct the path, or connect to the network")
    offline = ask(("org/other@v2", {}), HF_HUB_OFFLINE="1")[0]
    assert "no file or folder org/other@v2 exists" in offline and "HF_HUB_OFFLINE is set; unset it" in offline


def test_the_small_files_come_without_the_weights(hub: Any, ask: Any, files: dict[str, bytes]) -> None:
    hub.repos["org/small"] = {"main": files}
    folder = Path(ask(("org/small", {"weights": False}))[0])
    assert (folder / "tokenizer.json").exists() and "model.safetensors" not in hub.names()
    offline = ask(("org/small", {}), HF_HUB_OFFLINE="1")[0]
    assert "no file or folder org/small exists, the hub's cache" in offline


def test_a_sentence_encoder_comes_with_how_its_vectors_are_made(
    hub: Any, ask: Any, files: dict[str, bytes]
) -> None:
    said = {"modules.json": b"[]", "1_Pooling/config.json": b"{}", "sentence_bert_config.json": b"{}"}
    hub.repos["org/sentences"] = {"main": files | said | {"2_Dense/model.safetensors": b"x"}}
    folder = Path(ask(("org/sentences", {}))[0])
    assert all((folder / name).read_bytes() == content for name, content in said.items())
    assert not (folder / "2_Dense").exists()


def test_an_interrupted_download_resumes(hub: Any, ask: Any, files: dict[str, bytes]) -> None:
    """huggingface_hub writes 10 MiB at once; the incomplete last part is requested again."""
    weights = bytes(range(256)) * 2**17
    hub.repos["org/large"] = {"main": files | {"model.safetensors": weights}}
    hub.cut = "model.safetensors"
    folder = Path(ask(("org/large", {}))[0])
    assert (folder / "model.safetensors").read_bytes() == weights
    ranges = [request.range for request in hub.downloads() if request.path.endswith("/model.safetensors")]
    assert ranges == [None, f"bytes={10 * 2**20}-"]


def test_shards_and_pickles_are_downloaded_by_their_index(
    hub: Any, ask: Any, files: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "one").write_bytes(files["model.safetensors"])
    tensors, places, shards = load_file(tmp_path / "one"), {}, {}
    for number, names in enumerate((list(tensors)[::2], list(tensors)[1::2])):
        save_file({name: tensors[name] for name in names}, tmp_path / "shard")
        shards[f"part-{number}.safetensors"] = (tmp_path / "shard").read_bytes()
        places |= dict.fromkeys(names, f"part-{number}.safetensors")
    small = {name: content for name, content in files.items() if name != "model.safetensors"}
    index = {"model.safetensors.index.json": json.dumps({"weight_map": places}).encode()}
    torch.save(tensors, tmp_path / "pickle")
    pickle = {"pytorch_model.bin": (tmp_path / "pickle").read_bytes()}
    hub.repos["org/sharded"] = {"main": small | shards | index | pickle}
    hub.repos["org/pickled"] = {"main": small | pickle}
    hub.repos["org/leaving"] = {
        "main": small | {"model.safetensors.index.json": b'{"weight_map": {"a": "../../x"}}'}
    }
    hub.repos["org/lacking"] = {"main": small | index}
    hub.repos["org/one"] = {"main": files}
    said = ask(
        ("org/one", {"load": True}),
        ("org/sharded", {"load": True, "allow_pickle": True}),
        ("org/pickled", {"load": True}),
        ("org/leaving", {}),
        ("org/lacking", {"load": True}),
    )
    assert said[1] == said[0] and "pytorch_model.bin" not in hub.names()
    assert "org/pickled has its weights only as a pickle (pytorch_model.bin)" in said[2]
    assert "the shard '../../x'; allowed: the name of a file beside it" in said[3]
    assert "lacks the shard part-0.safetensors and 1 more" in said[4]
    assert ask(("org/pickled", {"load": True, "allow_pickle": True})) == [said[0]]


def test_the_token_is_sent_and_a_refusal_is_reported(
    hub: Any, hub_module: Any, ask: Any, files: dict[str, bytes]
) -> None:
    for name in ("org/gated", "org/private", "org/refused"):
        hub.repos[name] = {"main": files}
    hub.repos["org/gguf"] = {"main": {"a.gguf": b"", "README.md": b""}}
    hub.repos["org/empty"] = {"main": {"config.json": b"{}"}}
    hub.gated, hub.private, hub.refused = {"org/gated"}, {"org/private"}, {"org/refused"}
    names = ("gated", "private", "absent", "refused", "gated@v7", "gguf", "empty")
    said = ask(*((f"org/{name}", {}) for name in names))
    hidden = "exists, nor a model on the hub that you may read; check the name, or set "
    hidden += "HF_TOKEN to a token that may read it"
    for line, part in zip(
        said,
        (
            "org/gated is gated: request access on its page, then set HF_TOKEN to a token of your account",
            f"org/private {hidden}",
            f"org/absent {hidden}",
            "the hub refuses access to org/refused (403); set HF_TOKEN to a token that may read it",
            "org/gated has no revision 'v7'; give a branch, a tag or a commit that it has",
            "org/gguf has .gguf files (a.gguf); download the one that you want and give its path",
            "org/empty has no model.safetensors on the hub; name a model that has config.json and",
        ),
        strict=True,
    ):
        assert line.startswith("BundleError: ") and part in line, line
    assert not any(request.token for request in hub.requests)
    said = ask(("org/gated", {}), ("org/private", {}), HF_TOKEN=hub_module.TOKEN)
    assert all(Path(folder).is_dir() for folder in said)
    assert {request.token for request in hub.requests if request.path.count("resolve")} >= {hub_module.TOKEN}


def test_a_cache_that_cannot_be_written_is_reported(
    hub: Any, ask: Any, files: dict[str, bytes], tmp_path: Path
) -> None:
    hub.repos["org/small"] = {"main": files}
    said = ask(("org/small", {}), largest_file_bytes=2**21)[0]
    assert said.startswith("HardwareError: no space left to write") and str(tmp_path / "home") in said
    assert Path(ask(("org/small", {}))[0]).is_dir()
    (tmp_path / "file").write_text("")
    said = ask(("org/small", {}), HF_HOME=str(tmp_path / "file" / "home"))[0]
    assert said.startswith("HardwareError: cannot write") and "is a file, not a folder" in said


@pytest.mark.parametrize("name", ["org/name", "org/name@v1.0", "o-r.g/n_a-me.2@refs/pr/1", "a/b@0123abc"])
def test_names_of_the_hub(name: str) -> None:
    assert NAME.fullmatch(name)


@pytest.mark.parametrize(
    "name", ["name", "a/b/c", "/a", "a/", "../a", "./a", "a/b@", "a b/c", "a/é", "a/b@c d"]
)
def test_what_is_no_name_of_the_hub(name: str) -> None:
    assert not NAME.fullmatch(name)
    with pytest.raises(BundleError, match=r"there is no model at .*package:NAME or org/name on the hub"):
        locate(name)


def test_a_mistyped_path_is_not_a_name_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "prose").mkdir(parents=True)
    (tmp_path / "runs" / "prose" / "model").mkdir()
    assert hub_name("org/name") and hub_name("runs/pros@main") and not hub_name("runs/pros")
    for written, nearest in (
        ("runs/pros", r" \(runs is a folder; runs/pros@main names the hub\); did you mean runs/prose\?"),
        ("runs/prose/modl", r"; did you mean runs/prose/model\?"),
        ("rnus/prose/model", r"; did you mean runs/prose/model\?"),
        ("./runs/pros", r"; did you mean runs/prose\?"),
        (str(tmp_path / "runs" / "pros"), rf"; did you mean {tmp_path}/runs/prose\?"),
        ("runs/pros/", r"; did you mean runs/prose\?"),
        ("~/absent/model", "; give a bundle's"),
        ("runs/x", r" \(runs is a folder; runs/x@main names the hub\); give a bundle's"),
    ):
        with pytest.raises(BundleError, match=rf"^there is no model at {re.escape(written)}{nearest}"):
            locate(written)


def test_a_path_that_exists_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = build(family("gpt2").sized(64, 1)).eval()
    initialize(module, torch.Generator().manual_seed(0))
    save_bundle(tmp_path / "org" / "name", module)
    monkeypatch.chdir(tmp_path)
    assert locate("org/name") == Path("org/name")
    assert seedbed.load("org/name").config.num_layers == 1
