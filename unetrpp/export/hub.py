"""Models on the Hugging Face Hub: a repository hf://OWNER/NAME holds an exported zip and its model card (the extra "hub").

huggingface_hub does the transfer: HF_TOKEN or `hf auth login` give the token, HF_HUB_OFFLINE=1 takes the local cache alone,
HF_ENDPOINT another server. No message holds a token.
"""

import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from unetrpp import __version__
from unetrpp.core.digest import file_digest
from unetrpp.core.errors import UserError
from unetrpp.export.card import FILE as CARD
from unetrpp.export.manifest import Manifest, checked_manifest
from unetrpp.export.model_zip import export_model
from unetrpp.model.folder import Checkpoint
from unetrpp.model.folds import Folds

FILE = "model.zip"  # in the repository, beside README.md
ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
SHA256 = re.compile("[0-9a-f]{64}")
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
README = """---
library_name: unetrpp
pipeline_tag: image-segmentation
tags:
- medical
---
    unetrpp_import {address}

"""


@dataclass(frozen=True)
class HubAddress:
    """``hf://OWNER/NAME``, or ``hf://OWNER/NAME@REVISION``: a branch, a tag or a commit; None is the main branch."""

    repository: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> "HubAddress":
        """
        >>> HubAddress.parse("hf://clinic/liver@v1")
        HubAddress(repository='clinic/liver', revision='v1')

        Raises:
            UserError: it is no such address.
        """
        found = ADDRESS.fullmatch(text)
        if found is None:
            raise UserError(f"{text} is not an address of the hub; give hf://OWNER/NAME or hf://OWNER/NAME@REVISION")
        return cls(found[1], found[2])


def fetch_model(file: str) -> Path:
    """Download the exported zip of a repository, or find it in huggingface_hub's cache, for :func:`import_model`.

    Where the cache names files by their SHA-256, as it does on systems with symbolic links, the file is compared with it;
    import_model compares every member of the zip with the hash in its manifest.

    Args:
        file: ``hf://OWNER/NAME`` or ``hf://OWNER/NAME@REVISION``.

    Returns:
        The zip in the cache, in a folder with the name of its commit.

    Raises:
        UserError: the package is missing, there is no such repository, revision or model, or the hub cannot be reached and
            the cache does not hold it.
    """
    address = HubAddress.parse(file)
    with _told(file):
        from huggingface_hub import hf_hub_download

        path = Path(hf_hub_download(address.repository, FILE, revision=address.revision))
    named = path.readlink().name if path.is_symlink() else ""
    if SHA256.fullmatch(named) and file_digest(path).hex() != named:
        raise UserError(f"{file}: {path.resolve()} does not match its hash; delete this file and import again")
    return path


def publish_model(
    model: Path | str,
    output: str,
    *,
    folds: Folds | None = None,
    checkpoint: Checkpoint = "final",
    overwrite: bool = False,
) -> str:
    """Write the zip of :func:`export_model` and its model card to a repository, as one commit.

    A repository that does not exist is made, and is private. The same call again leaves it as it is.

    Args:
        model: a model folder.
        output: ``hf://OWNER/NAME``.
        folds: as :func:`unetrpp.predict` takes them.
        checkpoint: final, best or latest; it becomes the final one of the copy.
        overwrite: make a new commit where the repository holds another model; earlier commits stay.

    Returns:
        The address of just this commit, ``hf://OWNER/NAME@COMMIT``.

    Raises:
        UserError: as :func:`export_model`; the repository holds another model, or the hub refuses.
    """
    address = HubAddress.parse(output)
    if address.revision is not None:
        raise UserError(
            f"{output}: an export makes a new revision, so none can be given; leave @{address.revision} out"
        )
    with tempfile.TemporaryDirectory() as folder, _told(output):
        from huggingface_hub import CommitOperationAdd, HfApi

        archive = export_model(model, Path(folder) / FILE, folds=folds, checkpoint=checkpoint)
        api = HfApi()
        api.create_repo(address.repository, private=True, exist_ok=True)
        if not overwrite and api.file_exists(address.repository, FILE):
            return f"{output}@{_commit_of_same_model(output, archive)}"
        files = {FILE: archive, "README.md": _readme(output, archive)}
        added = [CommitOperationAdd(name, content) for name, content in files.items()]
        commit = api.create_commit(
            address.repository, added, commit_message=f"Model, exported by unetrpp {__version__}"
        )
    return f"{output}@{commit.oid}"


def _commit_of_same_model(output: str, archive: Path) -> str:
    """
    Raises:
        UserError: the repository holds another model.
    """
    there = fetch_model(output)
    if _manifest(there) != _manifest(archive):
        raise UserError(f"{output} holds another model already; give another name, or --overwrite for a new commit")
    return there.parent.name


def _manifest(path: Path) -> Manifest | None:
    """What a zip holds; None where it is no exported model."""
    try:
        with zipfile.ZipFile(path) as archive:
            return checked_manifest(path, archive)
    except (UserError, zipfile.BadZipFile):
        return None


def _readme(output: str, archive: Path) -> bytes:
    """The model card, with the header that the hub reads."""
    with zipfile.ZipFile(archive) as members:
        return README.format(address=output).encode() + members.read(CARD)


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Errors of huggingface_hub in one sentence, without their text, which may show what was sent.

    Raises:
        UserError: the package is missing, or there was one.
    """
    try:
        from huggingface_hub import errors
    except ModuleNotFoundError as error:
        raise UserError(f'{address} needs the package huggingface_hub; pip install "unetrpp[hub]"') from error
    try:
        yield
    except errors.GatedRepoError:
        raise UserError(f"{address} is gated: accept its conditions on the hub's page, and {LOG_IN}") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"{address} does not exist, or is private; check the name, and {LOG_IN}") from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{address}: there is no such revision; give a branch, a tag or a commit after @") from None
    except errors.LocalEntryNotFoundError:
        message = "the hub cannot be reached and the cache does not hold it; check the connection and HF_HUB_OFFLINE"
        raise UserError(f"{address}: {message}") from None
    except errors.EntryNotFoundError:
        raise UserError(f"{address} holds no {FILE}; it was not written by unetrpp_export") from None
    except errors.OfflineModeIsEnabled:
        raise UserError(f"{address}: HF_HUB_OFFLINE is set, and an export needs the hub; unset it") from None
    except errors.HFValidationError:
        raise UserError(f"{address}: the hub allows no such name; give hf://OWNER/NAME") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        hint = f"; {LOG_IN}, with a token that may write there" if status in (401, 403) else "; try again later"
        raise UserError(f"{address}: the hub answered {status}{hint}") from None
    except (OSError, RuntimeError) as error:  # of the connection; an upload's error is a RuntimeError
        raise UserError(f"{address}: the transfer failed ({type(error).__name__}); try again") from None
