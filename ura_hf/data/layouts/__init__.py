"""One module a layout of folders; each has `matches(root)` and `read(root, recursive)`, and `data.reader` tries them in turn."""
