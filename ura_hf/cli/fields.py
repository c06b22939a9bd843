"""Fields of URANetConfig on the command line, for every command that takes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..model.errors import UserError

FRAMES_HELP = "of files with several pages or frames: all, first, or every-N such as every-10 (default: %(default)s)"


def read_fields(entries: Sequence[str]) -> dict[str, Any]:
    """The fields that `--set FIELD=JSON` names; a value that is no JSON is text.

    Raises:
        UserError: URANetConfig has no such field.
    """
    from ..model.configuration_uranet import URANetConfig

    known = URANetConfig.own_fields()
    fields: dict[str, Any] = {}
    for entry in entries:
        name, sign, value = entry.partition("=")
        if name not in known:
            raise UserError(
                f"--set must name a field of URANetConfig, but got {name!r}: see help(ura_hf.URANetConfig)."
            )
        if not sign:
            raise UserError(f"--set takes FIELD=JSON, but got {entry!r}: write --set {name}=VALUE.")
        try:
            fields[name] = json.loads(value)
        except json.JSONDecodeError:
            fields[name] = value
    return fields
