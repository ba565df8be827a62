"""A model by its name on the Hugging Face hub: downloaded once, then read from huggingface_hub's cache.

The library reads HF_HOME (the cache), HF_TOKEN, HF_HUB_OFFLINE and HF_ENDPOINT. A download resumes where its
connection broke; without a network, the files of a revision that were downloaded before are used.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants, errors

from seedbed.base.errors import BundleError
from seedbed.base.files import disk_error
from seedbed.hub.vectors import FILES as VECTOR_FILES
from seedbed.hub.weight_files import (
    CONFIG,
    INDEX,
    PICKLES,
    WEIGHTS,
    find_weights,
    is_index,
    only_pickles,
    shard_names,
)

# A model's files beside its weights, with those of legacy tokenizers.
SMALL_FILES = (
    *(CONFIG, "generation_config.json", "chat_template.jinja", *VECTOR_FILES),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    *("source.spm", "target.spm"),
)
# `org/name` or `org/name@revision`.
NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[^@\s]+))?", re.ASCII)
AUTHORIZED = (401, 403)


def download(model: str, *, weights: bool = True, allow_pickle: bool = False) -> Path:
    """The folder in the cache of a model on the hub, `org/name` or `org/name@revision`.

    Downloads the config, the tokenizer and, with `weights`, the safetensors; pickles if they are allowed and
    there are no safetensors. Errors: BundleError naming what was not found, not allowed or not reached.
    """
    match = NAME.fullmatch(model)
    assert match is not None, model
    repo, revision = match["repo"], match["revision"]
    with _hub_errors(repo, revision):
        folder = _snapshot(repo, revision, [*SMALL_FILES, *((WEIGHTS, INDEX) if weights else ())])
        if not weights:
            return folder
        commit = folder.name
        found = find_weights(folder)
        if found is None and allow_pickle:
            _snapshot(repo, commit, PICKLES)
            found = find_weights(folder, allow_pickle=True)
        if found is not None and is_index(found):
            _snapshot(repo, commit, sorted(set(shard_names(found).values())))
        if found is None or not (folder / CONFIG).is_file():
            raise BundleError(_missing_files(model, huggingface_hub.list_repo_files(repo, revision=commit)))
    return folder


def _snapshot(repo: str, revision: str | None, names: Sequence[str]) -> Path:
    patterns = [glob.escape(name) for name in names]
    return Path(huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=patterns))


def _missing_files(model: str, files: Sequence[str]) -> str:
    """The problem of a model on the hub that has no config or no weights that can be read."""
    ggufs = sorted(name for name in files if name.endswith(".gguf"))
    if ggufs:
        return f"{model} has .gguf files ({ggufs[0]}); download the one that you want and give its path"
    if "adapter_config.json" in files:
        return f"{model} is an adapter, which needs the model that it was trained on; give a whole model"
    pickles = [name for name in PICKLES if name in files]
    if pickles and CONFIG in files:
        return f"{model} {only_pickles(pickles[0])}"
    missing = WEIGHTS if CONFIG in files else CONFIG
    return f"{model} has no {missing} on the hub; name a model that has {CONFIG} and {WEIGHTS}"


@contextmanager
def _hub_errors(repo: str, revision: str | None) -> Iterator[None]:
    """Turn errors of the hub, the network and the disk into errors of one line."""
    model = repo if revision is None else f"{repo}@{revision}"
    try:
        yield
    except errors.GatedRepoError:
        raise BundleError(
            f"{repo} is gated: request access on its page, then set HF_TOKEN to a token of your account"
        ) from None
    except errors.RepositoryNotFoundError:
        raise BundleError(
            f"no file or folder {repo} exists, nor a model on the hub that you may read; check the name, or "
            "set HF_TOKEN to a token that may read it if it is private"
        ) from None
    except errors.RevisionNotFoundError:
        raise BundleError(
            f"{repo} has no revision {revision!r}; give a branch, a tag or a commit that it has"
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise BundleError(_unreached(model, error)) from None
    except errors.HFValidationError as error:
        raise BundleError(
            f"no file or folder {model} exists, and it is not a name on the hub: {error}"
        ) from None
    except errors.HfHubHTTPError as error:
        raise BundleError(_refused(model, error)) from None
    except errors.HTTPError as error:  # type: ignore[attr-defined]  # of its HTTP library
        raise BundleError(
            f"the download of {model} broke off ({type(error).__name__}); run the same command again: the "
            "complete files are kept"
        ) from None
    except OSError as error:
        raise disk_error(Path(constants.HF_HUB_CACHE), error.errno or 0) from error


def _refused(model: str, error: errors.HfHubHTTPError) -> str:
    status = error.response.status_code
    if status in AUTHORIZED:
        return f"the hub refuses access to {model} ({status}); set HF_TOKEN to a token that may read it"
    return f"the hub answers {status} for {model}; try again later"


def _unreached(model: str, error: Exception) -> str:
    """The problem of a model that the cache lacks, wholly or in part, while the hub is not reached."""
    cause = error.__cause__
    if isinstance(cause, errors.HfHubHTTPError):
        return _refused(model, cause)
    if isinstance(cause or error, errors.OfflineModeIsEnabled):
        why, what = "HF_HUB_OFFLINE is set", "unset it to download the model"
    else:
        why, what = "the hub cannot be reached", "correct the path, or connect to the network"
    cache = constants.HF_HUB_CACHE
    return f"no file or folder {model} exists, the hub's cache {cache} does not have it, and {why}; {what}"
