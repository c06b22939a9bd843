"""Files that are written whole, and what is said where they can't be."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
from safetensors import SafetensorError

from ura_hf.data.files import write, writing
from ura_hf.model.errors import UserError

FULL = r"can't be written \(no space left on the disk\): make room"


@pytest.mark.parametrize("values", [1, 1_000_000])
def test_a_full_disk_is_said(tmp_path, values):
    """The system's device that is always full; NumPy notices it while it writes or when it closes the file."""
    (tmp_path / "map.npy").symlink_to("/dev/full")
    with pytest.raises(UserError, match=FULL):
        write(tmp_path / "map.npy", lambda path: np.save(path, np.zeros(values)))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), FULL),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), FULL),
        (
            SafetensorError("Error while serializing: no such\n thing"),
            r"written \(Error while serializing: no such thing\)",
        ),
        (
            PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
            r"written \(Permission denied\): choose another place",
        ),
    ],
)
def test_why_nothing_was_written(tmp_path, error, said):
    with pytest.raises(UserError, match=said), writing(tmp_path):
        raise error
