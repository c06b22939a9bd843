"""Records beside weights: what leaves the machine of them, and what is accepted as one."""

from __future__ import annotations

import json
import shlex

import pytest

from ura_hf import UserError
from ura_hf.data.records import EVALUATION, METRIC_KEYS, TRAINING, read_record, readable_record, write_record

TRAINED = {
    "images": {"fitted": 9},
    "options": {"seed": 0, "steps": 5},
    "seconds": 1.5,
    "hardware": "cpu",
    "precision": "float32",
    "date": "2026-01-01",
    "versions": {"python": "3.11", "torch": "2.7", "transformers": "5.17"},
}
FIGURES = dict.fromkeys(METRIC_KEYS, 0.5)
EVALUATED = {
    **FIGURES,
    "per_type": {"spot": dict.fromkeys(METRIC_KEYS)},
    "n_images": 8,
    "n_normal": 4,
    "n_anomalous": 4,
    "dataset": "disc",
    "date": "2026-01-01",
    "protocol": {"aupro_fpr_limit": 0.3, "network_input": 64},
    "at_threshold": {"false_alarm_rate": 0.0, "miss_rate": None},
}


@pytest.mark.parametrize(
    "found, expected",
    [
        ({"data": "/home/jane doe/acme/ring"}, {"data": "ring"}),
        ({"data": "//nas/jane doe/ring"}, {"data": "ring"}),
        ({"data": "C:\\jane doe\\acme\\ring"}, {"data": "ring"}),
        ({"more": [{"data": "~/jane doe/ring/"}]}, {"more": [{"data": "ring"}]}),
        ({"note": "read from /srv/acme/x.png, twice"}, {"note": "read from x.png, twice"}),
        (
            {
                "command": shlex.join(
                    ["uranet", "train", "--data", "/home/jane doe/acme", "--output=/srv/a b/out", "a/b", "1/2"]
                )
            },
            {"command": "uranet train --data acme --output=out a/b 1/2"},
        ),
        ({"command": "uranet train --data /home/jane/o'neil"}, {"command": "uranet train --data o'neil"}),
        (
            {"command": "uranet train '--set=backbone=\"/home/jane/x\"'"},
            {"command": "uranet train '--set=backbone=\"x\"'"},
        ),
        ({"note": '{"data": "/home/jane/x"}'}, {"note": '{"data": "x"}'}),
        ({"steps": 600, "address": "https://example.org/a/b"}, {"steps": 600, "address": "https://example.org/a/b"}),
    ],
)
def test_no_absolute_path_leaves_the_machine(tmp_path, found, expected):
    (tmp_path / TRAINING).write_text(json.dumps({**TRAINED, **found}))
    assert read_record(tmp_path, TRAINING) == {**TRAINED, **expected}


def test_names_that_are_no_text_are_written_so_that_they_are_read(tmp_path):
    write_record(tmp_path / TRAINING, TRAINED | {"near_copies": [["St\udcfcck.png", "a.png"]], "\udcff": 1})
    found = read_record(tmp_path, TRAINING)
    assert found["near_copies"] == [["St\\udcfcck.png", "a.png"]] and found["\\udcff"] == 1


def test_a_whole_record_is_read(tmp_path):
    assert read_record(tmp_path, EVALUATION) is None and readable_record(tmp_path, EVALUATION) == {}
    (tmp_path / EVALUATION).write_text(json.dumps(EVALUATED))
    assert read_record(tmp_path, EVALUATION) == readable_record(tmp_path, EVALUATION) == EVALUATED


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "not readable JSON"),
        ("[" * 100_000, "not readable JSON"),
        ("\xff", "not readable JSON"),
        ("[1]", "must hold a JSON object, but got list"),
        ("{}", "no image_auroc"),
        (json.dumps(EVALUATED | {"aupro": "high"}), "aupro must be a number from 0 to 1 or null"),
        (json.dumps(EVALUATED | {"aupro": 1.1}), "aupro must be a number from 0 to 1 or null"),
        (json.dumps(EVALUATED | {"image_auroc": 10**30}), "too large"),
        (json.dumps(EVALUATED | {"image_auroc": 10**400}), "too large"),
        (json.dumps(EVALUATED | {"n_images": 10**18}), "n_images must be a number"),
        (json.dumps(EVALUATED | {"n_images": -1}), "n_images must be a number"),
        (json.dumps(EVALUATED)[:-1] + ', "more": 1e400}', "too large"),
        (json.dumps(EVALUATED | {"dataset": "\ud800"}), "not readable JSON"),
        (json.dumps(EVALUATED | {"more": ["\udfff"]}), "not readable JSON"),
        (json.dumps(EVALUATED | {"\ud800": 1}), "not readable JSON"),
        (json.dumps(EVALUATED | {"dataset": "x" * 301}), "dataset must be a text of at most 300 characters"),
        (json.dumps(EVALUATED)[:-1] + ', "more": ' + "[" * 700 + "]" * 700 + "}", "not readable JSON"),
        (json.dumps(EVALUATED)[:-1] + " " * 2**23 + "}", "larger than 8 MiB"),
        (json.dumps(EVALUATED | {"image_ap": True}), "image_ap must be"),
        (json.dumps(EVALUATED | {"per_type": [1]}), "per_type must be an object"),
        (json.dumps(EVALUATED | {"per_type": {"spot": {"aupro": 1.0}}}), "no per_type.spot.image_auroc"),
        (json.dumps(EVALUATED | {"protocol": {"network_input": float("nan")}}), "protocol"),
        (json.dumps(EVALUATED | {"at_threshold": None}), "at_threshold must be an object"),
    ],
)
def test_a_damaged_record_is_named_or_left_out(tmp_path, text, fault):
    (tmp_path / EVALUATION).write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=fault) as caught:
        read_record(tmp_path, EVALUATION)
    assert str(tmp_path / EVALUATION) in str(caught.value)
    assert readable_record(tmp_path, EVALUATION) == {}
