"""The real client against the loopback Hub."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import HubServer
from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

CARD = b"---\nlicense: apache-2.0\nlibrary_name: ura_hf\ntags: [anomaly-detection]\n---\n# Ring\n"
FILES = {"README.md": CARD, "config.json": b"{}", "sub/model.safetensors": bytes(range(256)) * 200}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    with HubServer() as server:
        yield server


def contents(folder: str) -> dict[str, bytes]:
    root = Path(folder)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_an_uploaded_folder_comes_back_byte_for_byte(hub: HubServer, tmp_path: Path) -> None:
    files = {**FILES, "big.txt": b"0123456789" * 150_000, "empty": b"", "two words.txt": b"x"}
    for name, data in files.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    api = HfApi(endpoint=hub.url, token=hub.token)
    assert api.whoami()["name"] == "tester"
    assert api.create_repo("tester/ring", private=True).repo_id == "tester/ring"
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("tester/ring")
    api.create_repo("tester/ring", exist_ok=True)
    commit = api.upload_folder(repo_id="tester/ring", folder_path=tmp_path / "folder")

    assert set(hub.objects.values()) == {FILES["sub/model.safetensors"], files["big.txt"]}
    assert api.upload_folder(repo_id="tester/ring", folder_path=tmp_path / "folder").oid == commit.oid
    folder = snapshot_download("tester/ring", endpoint=hub.url, token=hub.token, cache_dir=tmp_path / "cache")
    downloaded = contents(folder)
    assert downloaded.pop(".gitattributes") and downloaded == files
    assert not api.verify_repo_checksums("tester/ring", cache_dir=tmp_path / "cache").mismatches

    api.delete_file("config.json", "tester/ring")
    assert not api.file_exists("tester/ring", "config.json")
    api.delete_repo("tester/ring")
    assert not api.repo_exists("tester/ring")


def test_listings(hub: HubServer) -> None:
    sha = hub.add_repo("tester/ring", FILES)
    hub.add_repo("tester/hidden", {}, private=True)
    hub.add_repo("other/pill", {"README.md": b""})
    api = HfApi(endpoint=hub.url, token=False)
    (found,) = api.list_models(author="tester", cardData=True)
    assert (
        found.id == "tester/ring"
        and found.card_data
        and found.card_data.license == "apache-2.0"
        and found.siblings is None
    )
    assert [model.id for model in api.list_models(search="PILL", full=True)] == ["other/pill"]
    assert [model.id for model in api.list_models(filter="anomaly-detection")] == ["tester/ring"]
    assert len(list(api.list_models(author="tester", token=hub.token))) == 2

    info = api.model_info("tester/ring", files_metadata=True)
    assert info.sha == sha and info.library_name == "ura_hf" and not info.private and not info.gated
    assert [(file.rfilename, file.size, file.lfs is not None) for file in info.siblings or ()] == [
        ("README.md", len(CARD), False),
        ("config.json", 2, False),
        ("sub/model.safetensors", 51200, True),
    ]
    assert api.list_repo_files("tester/ring") == list(FILES)
    assert [entry.path for entry in api.list_repo_tree("tester/ring")] == ["README.md", "config.json", "sub"]
    assert [entry.path for entry in api.list_repo_tree("tester/ring", "sub")] == ["sub/model.safetensors"]
    assert [entry.path for entry in api.get_paths_info("tester/ring", ["sub", "config.json", "no"])] == [
        "config.json",
        "sub",
    ]


def test_what_is_cached_costs_at_most_one_request(hub: HubServer, tmp_path: Path) -> None:
    sha = hub.add_repo("tester/ring", FILES)
    where: dict[str, Any] = {"endpoint": hub.url, "cache_dir": tmp_path}
    folder = snapshot_download("tester/ring", **where)
    assert len(hub.requests) == 2 + 2 * len(FILES)
    hub.reset()
    assert snapshot_download("tester/ring", **where) == folder
    assert hub.requests == [("GET", "/api/models/tester/ring/revision/main")]
    hub.reset()
    assert snapshot_download("tester/ring", revision=sha, **where) == folder
    assert hub.requests == []


def test_revisions(hub: HubServer, tmp_path: Path) -> None:
    first = hub.add_repo("tester/ring", FILES)
    hub.tag("tester/ring", "v1", first)
    hub.add_commit("tester/ring", {"config.json": b"[]", "more": b""}, deleted=["README.md"])
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_tag("tester/ring", tag="v2")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag("tester/ring", tag="v2")
    assert {ref.name: ref.target_commit for ref in api.list_repo_refs("tester/ring").tags}["v1"] == first
    where: dict[str, Any] = {"endpoint": hub.url, "cache_dir": tmp_path}
    assert contents(snapshot_download("tester/ring", revision="v1", **where)) == FILES
    assert set(contents(snapshot_download("tester/ring", revision="v2", **where))) == set(FILES) - {"README.md"} | {
        "more"
    }
    with pytest.raises(RevisionNotFoundError):
        snapshot_download("tester/ring", revision="v3", **where)


def test_who_may_read_and_write(hub: HubServer, tmp_path: Path) -> None:
    hub.add_repo("other/hidden", FILES, private=True)
    hub.add_repo("other/gated", FILES, gated=True)
    where: dict[str, Any] = {"endpoint": hub.url, "cache_dir": tmp_path}
    for repo, token, error, status in (
        ("other/hidden", False, RepositoryNotFoundError, 401),
        ("other/missing", False, RepositoryNotFoundError, 401),
        ("other/missing", hub.token, RepositoryNotFoundError, 404),
        ("missing", hub.token, RepositoryNotFoundError, 404),
        ("other/gated", False, GatedRepoError, 401),
        ("other/gated", hub.token, GatedRepoError, 403),
        ("other/gated", "hf_wrong", HfHubHTTPError, 401),
    ):
        for fetch in (
            lambda **options: snapshot_download(**options),
            lambda **options: hf_hub_download(filename="config.json", **options),
        ):
            with pytest.raises(error) as raised:
                fetch(repo_id=repo, token=token, **where)
            assert raised.value.response.status_code == status
    assert contents(snapshot_download("other/hidden", token=hub.token, **where)) == FILES
    hub.repos["other/gated"].granted = True
    assert contents(snapshot_download("other/gated", token=hub.token, **where)) == FILES
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("other/gated", "no.json", token=hub.token, **where)
    for token, match in ((hub.token, "403"), (False, "401")):
        with pytest.raises(HfHubHTTPError, match=match):
            HfApi(endpoint=hub.url, token=token).create_repo("other/new")
        with pytest.raises(HfHubHTTPError, match=match):
            HfApi(endpoint=hub.url, token=token).upload_file(
                path_or_fileobj=b"", path_in_repo="x", repo_id="other/gated"
            )


def test_bad_front_matter_is_refused(hub: HubServer) -> None:
    hub.add_repo("tester/ring", {})
    with pytest.raises(ValueError, match="Invalid metadata"):
        HfApi(endpoint=hub.url, token=hub.token).upload_file(
            path_or_fileobj=b"---\na: [\n---\n", path_in_repo="README.md", repo_id="tester/ring"
        )


def test_a_cut_download_is_resumed(hub: HubServer, tmp_path: Path) -> None:
    hub.add_repo("tester/ring", FILES)
    where: dict[str, Any] = {"endpoint": hub.url, "cache_dir": tmp_path, "filename": "sub/model.safetensors"}
    hub.cut_after = 10_500  # of which the client keeps whole chunks
    path = Path(hf_hub_download("tester/ring", **where))
    assert path.read_bytes() == FILES["sub/model.safetensors"]
    assert hub.ranges == [("/tester/ring/resolve/main/sub/model.safetensors", "bytes=10000-")]


def test_a_download_that_failed_leaves_nothing_and_succeeds_when_repeated(hub: HubServer, tmp_path: Path) -> None:
    hub.add_repo("tester/ring", FILES)
    where: dict[str, Any] = {"endpoint": hub.url, "cache_dir": tmp_path, "filename": "sub/model.safetensors"}
    hub.cut_after = 10_500

    def fail_the_resumption() -> None:
        while hub.cut_after is not None:  # the client waits a second after the cut
            time.sleep(0.01)
        hub.fail_next = 1

    saboteur = threading.Thread(target=fail_the_resumption, daemon=True)
    saboteur.start()
    with pytest.raises(HfHubHTTPError, match="503"):
        hf_hub_download("tester/ring", **where)
    saboteur.join()
    assert not list(tmp_path.rglob("*.incomplete"))
    hub.reset()
    assert Path(hf_hub_download("tester/ring", **where)).read_bytes() == FILES["sub/model.safetensors"]
    assert hub.ranges == []


def test_the_client_does_not_notice_a_flipped_byte(hub: HubServer, tmp_path: Path) -> None:
    hub.add_repo("tester/ring", {"model.safetensors": b"weights"})
    hub.corrupt = True
    path = Path(hf_hub_download("tester/ring", "model.safetensors", endpoint=hub.url, cache_dir=tmp_path))
    assert path.read_bytes() == b"veights"
    (mismatch,) = HfApi(endpoint=hub.url).verify_repo_checksums("tester/ring", cache_dir=tmp_path).mismatches
    assert mismatch["path"] == "model.safetensors"


def test_one_failure_of_the_server(hub: HubServer, tmp_path: Path) -> None:
    hub.add_repo("tester/ring", FILES)
    where: dict[str, Any] = {"endpoint": hub.url, "cache_dir": tmp_path}
    hub.fail_next = 1
    assert Path(hf_hub_download("tester/ring", "config.json", **where)).read_bytes() == b"{}"
    hub.fail_next = 1
    with pytest.raises(LocalEntryNotFoundError, match="503"):
        snapshot_download("tester/ring", cache_dir=tmp_path / "new", endpoint=hub.url)
    assert contents(snapshot_download("tester/ring", **where)) == FILES
    hub.fail_next, hub.delay = 1, 0.2
    assert contents(snapshot_download("tester/ring", **where)) == FILES  # from the cache


def test_a_stopped_server_is_not_reached(hub: HubServer, tmp_path: Path) -> None:
    with HubServer() as server:
        server.add_repo("tester/ring", FILES)
        folder = snapshot_download("tester/ring", endpoint=server.url, cache_dir=tmp_path)
    assert snapshot_download("tester/ring", endpoint=server.url, cache_dir=tmp_path) == folder
    with pytest.raises(LocalEntryNotFoundError):
        snapshot_download("tester/ring", endpoint=server.url, cache_dir=tmp_path / "new")
