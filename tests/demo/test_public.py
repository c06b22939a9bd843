"""A page whose visitors are strangers to each other: who sees what was taught, and what a full queue answers."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
from browser import WAIT, launched, settles
from conftest import HUB, draw_part
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from gradio_client.utils import QueueError, Status
from PIL import Image
from playwright.sync_api import expect

from ura_hf.demo import page as page_module
from ura_hf.demo.store import Detectors
from ura_hf.demo.tabs import batch as batch_tab
from ura_hf.demo.tabs import teach as teach_tab
from ura_hf.model.errors import UserError
from ura_hf.training.photo_checks import PhotoReport
from ura_hf.training.teaching import FalseAlarms, Taught


@pytest.fixture(scope="module")
def demo(checkpoint):
    """A public page on which a training takes no time; few events may wait for their turn."""

    def teach(photos, folder, progress, pictures):
        shutil.copytree(checkpoint, folder)
        record = json.loads((folder / "training.json").read_text()) | {"losses": [], "most_unusual": []}
        return Taught(folder, record, FalseAlarms.of(4, 0.05))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teach_tab, "teach_part", teach)
        patch.setattr(teach_tab, "check_photos", lambda files, _: PhotoReport(len(files), [*range(len(files))], []))
        patch.setattr(page_module, "MAX_WAITING", 2)
        store = Detectors(public=True)
        with launched(store, store.add(checkpoint, "disc")) as blocks:
            yield blocks


@pytest.fixture
def client(demo):
    """Makes a client, which is a session of its own."""
    return lambda **options: Client(demo.local_url, verbose=False, **options)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{seed}.png" for seed in range(10)]
    for seed, path in enumerate(paths):
        Image.fromarray(draw_part(seed)[0]).save(path)
    return paths


def names(client: Client) -> set[str]:
    return {row["name"] for row in client.predict(api_name="/checkpoints")}


def test_what_is_taught_is_its_visitors_alone(client, photos, category, tmp_path):
    mine, yours, agent = client(), client(), client(headers={"x-gradio-user": "mcp"})
    files = [handle_file(str(path)) for path in photos]
    report, _, _, words, *_ = mine.predict(files, "part", [], api_name="/teach")
    assert report["name"] == "part" and "Only you can use it here, for 60 minutes" in words
    assert "part" in names(mine) and not {"part"} & (names(yours) | names(agent))
    zipped = shutil.make_archive(str(tmp_path / "disc"), "zip", category.parent, category.name)
    calls = {
        "/detect": (files[0], "part", 0.5),
        "/batch": (files[:1], "part"),
        "/evaluate": ("Your own, as a zip", handle_file(zipped), "disc", "part"),
    }
    for endpoint, arguments in calls.items():
        mine.predict(*arguments, api_name=endpoint)
        with pytest.raises(AppError, match="no checkpoint part"):
            yours.predict(*arguments, api_name=endpoint)
    assert yours.predict(files, "part", [], api_name="/teach")[0]["name"] == "part"
    assert agent.predict(files, "part", [], api_name="/teach")[0]["name"] == "part"
    assert "part" in names(yours) and "part" not in names(agent), "agents share one client, and so one session"


def test_a_visitor_of_the_page_uses_it_in_all_tabs(browse, demo, photos, client):
    with browse(demo.local_url) as page:
        page.get_by_role("tab", name="Teach", exact=True).click()
        page.locator("#teach-files input[type=file]").set_input_files(photos)
        page.locator("#teach-name input, #teach-name textarea").fill("mine")
        expect(page.locator("#teach-status")).to_contain_text("10 photos", timeout=WAIT)
        page.locator("#teach-start").click()
        expect(page.locator("#teach-status")).to_contain_text("Only you can use it here", timeout=WAIT)
        expect(page.locator("#checkpoint input")).to_have_value("mine", timeout=WAIT)
        page.get_by_text("About this checkpoint").click()
        expect(page.locator("#card")).to_contain_text("Intended use", timeout=WAIT)
        page.get_by_role("tab", name="Detect", exact=True).click()
        page.locator("#image input[type=file]").set_input_files(photos[0])
        expect(page.locator("#verdict .verdict-score")).to_be_visible(timeout=WAIT)
        page.get_by_role("tab", name="Batch", exact=True).click()
        page.locator("#batch-files input[type=file]").set_input_files(photos[:2])
        page.locator("#batch-start").click()
        expect(page.locator("#batch-status")).to_contain_text("Checked with mine", timeout=WAIT)
        page.get_by_role("tab", name="Compare", exact=True).click()
        page.locator("#compare-second input").click()
        expect(page.locator("#compare-second").get_by_role("option", name="mine")).to_be_visible()
        assert "mine" not in names(client())
        page.reload()
        page.locator("#checkpoint input").click()
        expect(page.get_by_role("option", name="disc")).to_be_visible()
        expect(page.get_by_role("option", name="mine")).to_have_count(0)


@pytest.mark.parametrize("content", ["[1]", "{"])
def test_a_damaged_record_on_the_hub_breaks_nothing(browse, demo, checkpoint, client, content):
    """Neither the list of checkpoints, for anyone, nor the card of its own."""
    name = f"you/uranet-odd-{len(content)}"
    files = {file.name: file.read_bytes() for file in checkpoint.iterdir() if file.is_file()}
    HUB.add_repo(name, files | {"evaluation.json": content.encode()})
    with browse(demo.local_url) as page:
        page.locator("#checkpoint input").fill(name)
        page.locator("#checkpoint input").press("Enter")
        page.get_by_text("About this checkpoint").click()
        expect(page.locator("#card")).to_contain_text("Intended use", timeout=WAIT)
    found = {row["name"]: row for row in client().predict(api_name="/checkpoints")}
    assert found[name]["image_auroc"] is None and found[name]["loaded"] and found["disc"]["image_size"] == 64


EVIL = [
    *("\ud800", "x" * 10**5, 10**30, 10**400, 1e308, float("inf"), float("nan"), -1, True),
    *(None, [[1]], {"\ud800": "\ud800"}),
]
CONFIG_FIELDS = [
    "backbone",
    "image_size",
    "image_threshold",
    "residuals",
    "out_indices",
    "num_labels",
    "id2label",
    "dtype",
    "architectures",
]
FIGURE_FIELDS = ["image_auroc", "pixel_auroc", "per_type", "n_images", "dataset", "at_threshold", "more"]


@pytest.fixture(scope="module")
def evil_address(evaluated):
    """A public page with checkpoints any field of which may hold anything."""
    store = Detectors(public=True)
    with launched(store, store.add(evaluated, "whole")) as blocks:
        yield blocks.local_url, store


@pytest.mark.parametrize("value", EVIL, ids=lambda value: ascii(value)[:12])
def test_no_value_in_a_file_of_a_checkpoint_breaks_the_list(evil_address, evaluated, tmp_path, value):
    """And whoever opens such a checkpoint gets its card and detector, or one sentence."""
    address, store = evil_address
    visitor = Client(address, verbose=False)
    fields = [("config.json", field) for field in CONFIG_FIELDS]
    fields += [("evaluation.json", field) for field in FIGURE_FIELDS] + [("training.json", "seconds")]
    added = {}
    for file, field in fields:
        folder = Path(shutil.copytree(evaluated, tmp_path / f"{file}-{field}"))
        (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | {field: value}))
        added[store.add(folder, folder.name, visitor.session_hash)] = folder
    rows = {row["name"]: row for row in visitor.predict(api_name="/checkpoints")}
    assert rows["whole"]["image_size"] == 64 and rows["whole"]["image_auroc"] is not None
    for name, folder in added.items():
        row = rows[name]
        assert row["image_size"] in (None, 64) and row["backbone"] in (None, rows["whole"]["backbone"])
        assert all(row[key] is None or 0 <= row[key] <= 1 for key in ("image_auroc", "pixel_auroc"))
        for use in (store.card, store.get) if folder.name.startswith("config") else (store.card,):
            try:
                said = use(name, visitor.session_hash)
                assert not isinstance(said, str) or said.encode()
            except UserError:
                assert folder.name.startswith("config")


def test_a_full_queue_says_so(browse, demo, photos, client, monkeypatch):
    go_on, begun, check = threading.Event(), threading.Event(), batch_tab.predict_batch

    def slow(*arguments):
        begun.set()
        assert go_on.wait(WAIT / 1000)
        return check(*arguments)

    monkeypatch.setattr(batch_tab, "predict_batch", slow)
    visitor, file = client(), [handle_file(str(photos[0]))]
    with browse(demo.local_url) as page:
        page.get_by_role("tab", name="Batch", exact=True).click()
        page.locator("#batch-files input[type=file]").set_input_files(photos[:2])
        expect(page.locator("#batch-files")).to_contain_text("1", timeout=WAIT)
        waiting = [visitor.submit(file, "disc", api_name="/batch") for _ in range(3)]
        assert begun.wait(WAIT / 1000) and settles(page, lambda: len(demo._queue) == 2)
        with pytest.raises(QueueError, match="Queue is full"):
            client().predict(file, "disc", api_name="/batch")
        page.locator("#batch-start").click()
        expect(page.get_by_text("currently busy. Please try again")).to_be_visible(timeout=WAIT)
        expect(page.locator("#batch-start")).to_be_visible()
        expect(page.locator("#batch-status")).to_contain_text("Nothing checked yet")
        go_on.set()
        assert all(job.result(timeout=WAIT / 1000)[0]["images"] == 1 for job in waiting)
        assert {job.status().code for job in waiting} == {Status.FINISHED}
        page.locator("#batch-start").click()
        expect(page.locator("#batch-status")).to_contain_text("Checked with disc", timeout=WAIT)
