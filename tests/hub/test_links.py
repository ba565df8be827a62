"""A symbolic link in a bundle is followed inside the folder and in the hub's cache, and nowhere else."""

import os
from pathlib import Path

import pytest
from tests.models.reference import tiny

import seedbed
from seedbed.base.arguments import path_of
from seedbed.base.errors import BundleError, UsageError
from seedbed.text.special_form import decoder_form
from seedbed.text.training import train_tokenizer

FILES = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    from dataclasses import replace

    tokenizer = train_tokenizer(["a small garden"], "bpe", vocab_size=270, special=decoder_form("<|end|>"))
    lm = seedbed.new(replace(tiny("gpt2"), vocab_size=tokenizer.vocab_size), tokenizer=tokenizer)
    lm.save(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.mark.parametrize("name", [*FILES, "chat_template.jinja"])
def test_a_link_out_of_the_folder_is_refused(name: str, bundle: Path, tmp_path: Path) -> None:
    """A link of a template to any file was read, and copied by `save`."""
    secret = tmp_path / "secret"
    secret.write_bytes((bundle / name).read_bytes() if (bundle / name).exists() else b"my secret")
    (bundle / name).unlink(missing_ok=True)
    (bundle / name).symlink_to(secret)
    with pytest.raises(BundleError, match=f"{name} is a link to .*secret, which is outside of its folder"):
        seedbed.load(bundle)


@pytest.mark.parametrize("kind", ["pipe", "device", "nothing", "folder"])
@pytest.mark.parametrize("name", [*FILES, "chat_template.jinja"])
def test_what_is_no_file_is_refused_and_not_waited_for(name: str, kind: str, bundle: Path) -> None:
    """A pipe in place of `generation_config.json` counted as none, and its settings were lost."""
    (bundle / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(bundle / name)
    elif kind == "folder":
        (bundle / name).mkdir()
    else:
        (bundle / name).symlink_to("/dev/zero" if kind == "device" else "nowhere")
    with pytest.raises(BundleError, match=f"{name} is not a regular file"):
        seedbed.load(bundle)


def test_links_inside_and_links_to_the_folder_are_followed(bundle: Path, tmp_path: Path) -> None:
    for name in FILES:
        (bundle / name).rename(bundle / f"real-{name}")
        (bundle / name).symlink_to(f"real-{name}")
    (tmp_path / "link").symlink_to(bundle)
    assert seedbed.load(tmp_path / "link").generate("a", 2, seed=1).token_ids


def test_a_snapshot_of_the_hubs_cache_is_read(bundle: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models--org--name"
    snapshot, blobs = cache / "snapshots" / "abc", cache / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in FILES:
        (bundle / name).rename(blobs / f"blob-{name}")
        (snapshot / name).symlink_to(f"../../blobs/blob-{name}")
    assert seedbed.load(snapshot).generate("a", 2, seed=1).token_ids


def test_a_name_is_one_that_a_file_system_has() -> None:
    """In bytes, and not always UTF-8."""
    latin = os.fsdecode(b"caf\xe9")
    assert path_of("model", latin) == Path(latin)
    for odd in ("a\ud800", "a\x00b", "x" * 256, "ü" * 128, "a/" * 2100):
        with pytest.raises(UsageError, match=r"has characters that no path has|give a shorter one"):
            seedbed.load(odd)
