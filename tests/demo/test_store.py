"""The page's detectors: names, loading once, the least recently used leave, no server path is a name."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from conftest import HUB
from huggingface_hub import scan_cache_dir
from huggingface_hub.errors import HfHubHTTPError

from ura_hf.demo import fetched
from ura_hf.demo import store as store_module
from ura_hf.demo.store import Detectors, clean_name
from ura_hf.model.errors import UserError


@pytest.fixture
def loads(monkeypatch):
    """The folders that were loaded, in order."""
    seen = []
    load = store_module.load_detector

    def spy(folder):
        seen.append(folder)
        return load(folder)

    monkeypatch.setattr(store_module, "load_detector", spy)
    return seen


def test_names_are_added_bundled_and_local(checkpoint, tmp_path, monkeypatch):
    shutil.copytree(checkpoint, tmp_path / "uranet-local")
    monkeypatch.setenv("URA_HF_CHECKPOINTS", str(tmp_path))
    detectors = Detectors()
    assert detectors.add(checkpoint, "my part!") == "my-part"
    assert detectors.add(checkpoint, "my-part") == "my-part-2"
    assert detectors.add(checkpoint, "uranet-demo-ring") == "uranet-demo-ring-2"
    names = detectors.names()
    assert {"my-part", "my-part-2", "uranet-demo-ring", "uranet-local"} <= set(names) and len(names) == len(set(names))
    assert detectors.folder("my-part") == checkpoint and detectors.folder("uranet-local") == tmp_path / "uranet-local"
    assert {row["name"] for row in detectors.describe()} == set(names)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("Zahnra\u0308der links", "Zahnr\u00e4der-links"),
        ("螺丝/２号", "螺丝-２号"),
        ("पुर्जा: १", "पुर्जा-१"),
        ("деталь…", "деталь"),
        ("../..", ""),
        ("🙂 \u202e", ""),
        ("螺" * 100, "螺" * 60),
    ],
)
def test_names_keep_the_letters_of_every_script(checkpoint, typed, name):
    assert clean_name(typed) == name
    detectors = Detectors()
    assert detectors.folder(detectors.add(checkpoint, typed)) == checkpoint
    assert (name or "checkpoint") in detectors.names()


def test_a_detector_is_loaded_once_by_many_threads(checkpoint, loads):
    detectors = Detectors()
    name = detectors.add(checkpoint, "disc")
    found = []
    threads = [threading.Thread(target=lambda: found.append(detectors.get(name))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1 and len({id(detector) for detector in found}) == 1 and len(found) == 8


def test_nothing_is_loaded_twice_after_a_failure(checkpoint, monkeypatch):
    """One thread fails to load a checkpoint, a second one that waited loads it, and a third one comes meanwhile."""
    detectors = Detectors()
    name = detectors.add(checkpoint, "disc")
    load, loads = store_module.load_detector, []
    began, second_waits, overlap = (threading.Event() for _ in range(3))

    def slow(folder):
        loads.append(folder)
        if len(loads) == 1:
            began.set()
            assert second_waits.wait(60)
            raise UserError("not now")
        if len(loads) == 2:
            third.start()
            overlap.wait(0.5)  # for the third to come here, which it must not
        else:
            overlap.set()
        return load(folder)

    def get():
        try:
            found.append(detectors.get(name))
        except UserError as error:
            found.append(error)

    def take_turn(*arguments):
        turn = turns(*arguments)
        if loads:
            second_waits.set()
        return turn

    monkeypatch.setattr(store_module, "load_detector", slow)
    turns = detectors._loading.setdefault
    monkeypatch.setattr(detectors._loading, "setdefault", take_turn)
    found = []
    first, second, third = (threading.Thread(target=get) for _ in range(3))
    first.start()
    assert began.wait(60)
    second.start()
    for thread in (first, second):
        thread.join()
    third.join()
    assert len(loads) == 2 and not overlap.is_set()
    assert str(found[0]) == "not now" and found[1] is found[2]


def test_the_least_recently_used_leaves(checkpoint, tmp_path, loads):
    detectors = Detectors(in_memory=2)
    folders = [Path(shutil.copytree(checkpoint, tmp_path / name)) for name in "abc"]
    first, second, third = (detectors.add(folder, folder.name) for folder in folders)
    kept = detectors.get(first)
    detectors.get(second)
    assert detectors.get(first) is kept
    detectors.get(third)  # b leaves
    assert detectors.get(first) is kept and len(loads) == 3
    detectors.get(second)
    assert len(loads) == 4


def test_a_server_path_is_no_name(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(checkpoint, tmp_path / "you" / "uranet-x")
    detectors = Detectors()
    for name in (str(checkpoint), "you/uranet-x", "../x", "", None, "."):
        with pytest.raises(UserError, match=r"name|checkpoint"):
            detectors.get(name)
    assert detectors.names() == Detectors().names()


def test_an_incomplete_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a checkpoint folder"):
        Detectors().add(tmp_path, "empty")


@pytest.fixture
def on_the_hub(checkpoint):
    """Puts the checkpoint on the Hub under a name, with other files beside or in place of its own; returns its bytes."""

    def put(name, more=None, **options):
        files = {file.name: file.read_bytes() for file in checkpoint.iterdir() if file.is_file()} | (more or {})
        HUB.add_repo(name, files, **options)
        return sum(len(data) for data in files.values())

    return put


def test_from_the_hub(on_the_hub, monkeypatch):
    """A name on the Hub works without a folder, is listed from then on, and is refused where its files are too large."""
    on_the_hub("you/uranet-disc")
    detectors = Detectors()
    assert detectors.get("you/uranet-disc").model.config.image_size == 64
    assert "you/uranet-disc" in detectors.names() and "Intended use" in detectors.card("you/uranet-disc")
    monkeypatch.setattr(fetched, "MAX_DOWNLOAD", 1000)
    with pytest.raises(UserError, match="GiB"):
        Detectors().get("you/uranet-disc")
    with pytest.raises(UserError, match="no checkpoint you/uranet-other"):
        detectors.get("you/uranet-other")


def test_shards_count_when_the_size_is_asked(on_the_hub, monkeypatch):
    monkeypatch.setattr(
        fetched, "MAX_DOWNLOAD", on_the_hub("you/uranet-shards", {"x/model-00001-of-00001.safetensors": b""})
    )
    Detectors(public=True).folder("you/uranet-shards")
    on_the_hub("you/uranet-shards", {"x/model-00001-of-00001.safetensors": bytes(1 << 20)})
    with pytest.raises(UserError, match="GiB"):
        Detectors(public=True).folder("you/uranet-shards")


@pytest.mark.parametrize("bound", ["count", "bytes"])
def test_what_the_hub_fills_the_disk_with_is_bounded(on_the_hub, bound):
    """On a public page: the least recently used leave, from the disk too; whoever asks for one again gets it again."""
    sizes = [on_the_hub(f"you/uranet-{name}") for name in "abcd"]
    limits = {"kept": 2} if bound == "count" else {"kept_bytes": int(2.5 * sizes[0])}
    hub = fetched.Fetched(public=True, **limits)
    detectors = Detectors(public=True, hub=hub)
    folders = {name: detectors.folder(f"you/uranet-{name}") for name in "ab"}
    assert detectors.folder("you/uranet-a") == folders["a"]
    folders["c"] = detectors.folder("you/uranet-c")
    assert [name for name in detectors.names() if "/" in name] == ["you/uranet-c", "you/uranet-a"]
    assert {name: folder.is_dir() for name, folder in folders.items()} == {"a": True, "b": False, "c": True}
    assert scan_cache_dir(hub.cache).size_on_disk <= 2.5 * sizes[0]
    assert {row["name"] for row in detectors.describe()} == set(detectors.names())
    assert detectors.get("you/uranet-b").model.config.image_size == 64 and not folders["a"].is_dir()


@pytest.mark.parametrize("status", ["503", "429", "no answer"])
def test_what_the_hub_does_not_measure_is_not_fetched(on_the_hub, monkeypatch, status):
    """On a public page, whose disk it may fill."""
    on_the_hub("you/uranet-unmeasured")
    hub = fetched.Fetched(public=True)
    ask = fetched.HfApi.model_info

    def fails(*arguments, **options):
        if not options.get("files_metadata"):
            return ask(*arguments, **options)
        if status == "no answer":
            raise TimeoutError("timed out")
        response = httpx.Response(int(status), request=httpx.Request("GET", "http://hub"))
        raise HfHubHTTPError("not now", response=response)

    monkeypatch.setattr(fetched.HfApi, "model_info", fails)
    with pytest.raises(UserError, match="could not be fetched"):
        hub.folder("you/uranet-unmeasured")
    assert not list(hub.cache.iterdir()) and not hub.folders()
    assert fetched.Fetched().folder("you/uranet-unmeasured").is_dir(), "on a page of one's own"

    def unsized(*arguments, **options):
        info = ask(*arguments, **options)
        for file in info.siblings:
            file.size = None
        return info

    monkeypatch.setattr(fetched.HfApi, "model_info", unsized)
    with pytest.raises(UserError, match="does not tell how large"):
        hub.folder("you/uranet-unmeasured")
    monkeypatch.setattr(fetched.HfApi, "model_info", ask)
    assert hub.folder("you/uranet-unmeasured").is_dir()


def test_a_huge_config_is_not_fetched(on_the_hub):
    on_the_hub("you/uranet-padded", {"config.json": b"{}" + b" " * 2**23})
    with pytest.raises(UserError, match=r"config\.json of you/uranet-padded is larger than 8 MiB"):
        Detectors().folder("you/uranet-padded")


def test_what_could_not_be_used_leaves_the_disk(on_the_hub):
    HUB.add_repo("you/uranet-half", {"config.json": b"{}", "model.safetensors": bytes(1000)})
    hub = fetched.Fetched(public=True)
    with pytest.raises(UserError, match=r"preprocessor_config\.json"):
        hub.folder("you/uranet-half")
    assert not scan_cache_dir(hub.cache).repos and not hub.folders()


def test_a_public_page_asks_the_hub_as_nobody(on_the_hub, monkeypatch):
    on_the_hub("you/uranet-secret", private=True)
    monkeypatch.setenv("HF_TOKEN", HUB.token)
    assert Detectors().folder("you/uranet-secret").is_dir()
    with pytest.raises(UserError, match="not there, or private"):
        Detectors(public=True).folder("you/uranet-secret")


def test_what_a_visitor_adds_is_private_on_a_public_page(checkpoint, tmp_path):
    ours, mine, yours = (Path(shutil.copytree(checkpoint, tmp_path / name)) for name in ("ours", "mine", "yours"))
    detectors = Detectors(public=True)
    assert detectors.add(ours, "ours") == "ours"
    assert detectors.add(mine, "part", "me") == "part" == detectors.add(yours, "part", "you")
    assert detectors.add(mine, "ours", "me") == "ours-2"
    assert detectors.folder("part", "me") == mine and detectors.folder("part", "you") == yours
    assert detectors.get("part", "me") is not detectors.get("part", "you")
    assert {"ours", "part", "ours-2"} <= set(detectors.names("me"))
    for session in (None, "another"):
        assert {"ours", "part", "ours-2"} & set(detectors.names(session)) == {"ours"}
        assert [row["name"] for row in detectors.describe(session)] == detectors.names(session)
        for use in (detectors.folder, detectors.get, detectors.card):
            with pytest.raises(UserError, match="no checkpoint part"):
                use("part", session)
    shared = Detectors()
    assert shared.add(mine, "part", "me") in shared.names("you") and shared.folder("part") == mine


def test_what_a_visitor_adds_leaves_a_public_page(checkpoint, tmp_path, monkeypatch):
    """After a while, or as soon as there are too many; never what the page began with."""
    monkeypatch.setattr(store_module, "MAX_TAUGHT", 2)
    folders = [Path(shutil.copytree(checkpoint, tmp_path / str(index))) for index in range(5)]
    detectors = Detectors(public=True, keep_seconds=0.01)
    detectors.add(folders[0], "ours")
    detectors.add(folders[1], "mine", "me")
    deadline = time.monotonic() + 60
    while folders[1].exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not folders[1].exists() and "mine" not in detectors.names("me")
    detectors = Detectors(public=True)
    for index in (2, 3, 4):
        detectors.add(folders[index], str(index), f"visitor {index}")
    assert [folder.exists() for folder in folders] == [True, False, False, True, True]
    detectors = Detectors(public=True, shared=True, keep_seconds=0.0)
    detectors.add(folders[0], "ours")
    taught = [Path(shutil.copytree(checkpoint, tmp_path / f"shared {index}")) for index in range(3)]
    names = [detectors.add(folder, folder.name, "visitor") for folder in taught]
    assert [folder.exists() for folder in (folders[0], *taught)] == [True, False, True, True]
    assert {"ours", *names} & set(detectors.names("another")) == {"ours", *names[1:]}


def test_an_old_timer_removes_no_new_checkpoint_of_the_same_name(checkpoint, tmp_path, monkeypatch):
    """One that left early, since there were too many, and whose name another one has got."""
    timers = []

    class Timer:
        def __init__(self, seconds, function, arguments):
            self.ring, self.cancelled = lambda: function(*arguments), False
            timers.append(self)

        def start(self):
            pass

        def cancel(self):
            self.cancelled = True

    monkeypatch.setattr(store_module, "threading", SimpleNamespace(Timer=Timer, Lock=threading.Lock))
    monkeypatch.setattr(store_module, "MAX_TAUGHT", 1)
    old, other, new = (Path(shutil.copytree(checkpoint, tmp_path / name)) for name in ("old", "other", "new"))
    detectors = Detectors(public=True)
    detectors.add(old, "part", "me")
    detectors.add(other, "part", "you")
    assert detectors.add(new, "part", "me") == "part"
    timers[0].ring()  # as if it had rung while it was cancelled
    assert detectors.folder("part", "me") == new and new.is_dir() and not old.exists()
    assert [timer.cancelled for timer in timers] == [True, True, False]
    timers[2].ring()
    assert "part" not in detectors.names("me") and not new.exists()


@pytest.mark.parametrize("content", ["[1]", "{", '{"per_type": 3}'])
def test_a_damaged_record_is_as_none(on_the_hub, content):
    name = "you/uranet-odd"
    on_the_hub(name, {"evaluation.json": content.encode(), "training.json": content.encode()})
    detectors = Detectors(public=True)
    detectors.get(name)
    (row,) = (row for row in detectors.describe() if row["name"] == name)
    assert row["image_size"] == 64 and row["image_auroc"] is None
    assert "Intended use" in detectors.card(name)


def test_the_card_has_no_title_and_no_picture():
    card = Detectors().card("uranet-demo-ring")
    assert "image AUROC" in card and "![" not in card and not card.startswith("# ") and "---" not in card[:5]
