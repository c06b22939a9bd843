"""Parts that this package draws itself, with exact defect masks."""
